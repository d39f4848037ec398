"""Changes to a valid folder of the challenge, each with the reason if it makes nothing untrue."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from challenge_folders import Numbers
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
# Why a changed folder may be valid; None where it must be refused.
Reason = str | None

DESCRIPTIVE = {"author", "github_id", "name"}  # who and what: any text may be true
UNCLAIMED = "what is not claimed need not be true"
ROUNDED = "it is the true number rounded to the digits it shows"
LONGER = "a run may claim that it took longer, within the limits"
VALUES = st.sampled_from([None, True, "text", "", [], {}, -1, 0, 3, 10**9, 3.5, [1], {"a": 1}, "2026-13-01"])


def change_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit submission.json."""
    path = folder / "submission.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=2))


def decimals(value: float) -> int:
    """How many a number shows in JSON; no fewer than a score must."""
    return max(3, len(str(value).partition(".")[2])) if "e" not in str(value) else 20


# ---- submission.json


def drop_field(folder: Path, draw: Draw) -> Reason:
    """Leave a field out; author, date and score must be there."""
    values = json.loads((folder / "submission.json").read_text())
    key = draw(st.sampled_from(sorted(values)))
    change_json(folder, lambda one: one.pop(key))
    return None if key in {*DESCRIPTIVE, "date", "val_bpb"} else UNCLAIMED


def replace_field(folder: Path, draw: Draw) -> Reason:
    """Give a field a value of any type."""
    values = json.loads((folder / "submission.json").read_text())
    key, value = draw(st.sampled_from(sorted(values))), draw(VALUES)
    change_json(folder, lambda one: one.update({key: value}))
    if key in {*DESCRIPTIVE, "track"} and isinstance(value, str) and value:
        return "any text may be true; an unknown track has the limits of the record track"
    if key == "track" and value == "":
        return "an empty track names none: the limits of the record track hold"
    if value is None and key in {"val_loss", "val_bpb_std", "bytes_total", "bytes_code"}:
        return UNCLAIMED
    if key == "seed_results" and value in ([], {}):
        return None
    if key == "compliance":
        return "a list of compliance without a known promise promises nothing" if value not in OTHER_TYPES else None
    return None


OTHER_TYPES: list[Any] = [None, True, -1, 0, 3, 10**9, 3.5]


def numbers_of(values: dict[str, Any]) -> list[tuple[str, ...]]:
    """Where submission.json holds numbers: key, or key, seed and inner key."""
    found: list[tuple[str, ...]] = [(key,) for key, one in values.items() if isinstance(one, int | float)]
    for seed, entry in values["seed_results"].items():
        found += [("seed_results", seed, key) for key in entry]
    return found


def change_number(folder: Path, draw: Draw) -> Reason:
    """Make a number of submission.json another."""
    values = json.loads((folder / "submission.json").read_text())
    *path, key = draw(st.sampled_from(numbers_of(values)))
    place = values
    for step in path:
        place = place[step]
    old = place[key]
    new = altered(old, draw)
    place[key] = new
    (folder / "submission.json").write_text(json.dumps(values, indent=2))
    return number_reason(values, tuple(path), key, old, new)


def altered(old: float, draw: Draw) -> float:
    """Another number: off by a little or a lot, or with a digit swapped."""
    kind = draw(st.sampled_from(["digit", "scale", "add", "round"]))
    if kind == "digit":
        text = str(old)
        places = [index for index, letter in enumerate(text) if letter.isdigit()]
        index = draw(st.sampled_from(places))
        text = text[:index] + str((int(text[index]) + draw(st.integers(1, 9))) % 10) + text[index + 1 :]
        return json.loads(text.lstrip("0") if text.lstrip("0")[:1].isdigit() else "0" + text.lstrip("0"))
    if kind == "round":
        return round(old, draw(st.integers(0, 7)))
    change = draw(st.sampled_from([1e-7, 1e-5, 1e-3, 0.01, 0.5, 3.0]))
    new = old * (1 + change) if kind == "scale" else old - change
    return round(new) if isinstance(old, int) else new


def number_reason(values: dict[str, Any], path: tuple[str, ...], key: str, old: float, new: float) -> Reason:
    """Why a changed number may pass."""
    if new == old:
        return "it is the same number"
    if key in {"val_bpb", "val_loss"}:
        # A mean of rounded scores may be off by one in its last place.
        places = 1.0 if not path else 0.5
        return ROUNDED if abs(new - old) <= places * 10.0 ** -decimals(new) + 1.1e-8 * places else None
    if key == "val_bpb_std":
        is_near = abs(new - old) <= 0.06 * old and decimals(new) <= 6
        is_rounded = abs(new - old) <= min(0.51 * 10.0 ** -decimals(new), 1e-4) + 1.1e-8
        return "rounded by hand: a reviewer is told" if is_near or is_rounded else None
    if key in {"train_time_s", "eval_time_s"}:
        spare = max(10.0 ** -len(str(new).partition(".")[2]), 0.001)
        return LONGER if old - spare * 1.01 <= new <= (600.15 if key == "train_time_s" else 600.0) else None
    if key == "step_avg_ms":
        return "about as long as the log says; no rule judges it" if abs(new / old - 1) <= 0.06 else None
    if key == "bytes_total":
        totals = [one["artifact_bytes"] for one in values["seed_results"].values()]
        is_other = new in totals or abs(new - sum(totals) / len(totals)) < 1
        return "bytes of another seed or their mean: a reviewer is told" if is_other else None
    return None


def drop_seed(folder: Path, draw: Draw) -> Reason:
    """Claim a seed less, or one twice, or one that never ran."""
    kind = draw(st.sampled_from(["drop", "twice", "other"]))
    seeds = json.loads((folder / "submission.json").read_text())["seeds"]
    index = draw(st.integers(0, len(seeds) - 1))
    changes = {"drop": seeds[:index] + seeds[index + 1 :], "twice": [*seeds, seeds[index]], "other": [*seeds, 99_991]}
    change_json(folder, lambda one: one.update(seeds=changes[kind]))
    return None


def change_results(folder: Path, draw: Draw) -> Reason:
    """Drop a seed's result, or give two seeds each other's."""
    values = json.loads((folder / "submission.json").read_text())
    first, second = draw(st.permutations(sorted(values["seed_results"])))[:2]
    results = values["seed_results"]
    if draw(st.booleans()):
        del results[first]
    else:
        results[first], results[second] = results[second], results[first]
    (folder / "submission.json").write_text(json.dumps(values, indent=2))
    return None


def permute(folder: Path, draw: Draw) -> Reason:
    """Another order of keys and seeds."""
    values = json.loads((folder / "submission.json").read_text())
    values["seeds"] = draw(st.permutations(values["seeds"]))
    values = {key: values[key] for key in draw(st.permutations(sorted(values)))}
    (folder / "submission.json").write_text(json.dumps(values))
    return "an order says nothing"


def break_json(folder: Path, draw: Draw) -> Reason:
    """Cut submission.json off, or write what JSON does not have."""
    path = folder / "submission.json"
    text = path.read_text()
    kind = draw(st.sampled_from(["cut", "nan", "twice"]))
    if kind == "cut":
        text = text[: draw(st.integers(0, len(text) - 2))]
    elif kind == "nan":
        text = re.sub(r'("val_bpb": )[\d.]+', r"\1NaN", text, count=1)
    else:
        text = text.replace("{", '{"val_bpb": 1.0,', 1)
    path.write_text(text)
    return None


# ---- logs

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
