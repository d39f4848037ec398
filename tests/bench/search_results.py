"""The table of finished games: a line a strategy, runs in flight and seed, added as it ends and not played again."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.search_game import Curve, Played, score_curve
from bench.surrogate_space import TRAIN_TOKENS
from bench.surrogate_table import append_line

RUNS = tuple(f"runs_{fidelity}" for fidelity in range(len(TRAIN_TOKENS)))
COLUMNS = ("strategy", "in_flight", "seed", "budget", "gpu_seconds", *RUNS, "stopped", "curve")

Key = tuple[str, int, int]  # strategy, in flight, seed


@dataclass(frozen=True, slots=True)
class Line:
    """A finished game.

    Attributes:
        budget, gpu_seconds: what it might hold, and held.
        runs: that ended by themselves, by fidelity.
    """

    strategy: str
    in_flight: int
    seed: int
    budget: float
    gpu_seconds: float
    runs: tuple[int, ...]
    stopped: int
    curve: Curve

    @property
    def key(self) -> Key:
        """What names the game."""
        return self.strategy, self.in_flight, self.seed

    def cells(self) -> Sequence[str]:
        """Its cells, in the order of COLUMNS."""
        curve = " ".join(f"{at:.1f}:{score:.4f}" for at, score in self.curve)
        numbers = (self.in_flight, self.seed, f"{self.budget:.1f}", f"{self.gpu_seconds:.1f}", *self.runs, self.stopped)
        return [self.strategy, *map(str, numbers), curve]


def line_of(key: Key, budget: float, played: Played) -> Line:
    """A game as the table has it."""
    return Line(*key, budget, played.gpu_seconds, tuple(played.runs), played.stopped, score_curve(played.reports))


def read_lines(table: Path) -> list[Line]:
    """The games that a table has; none where there is no table."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return [_line(row) for row in csv.DictReader(file)]


def _line(row: dict[str, str]) -> Line:
    points = (point.split(":") for point in row["curve"].split())
    return Line(
        strategy=row["strategy"],
        in_flight=int(row["in_flight"]),
        seed=int(row["seed"]),
        budget=float(row["budget"]),
        gpu_seconds=float(row["gpu_seconds"]),
        runs=tuple(int(row[name]) for name in RUNS),
        stopped=int(row["stopped"]),
        curve=[(float(at), float(score)) for at, score in points],
    )


def add_line(table: Path, line: Line) -> None:
    """Add a game to the table, which the first one makes."""
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        append_line(table, COLUMNS)
    append_line(table, line.cells())
