"""Changes to the logs and files of a valid folder, each with the reason if it makes nothing untrue; and all changes."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from challenge_folders import Numbers
from claim_mutations import (
    LONGER,
    Draw,
    Reason,
    break_json,
    change_number,
    change_results,
    drop_field,
    drop_seed,
    permute,
    replace_field,
)
from hypothesis import strategies as st

# Whether another number after these words must be refused.
PROVEN = (
    re.compile(r"^\s*seed: ?(\d+)$"),
    re.compile(r"^Code size: (\d+) bytes"),
    re.compile(r"^Serialized model \S+: (\d+) bytes"),
    re.compile(r"^Total submission size \S+: (\d+) bytes"),
    re.compile(r"^(?:final_int6_sliding_window_exact|quantized_sliding_window) val_loss:([\d.]+)"),
    re.compile(r"^(?:final_int6_sliding_window_exact|quantized_sliding_window) .*val_bpb:([\d.]+)"),
    re.compile(r"^stopping_early: .*step: ?(\d+)/"),
)
TIMES = (
    re.compile(r"^stopping_early: .*train_time: ?(\d+)ms"),
    re.compile(r"^(?:final_int6_sliding_window|quantized_sliding_window) .*eval_time:(\d+)ms"),
)


def swap_digit(folder: Path, draw: Draw) -> Reason:
    """Another digit anywhere in a log."""
    path = draw(st.sampled_from(sorted(folder.glob("*.log"))))
    lines = path.read_text().split("\n")
    places = [(n, i) for n, line in enumerate(lines) for i, letter in enumerate(line) if letter.isdigit()]
    number, index = draw(st.sampled_from(places))
    old = lines[number]
    digit = str((int(old[index]) + draw(st.integers(1, 9))) % 10)
    lines[number] = old[:index] + digit + old[index + 1 :]
    path.write_text("\n".join(lines))
    return digit_reason(old, lines[number], index)


def digit_reason(old: str, new: str, index: int) -> Reason:
    """Why another digit may pass: by what its line says."""
    for pattern in (*PROVEN, *TIMES):
        match = pattern.search(old)
        if match is None or not match.start(1) <= index < match.end(1):
            continue
        if pattern in PROVEN:
            return None
        before, after = int(match[1]), int(new[match.start(1) : match.end(1)])
        return LONGER if after <= before + 1 else None
    return "no claim rests on it: other scores, warm-up, steps on the way, sizes before quantization, shards"


def drop_line(folder: Path, draw: Draw) -> Reason:
    """A line of a log left out."""
    path = draw(st.sampled_from(sorted(folder.glob("*.log"))))
    lines = path.read_text().split("\n")
    index = draw(st.integers(0, len(lines) - 2))
    dropped = lines.pop(index)
    path.write_text("\n".join(lines))
    if dropped.startswith("quantized_sliding_window"):
        return None
    if dropped.startswith("final_int6_sliding_window "):
        return None  # the only line with its time
    if dropped.startswith("stopping_early") and path.name in late_names(folder):
        return None  # the only line with the time of training
    return "another line, the file's name or the file that lies there gives it still, to fewer digits perhaps"


def late_names(folder: Path) -> set[str]:
    """Logs in the later form."""
    return {path.name for path in folder.glob("*.log") if "Hyperparameters" in path.read_text()}


def exchange_logs(folder: Path, draw: Draw) -> Reason:
    """Two logs under each other's names, or one under both."""
    first, second = draw(st.permutations(sorted(folder.glob("*.log"))))[:2]
    texts = first.read_text(), second.read_text()
    first.write_text(texts[1])
    if draw(st.booleans()):
        second.write_text(texts[0])
    return None


# ---- files


def remove_file(folder: Path, draw: Draw) -> Reason:
    """A file less."""
    draw(st.sampled_from(sorted(path for path in folder.iterdir() if path.is_file()))).unlink()
    return None


def rename_file(folder: Path, draw: Draw) -> Reason:
    """A file under another name."""
    path = draw(st.sampled_from(sorted(path for path in folder.iterdir() if path.is_file())))
    if path.suffix == ".log":
        seed = re.sub(r"\D", "", path.stem)
        same = draw(st.sampled_from([f"seed{seed}.log", f"train_seed_{seed}.log", f"log_seed{seed}.txt"]))
        other = "train_seed99.log"
        name = draw(st.sampled_from([same, other]))
        path.rename(folder / name)
        return "a log may have any of these names" if name == same else None
    path.rename(path.with_name(f"old_{path.name}"))
    return None


def change_code(folder: Path, draw: Draw) -> Reason:
    """More or less code than was counted."""
    path = folder / "train_gpt.py"
    data = path.read_bytes()
    extra = draw(st.binary(min_size=1, max_size=50))
    path.write_bytes(draw(st.sampled_from([data + extra, data[: -len(extra)], extra + data, b""])))
    return None


def empty_file(folder: Path, draw: Draw) -> Reason:
    """A file without contents."""
    draw(st.sampled_from(sorted(path for path in folder.iterdir() if path.is_file()))).write_bytes(b"")
    return None


def add_file(folder: Path, draw: Draw) -> Reason:
    """A file more."""
    name = draw(st.sampled_from(["notes.txt", "run.sh", "results.csv", "requirements.txt", "a/b.md"]))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("seed: 3\nmore words\n")
    return "a folder may hold more"


def change_weights(folder: Path, draw: Draw) -> Reason:
    """Weights beside the script that no log counted."""
    name = draw(st.sampled_from(["final_model.int6.ptz", "weights_seed42.bin", "model.bin"]))
    (folder / name).write_bytes(bytes(draw(st.integers(0, 100))))
    return None


def copy_log(folder: Path, draw: Draw) -> Reason:
    """A run more than is claimed: a reviewer is told, for it may be one that was left out."""
    path = draw(st.sampled_from(sorted(folder.glob("*.log"))))
    text = re.sub(r"(?m)^(\s*seed: ?)\d+$", r"\g<1>99", path.read_text())
    shutil.copy(path, folder / "train_seed99.log")
    (folder / "train_seed99.log").write_text(text)
    return "more runs than claimed: a reviewer is told"


# With the number of examples that finds what a kind of change can break.
MUTATIONS: dict[str, tuple[Callable[[Path, Draw], Reason], int]] = {
    **{one.__name__: (one, 12) for one in (drop_field, replace_field, drop_seed, change_results, permute, break_json)},
    **{one.__name__: (one, 12) for one in (exchange_logs, copy_log, remove_file, rename_file, change_code)},
    **{one.__name__: (one, 12) for one in (empty_file, add_file, change_weights)},
    **{one.__name__: (one, 50) for one in (change_number, drop_line)},
    swap_digit.__name__: (swap_digit, 80),
}
# Last digits that are not 0, so that no number shows fewer digits than the log's.
RUNS = [
    Numbers(seed=1337, val_bpb="1.13261234", val_loss="1.91234567", weights=15_800_001, train_ms=600_033),
    Numbers(seed=42, val_bpb="1.13301111", val_loss="1.91301111", weights=15_812_345, steps=7013, train_ms=600_031),
    Numbers(seed=7, val_bpb="1.13222226", val_loss="1.91172222", weights=15_790_004, steps=6998, train_ms=600_029),
]
