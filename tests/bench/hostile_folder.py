"""Seconds and peak memory of `caddie verify` on hostile folders: python tests/bench/hostile_folder.py [--only WORD].

Each case alone in an otherwise valid folder, at 200 MB where the case has a size, then what can lie side by side in
one, at several hundred. The promise: at most 60 s and 1 GiB each, a finding, no traceback.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile_folders import READ, REFUSED, Case
from synthetic_runs import make_claim

from search.export.folder import export
from search.verify.folder import MAX_ENTRIES

MAX_SECONDS, MAX_MIB = 60.0, 1024.0
LARGE = 200_000_000
# What is counted in files, lines or levels rather than bytes.
COUNTS = {"many files": 100_000, "log of many lines": 1_000_000, "log of empty lines": 290_000, "LZMA bomb": 2 << 30}
# Cases that are to be read stay within the limit of their file; code within that of its tokens.
WITHIN = {"log": 15_000_000, "README": 3_900_000, "requirements": 15_900_000, "JSON": 990_000, "code": 170_000}
SIDE_BY_SIDE = (
    "large weights",
    "log of many lines",
    "LZMA bomb",
    "JSON nested deep",
    "link out",
    "pipe",
    "binary code",
)


def size_of(name: str, is_read: bool) -> int:
    """How large a case is made."""
    if name in COUNTS:
        return COUNTS[name]
    if name == "many logs":
        return 10_000 * (MAX_ENTRIES - 100)
    first = name.split()[0]
    return WITHIN[first] if is_read and first in WITHIN else LARGE


def verified(folder: Path) -> tuple[float, float, float, int, str]:
    """Seconds, CPU seconds, MiB, exit code and output of one check, in a process of its own."""
    command = [sys.executable, "-c", "from search.cli import main; main()", "verify", str(folder), "--json"]
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=Path(__file__).parents[2])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        output.seek(0)
        text = output.read().decode(errors="replace")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status), text


def measure(name: str, valid: Path, cases: dict[str, tuple[Case, int]]) -> bool:
    """Build a folder, check it, print a line; whether the promise is kept."""
    with tempfile.TemporaryDirectory(prefix="caddie-hostile-") as scratch:
        folder = Path(shutil.copytree(valid, Path(scratch) / "folder"))
        for case, size in cases.values():
            # In a process of its own: the peak of this one would count as that of what it starts.
            builder = multiprocessing.get_context("fork").Process(target=case, args=(folder, size))
            builder.start()
            builder.join()
        total = sum(path.lstat().st_size for path in folder.iterdir()) / 1e6
        seconds, cpu, mib, code, text = verified(folder)
    try:
        findings = json.loads(text)
        first = f"[{findings[0]['rule']}] {findings[0]['message'][:70]}" if findings else "nothing found"
    except ValueError:
        first = f"NO FINDINGS: {text[-200:]!r}"
    is_kept = seconds <= MAX_SECONDS and mib <= MAX_MIB and code in (0, 1) and "Traceback" not in text
    word = "ok  " if is_kept else "MISS"
    print(f"{word} {name:28} {total:8.1f} MB {seconds:6.1f} s ({cpu:5.1f} of CPU) {mib:6.0f} MiB  {first}", flush=True)  # noqa: T201
    return is_kept and not first.startswith("NO")


def main() -> int:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    only = parser.parse_args().only
    all_of_them = {name: (REFUSED[name][1], size_of(name, is_read=False)) for name in SIDE_BY_SIDE}
    cases: dict[str, dict[str, tuple[Case, int]]] = {"side by side": all_of_them}
    for name, (_, case) in REFUSED.items():
        cases[name] = {name: (case, size_of(name, is_read=False))}
    for name, case in READ.items():
        cases[name] = {name: (case, size_of(name, is_read=True))}
    with tempfile.TemporaryDirectory() as scratch:
        valid = export(make_claim(Path(scratch)), Path(scratch) / "valid")
        kept = [measure(name, valid, made) for name, made in cases.items() if only in name]
    print(f"{sum(kept)} of {len(kept)} within {MAX_SECONDS:.0f} s and {MAX_MIB:.0f} MiB")  # noqa: T201
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
