"""Which strategy finds the best recipe with the fewest GPU-seconds? Plays all of them on the surrogate of real runs.

    make bench-search                                                    # hours; goes on where it was stopped
    PYTHONPATH=.:tests python tests/bench/strategies.py --out docs/search.md --seeds 8 --only ablations --in-flight 1
    PYTHONPATH=.:tests python tests/bench/strategies.py --out docs/search.md --report    # the page, from the table

Games are added to a table beside the page as they end, seed by seed over all strategies, so that a table cut short is
a balanced one. Several of these commands may work on one table, with different parts.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from bench.search_game import dear_seconds
from bench.search_report import charts, page
from bench.search_results import Key, Line, add_line, line_of, read_lines
from bench.search_strategies import PARTS, PLAYERS

DEAR_RUNS = 60
SEEDS = 30


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    given = parser().parse_args(arguments)
    table, about = given.out.with_suffix("") / "games.csv", given.out.with_suffix("") / "about.json"
    if not given.report:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        about.parent.mkdir(parents=True, exist_ok=True)
        about.write_text(json.dumps(surroundings(given.dear_runs), indent=1) + "\n")
        names = list(dict.fromkeys(name for part in given.only for name in PARTS[part]))
        play_all(keys(names, given.in_flight, given.seeds), given.dear_runs * dear_seconds(), table)
    write(given.out, read_lines(table), json.loads(about.read_text()))


def write(out: Path, lines: Sequence[Line], about: Mapping[str, Any]) -> None:
    """The page and its pictures, from the table and from notes that are written by hand."""
    folder = out.with_suffix("")
    notes = folder / "notes.md"
    out.write_text(page(lines, about, notes.read_text() if notes.exists() else ""))
    for name, picture in charts(lines).items():
        (folder / name).write_text(picture)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, help="the page; its table is in the folder of its name")
    made.add_argument("--seeds", type=int, default=SEEDS)
    made.add_argument("--in-flight", type=int, nargs="+", default=[1, 8])
    made.add_argument("--only", nargs="+", default=["strategies", "ablations"], choices=list(PARTS), metavar="PART")
    made.add_argument("--dear-runs", type=float, default=DEAR_RUNS, help="budget, in dear runs of average cost")
    made.add_argument("--report", action="store_true", help="play nothing")
    return made


def keys(names: Sequence[str], in_flight: Sequence[int], seeds: int) -> Iterator[Key]:
    """Games in the order in which they are played."""
    for seed in range(seeds):
        for count in in_flight:
            yield from ((name, count, seed) for name in names)


def play_all(wanted: Iterator[Key], budget: float, table: Path) -> None:
    """Play the games that a table lacks.

    Raises:
        ValueError: the table is of another budget.
    """
    lines = read_lines(table)
    if any(abs(line.budget - budget) > 1 for line in lines):
        raise ValueError(f"{table}: expected games of {budget:.1f} GPU-seconds, got {lines[0].budget}")
    finished = {line.key for line in lines}
    for key in (key for key in wanted if key not in finished):
        name, in_flight, seed = key
        started_at = time.monotonic()
        line = line_of(key, budget, PLAYERS[name](in_flight, budget, seed))
        add_line(table, line)
        text = f"seed {seed}, {in_flight} in flight, {name}: {line.curve[-1][1]:.4f}"
        print(f"{text}, {time.monotonic() - started_at:.0f} s", flush=True)  # noqa: T201


def surroundings(dear_runs: float) -> dict[str, Any]:
    """What the page says of how it was made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "dear_runs": dear_runs,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.system()}",
        "python": platform.python_version(),
        "optuna": optuna.__version__,
        "ray": version("ray"),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
