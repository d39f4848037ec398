"""Measures early stopping on the curves of real runs: how often it stops a run that would have been among the best.

    PYTHONPATH=.:tests python tests/bench/early_stop.py [--table CSV] [--level 0.02 ...]

The runs of one fidelity come in random orders, some at a time, and are judged as in a study: by search.curve_model,
against the bar of search.early_stop. A stop is false where the run ended in the best share of all runs of the table.
"""

import argparse
import csv
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.curve_model import fit_curve_model
from search.curves import PARTS
from search.early_stop import bar
from search.spec_parts import EarlyStopSpec
from search.trials import TrialRow, TrialStatus

TABLE = Path(__file__).with_name("surrogate_runs.csv")
BEST_FEW = 5


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the table.

    Attributes:
        losses: means of the training loss over each eighth.
        seconds: of training, and of what follows.
    """

    val_bpb: float
    losses: tuple[float, ...]
    seconds: tuple[float, float]


def runs_of(table: Path, fidelity: int) -> list[Run]:
    """The measured runs of a fidelity, one a recipe."""
    with table.open(newline="") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file) if row["fidelity"] == str(fidelity)}
    return [
        Run(
            val_bpb=float(row["val_bpb"]),
            losses=tuple(float(row[f"train_loss_{part + 1}"]) for part in range(PARTS)),
            seconds=(float(row["train_seconds"]), float(row["eval_seconds"])),
        )
        for row in rows.values()
        if not row["failure"]
    ]


class Replay:
    """A rung whose runs come in an order, so many at a time."""

    def __init__(self, runs: Sequence[Run], rule: EarlyStopSpec) -> None:
        self._runs, self._rule = runs, rule
        self._finished: list[int] = []
        self.stopped: list[int] = []
        self.spent = 0.0

    def play(self, order: Sequence[int], slots: int) -> None:
        """Let the runs come and be judged at each eighth."""
        waiting = iter(order)
        events: list[tuple[float, int, int]] = []  # time, run, eighths that it has come to; PARTS + 1 is its end
        for index in [next(waiting) for _ in range(slots)]:
            heapq.heappush(events, self._next(0.0, index, 0))
        while events:
            now, index, part = heapq.heappop(events)
            is_over = part > PARTS or (part < PARTS and self._is_stopped(index, part))
            if part > PARTS:
                self._finished.append(index)
                self.spent += sum(self._runs[index].seconds)
            if not is_over:
                heapq.heappush(events, self._next(now, index, part))
            elif (following := next(waiting, None)) is not None:
                heapq.heappush(events, self._next(now, following, 0))

    def _next(self, now: float, index: int, part: int) -> tuple[float, int, int]:
        train, after = self._runs[index].seconds
        return now + (after if part == PARTS else train / PARTS), index, part + 1

    def _is_stopped(self, index: int, part: int) -> bool:
        if part / PARTS < self._rule.from_progress or len(self._finished) < self._rule.after_runs:
            return False
        needed = bar(list(self._rows()), self._rule.among, 1)
        finished = [self._runs[one] for one in self._finished]
        model = fit_curve_model([run.losses[part - 1] for run in finished], [run.val_bpb for run in finished])
        loss = self._runs[index].losses[part - 1]
        if needed is None or model is None or model.probability_below(needed, loss) >= self._rule.level:
            return False
        self.stopped.append(index)
        self.spent += self._runs[index].seconds[0] * part / PARTS
        return True

    def _rows(self) -> Iterator[TrialRow]:
        for status, numbers in ((TrialStatus.FEASIBLE, self._finished), (TrialStatus.STOPPED, self.stopped)):
            for number in numbers:
                yield TrialRow(
                    rung="",
                    number=number,
                    status=status,
                    values=(),
                    params={},
                    violations={},
                    attributes={"val_bpb": self._runs[number].val_bpb},
                    seconds=None,
                )


def measure(runs: Sequence[Run], rule: EarlyStopSpec, orders: int, slots: int) -> str:
    """One line: stopped, false stops, best runs lost, time saved."""
    ranked = sorted(range(len(runs)), key=lambda index: runs[index].val_bpb)
    best = set(ranked[: round(len(runs) * rule.among)])
    total, counts, saved = sum(sum(run.seconds) for run in runs), Counter[str](), 0.0
    for seed in range(orders):
        replay = Replay(runs, rule)
        replay.play([int(index) for index in np.random.default_rng(seed).permutation(len(runs))], slots)
        counts["stopped"] += len(replay.stopped)
        counts["false"] += len(best & set(replay.stopped))
        counts["lost"] += len(set(ranked[:BEST_FEW]) & set(replay.stopped))
        saved += 1 - replay.spent / total
    stopped, false = counts["stopped"], counts["false"]
    return (
        f"{len(runs):4d} runs, {slots} at a time, level {rule.level:g}: {stopped / orders / len(runs):4.0%} stopped,"
        f" {false / max(stopped, 1):5.1%} of these falsely ({false / orders / len(best):5.1%} of the best),"
        f" {counts['lost'] / orders / BEST_FEW:5.1%} of the best {BEST_FEW} lost, {saved / orders:4.0%} of time saved"
    )


def main() -> None:
    """Print a line for each fidelity, level and number of runs at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--level", type=float, nargs="+", default=[EarlyStopSpec().level])
    parser.add_argument("--from-progress", type=float, default=EarlyStopSpec().from_progress)
    parser.add_argument("--after-runs", type=int, default=EarlyStopSpec().after_runs)
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8])
    given = parser.parse_args()
    for fidelity in range(3):
        runs = runs_of(given.table, fidelity)
        for level in given.level:
            rule = EarlyStopSpec(level=level, from_progress=given.from_progress, after_runs=given.after_runs)
            for slots in given.slots:
                print(f"fidelity {fidelity}: {measure(runs, rule, given.orders, slots)}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
