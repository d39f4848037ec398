"""The table of real runs: its columns, and its lines with numbers as numbers.

Its runs were made by the trainer of commit 2078d5a with torch 2.13.0 on one thread of a CPU.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

from bench.surrogate_features import Features, features_of
from bench.surrogate_space import CURVE_POINTS, PATHS

RUNS_FILE = Path(__file__).with_name("surrogate_runs.csv")
KEYS = ("recipe", "fidelity", "seed")
MEASURED = (
    *("val_bpb", "pre_quant_val_bpb", "weight_bytes", "code_bytes", "train_seconds", "eval_seconds", "steps"),
    "num_parameters",
)
CURVE = tuple(f"train_loss_{point + 1}" for point in range(CURVE_POINTS))
COLUMNS = (*KEYS, "train_tokens", *PATHS, "failure", *MEASURED, *CURVE)

# A window that slides scores up to this much better (bits per byte), which hides as much of what rounding costs.
SLIDING_GAIN = 0.012
LEAST_COST = 0.002


@dataclass(frozen=True, slots=True)
class Run:
    """A line of the table.

    Attributes:
        recipe: its number; bred ones start at surrogate_breeding.FIRST_NUMBER.
        values: what a trial suggests for the recipe, as text.
        measured: numbers by column; none where the run failed.
    """

    recipe: int
    fidelity: int
    seed: int
    values: Mapping[str, str]
    features: Features
    measured: Mapping[str, float]


def read_runs(path: Path = RUNS_FILE) -> list[Run]:
    """The lines of a table.

    Raises:
        ValueError: a line is not whole.
    """
    with path.open(newline="") as file:
        return [run_of(row) for row in csv.DictReader(file)]


def run_of(row: Mapping[str, str]) -> Run:
    """A line's run.

    Raises:
        ValueError: it is not whole.
    """
    values = {name: row[name] for name in PATHS if row[name]}
    measured = {} if row["failure"] else {name: float(row[name]) for name in (*MEASURED, *CURVE)}
    recipe, fidelity, seed = (int(row[key]) for key in KEYS)
    return Run(recipe, fidelity, seed, values, features_of(values), measured)


def at_fidelity(runs: Sequence[Run], fidelity: int) -> list[Run]:
    """The runs of one fidelity that measured something."""
    return [run for run in runs if run.fidelity == fidelity and run.measured]


def log_cost(run: Run) -> float:
    """The logarithm of what rounding adds to the score: over the recipes it spans three orders of magnitude."""
    cost = run.measured["val_bpb"] - run.measured["pre_quant_val_bpb"]
    return log(max(cost + SLIDING_GAIN, LEAST_COST))


def val_bpb_of(pre_quant_val_bpb: float, log_cost: float) -> float:
    """The score that rounding leaves."""
    return pre_quant_val_bpb + exp(log_cost) - SLIDING_GAIN


def append_line(table: Path, cells: Sequence[Any]) -> None:
    """Add a line in one write: whoever stops this program leaves whole lines, and two programs may share a table."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    file = os.open(table, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line.getvalue().encode())
    finally:
        os.close(file)
