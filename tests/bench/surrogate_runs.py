"""Trains the surrogate benchmark's recipes for real, and writes what they measured as a table.

    caddie data build --docs studies/sample/docs_sample.jsonl.xz --vocab-size 512 --val-documents 40 --out data/sp512
    PYTHONPATH=.:tests nice -n 19 python tests/bench/surrogate_runs.py --data data/sp512

Each run goes through all phases of a real one, in this process on one thread, with the code bytes of its recipe's
packed file. Times are processor time, which other programs on the machine hardly change. A run that the table has is
not repeated: stop it at any time, start it again. With glibc, MALLOC_MMAP_THRESHOLD_=1000000000 and
MALLOC_TRIM_THRESHOLD_=4000000000 make steps a sixth faster here: memory is not given back after each tensor.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench.surrogate_breeding import FOUNDERS, bred_recipes
from bench.surrogate_space import BUDGETS, CURVE_POINTS, TRAIN_TOKENS, sobol_recipes
from bench.surrogate_table import COLUMNS, CURVE, KEYS, MEASURED, RUNS_FILE, append_line
from torch import Tensor

from search.bundle import FlatTrainer, bundle, flatten, trainer_folder
from trainer.config import Recipe
from trainer.environment import Environment, open_environment
from trainer.errors import TrainerError
from trainer.events import Event
from trainer.loop import Trained, Trainer
from trainer.main import failure_of
from trainer.phases import Session
from trainer.result import Measurement


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a recipe by its number in the sequence, how long, and from which start.

    Attributes:
        values: what a trial would suggest for the recipe.
    """

    number: int
    values: Mapping[str, Any]
    recipe: Recipe
    fidelity: int
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        """What names the run in the table."""
        return str(self.number), str(self.fidelity), str(self.seed)


class RecordedSession(Session):
    """A run that keeps the loss of every step."""

    def train(self, trainer: Trainer, reserve_seconds: float) -> Trained:
        """Train within the budget."""
        self.losses: list[tuple[float, Tensor]] = []
        step = trainer.step

        def recorded(progress: float) -> Tensor:
            loss = step(progress)
            self.losses.append((progress, loss))
            return loss

        trainer.step = recorded
        return super().train(trainer, reserve_seconds)

    def curve(self) -> list[float]:
        """Mean training loss over each of CURVE_POINTS equal parts of the run: one batch alone says little."""
        parts: list[list[float]] = [[] for _ in range(CURVE_POINTS)]
        for progress, loss in self.losses:
            parts[int(progress * CURVE_POINTS + 1e-9)].append(float(loss))
        return [float(np.mean(part)) for part in parts]


def discard(event: Event) -> None:
    """Print nothing of the run."""


def sampled_jobs(count: int, repeated: int, seeds: int) -> Iterator[Job]:
    """Every recipe at every fidelity, cheapest first; the first few of them also from other seeds."""
    for number, (values, recipe) in enumerate(sobol_recipes(count)):
        for seed in range(seeds + 1 if number < repeated else 1):
            yield from (Job(number, values, recipe, fidelity, seed) for fidelity in range(len(BUDGETS)))


def bred_jobs(table: Path, generation: int) -> list[Job]:
    """The children of the runs that the table has by now, at every fidelity."""
    with table.open(newline="") as file:
        children = list(bred_recipes(list(csv.DictReader(file)), generation))
    return [Job(*child, fidelity, 0) for child in children for fidelity in range(len(BUDGETS))]


def execute(job: Job, trainer: FlatTrainer, environment: Environment, folder: Path) -> dict[str, Any]:
    """Run a job; returns its line of the table. A failure that the recipe caused is a line too."""
    row: dict[str, Any] = dict(zip(KEYS, job.key, strict=True))
    row |= {"train_tokens": TRAIN_TOKENS[job.fidelity], **job.values}
    budget = BUDGETS[job.fidelity]
    code_path = folder / f"{job.number}.py"
    if not code_path.exists():  # once a recipe: packing takes a second, and budgets differ by a byte
        code_path.write_bytes(bundle(job.recipe, BUDGETS[-1], trainer).packed)
    place = replace(environment, seed=job.seed)
    session = RecordedSession(job.recipe, budget, place, folder, discard, time.process_time)
    try:
        measured = session.measure(code_path)
    except TrainerError as error:
        failure = failure_of(error, "")
        if not failure.kind.is_caused_by_recipe:
            raise
        return {**row, "failure": failure.kind.value}
    return {**row, **numbers_of(measured), **dict(zip(CURVE, (f"{loss:.5f}" for loss in session.curve()), strict=True))}


def numbers_of(measured: Measurement) -> dict[str, Any]:
    """A measurement's cells; scores to a tenth of what seeds differ by, and finer."""
    values = {name: getattr(measured, name) for name in MEASURED}
    return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}


def finished_keys(table: Path) -> set[tuple[str, ...]]:
    """The runs that a table has; makes the table where there is none.

    Raises:
        ValueError: the table has other columns.
    """
    if not table.exists():
        append_line(table, COLUMNS)
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{table}: expected the columns {', '.join(COLUMNS)}, got {reader.fieldnames}")
        return {tuple(row[key] for key in KEYS) for row in reader}


def run_all(jobs: Sequence[Job], table: Path, environment: Environment) -> None:
    """Run the jobs that the table lacks, and add each as it ends."""
    finished = finished_keys(table)
    trainer = flatten(trainer_folder())
    left = [job for job in jobs if job.key not in finished]
    with tempfile.TemporaryDirectory() as folder:
        for index, job in enumerate(left):
            row = execute(job, trainer, environment, Path(folder))
            append_line(table, [row.get(column, "") for column in COLUMNS])
            text = f"{index + 1}/{len(left)} recipe {job.number} fidelity {job.fidelity} seed {job.seed}"
            print(f"{text}: {row.get('val_bpb', row.get('failure'))}", flush=True)  # noqa: T201


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset with a vocabulary of 512")
    parser.add_argument("--out", type=Path, default=RUNS_FILE)
    parser.add_argument("--recipes", type=int, default=200, help="from the start of the sequence")
    parser.add_argument("--repeated", type=int, default=16, help="recipes that run from more seeds")
    parser.add_argument("--seeds", type=int, default=3, help="more seeds")
    parser.add_argument("--generations", type=int, default=3, help="of recipes bred from the best before them")
    arguments = parser.parse_args()
    data = arguments.data
    environment = open_environment({"DATA_PATH": str(data), "TOKENIZER_PATH": str(data / "tokenizer.model")})
    sample = list(sampled_jobs(arguments.recipes, arguments.repeated, arguments.seeds))
    # Bred before the sample is complete, so that a table that is stopped early knows the good recipes too.
    run_all([job for job in sample if job.number < FOUNDERS], arguments.out, environment)
    for generation in range(1, arguments.generations + 1):
        run_all(bred_jobs(arguments.out, generation), arguments.out, environment)
    run_all(sample, arguments.out, environment)


if __name__ == "__main__":
    main()
