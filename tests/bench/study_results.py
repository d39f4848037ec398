"""A finished study as files that can be kept where its database is not: a table of its runs and two pictures.

    PYTHONPATH=.:tests python tests/bench/study_results.py STUDY --storage sqlite:///caddie.db --out FOLDER

Writes runs.csv (a line a run, by when it ended), progress.svg (scores over GPU-hours, and the winner's at the time) and
rungs.svg (each recipe's score in the first rung and in the last one).
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.correlation import describe_correlation, mean_scores, rank_correlation
from search.decision import reason_of
from search.ledger import Ledger
from search.store import open_storage
from search.study import read_rungs
from search.trials import TrialRow

MEASURED = (
    *("val_bpb", "pre_quant_val_bpb", "post_quant_val_bpb", "artifact_bytes", "predicted_bytes", "steps"),
    *("step_avg_ms", "train_seconds", "eval_seconds", "peak_memory_bytes", "device"),
)
WIDTH, HEIGHT, MARGIN = 640, 400, 56
COLOURS = ("#1f77b4", "#d62728", "#2ca02c")
NUM_TICKS = 5
REASON_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """Marks of one colour in a picture, with a name each; joined where they are a line."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    labels: Sequence[str] = ()
    is_line: bool = False


def table_of(rungs: Mapping[str, Sequence[TrialRow]], ended: Mapping[str, float]) -> list[dict[str, Any]]:
    """A line a run that ended, in the order of their ends.

    Args:
        ended: epoch seconds by run id.
    """
    rows = [row for rows in rungs.values() for row in rows if not row.is_open and row.attributes.get("run_id") in ended]
    lines: list[dict[str, Any]] = []
    gpu_hours = 0.0
    for row in sorted(rows, key=lambda row: ended[row.attributes["run_id"]]):
        gpu_hours += row.gpu_seconds / 3600
        reason = reason_of(row)
        facts = {
            "rung": row.rung,
            "trial": row.number,
            "status": row.status.value,
            "reason": (row.reason or "")[:REASON_CHARACTERS],
        }
        facts |= {"seed": row.attributes.get("seed"), "promoted_from": row.attributes.get("promoted_from", "")}
        facts |= {"promoted_for": "" if reason is None else reason.value, "gpu_seconds": round(row.gpu_seconds, 1)}
        facts |= {"gpu_hours_so_far": round(gpu_hours, 4)}
        lines.append(facts | {name: row.attributes.get(name, "") for name in MEASURED} | dict(row.fields))
    return lines


def write_table(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """As CSV; a column for each key that some line has."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(lines)


def progress(lines: Sequence[Mapping[str, Any]]) -> list[Points]:
    """Scores of each rung over GPU-hours."""
    found: list[Points] = []
    for rung in dict.fromkeys(line["rung"] for line in lines):
        own = [line for line in lines if line["rung"] == rung and line["status"] == "feasible"]
        xs, ys = [line["gpu_hours_so_far"] for line in own], [line["val_bpb"] for line in own]
        found.append(Points(name=rung, xs=xs, ys=ys, labels=[str(line["trial"]) for line in own]))
    if found and found[-1].ys:
        last = found[-1]
        best = [min(last.ys[: index + 1]) for index in range(len(last.ys))]
        found.append(Points(name=f"best of {last.name}", xs=last.xs, ys=best, is_line=True))
    return found


def pairs(rungs: Mapping[str, Sequence[TrialRow]]) -> Points:
    """Each recipe's mean score in the first and in the last rung."""
    low, high = (mean_scores(rungs[name]) for name in (next(iter(rungs)), list(rungs)[-1]))
    shared = [key for key in low if key in high]
    numbers = {row.attributes.get("recipe_hash"): row.number for row in reversed(rungs[next(iter(rungs))])}
    labels = [str(numbers[key]) for key in shared]
    return Points(name="recipe", xs=[low[key] for key in shared], ys=[high[key] for key in shared], labels=labels)


def picture(groups: Sequence[Points], across: str, up: str) -> str:
    """An SVG of points."""
    every_x = [x for one in groups for x in one.xs] or [0.0]
    every_y = [y for one in groups for y in one.ys] or [0.0]
    place_x = scale(every_x, MARGIN, WIDTH - MARGIN)
    place_y = scale(every_y, HEIGHT - MARGIN, MARGIN / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for tick in range(NUM_TICKS + 1):
        x = min(every_x) + (max(every_x) - min(every_x)) * tick / NUM_TICKS
        y = min(every_y) + (max(every_y) - min(every_y)) * tick / NUM_TICKS
        parts.append(f'<text x="{place_x(x):.0f}" y="{HEIGHT - MARGIN + 20}" text-anchor="middle">{x:.3f}</text>')
        parts.append(f'<text x="{MARGIN - 8}" y="{place_y(y) + 4:.0f}" text-anchor="end">{y:.3f}</text>')
        parts.append(f'<path d="M{MARGIN} {place_y(y):.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>')
    for one, colour in zip(groups, COLOURS, strict=False):
        parts += marks(one, [place_x(x) for x in one.xs], [place_y(y) for y in one.ys], colour)
    names = [f'<tspan fill="{colour}" dx="8">{one.name}</tspan>' for one, colour in zip(groups, COLOURS, strict=False)]
    parts.append(f'<text x="{MARGIN}" y="14">{up}:{"".join(names)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{across}</text></svg>')
    return "\n".join(parts) + "\n"


def scale(values: Sequence[float], start: float, end: float) -> Any:
    """A function from values to places between two."""
    low, high = min(values), max(values)
    return lambda value: start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)


def marks(one: Points, xs: Sequence[float], ys: Sequence[float], colour: str) -> Iterator[str]:
    """Dots with their labels, or a line in steps."""
    if one.is_line:
        steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in zip(xs[1:], ys[1:], strict=True))
        yield f'<path d="M{xs[0]:.1f} {ys[0]:.1f}{steps}" fill="none" stroke="{colour}"/>'
        return
    for x, y, label in zip(xs, ys, one.labels, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        yield f'<text x="{x + 5:.1f}" y="{y - 4:.1f}" font-size="10" fill="#444">{label}</text>'


def main() -> None:
    """Read the study and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--storage", default="sqlite:///caddie.db")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rungs = read_rungs(open_storage(arguments.storage), arguments.study)
    runs = Ledger.open(arguments.storage).runs(arguments.study)
    lines = table_of(rungs, {run.run_id: run.finished_at for run in runs if run.finished_at is not None})
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_table(lines, arguments.out / "runs.csv")
    first, *_, last = rungs
    (arguments.out / "progress.svg").write_text(picture(progress(lines), "GPU-hours", "bits per byte"))
    (arguments.out / "rungs.svg").write_text(picture([pairs(rungs)], f"bits per byte in {first}", f"in {last}"))
    correlation = describe_correlation(rank_correlation(rungs[first], rungs[last]))
    sys.stdout.write(f"{len(lines)} runs; rank correlation {first} to {last}: {correlation}\n")


if __name__ == "__main__":
    main()
