"""Runs named recipes one after another, one a GPU, and writes a table of what they measured.

    PYTHONPATH=.:tests python tests/bench/recipes.py --data DATA --train-seconds 120 --out recipes.md

Each run is the packed file that a submission would ship, in a folder of its own under --runs. DATA holds a dataset
folder for each vocabulary, sp1024 and so on, as build_shards.py makes them. This driver needs no torch; the runs do.
On a CPU: --gpus 0 --tiny, which keeps every switch and makes the sizes small.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

from tiny_recipes import shrink

from search.bundle import FlatTrainer, bundle, flatten, trainer_folder
from search.size import predicted_bytes
from spaces.fields import get_value, optional_parent, set_values
from spaces.recipes import named_recipe
from trainer.config import Budget, Recipe
from trainer.result import Measurement, outcome_from_dict

PUBLISHED = (
    *("naive_baseline", "pr163", "pr340", "pr333", "pr122"),
    *("record_162", "record_414", "record_1218", "record_1493", "record_1855"),
)
COLUMNS = (
    *("recipe", "parameters", "steps", "ms/step", "pre", "post", "sliding", "adapted", "bytes", "predicted", "error"),
    *("peak memory", "quantize", "pack", "score", "whole run"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A recipe to run, and where.

    Attributes:
        deadline_seconds: after which the run is ended.
    """

    name: str
    recipe: Recipe
    budget: Budget
    folder: Path
    data: Path
    seed: int
    num_cores: int
    deadline_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What became of a job: the table's cells, or why there are none."""

    name: str
    cells: tuple[str, ...] = ()
    failure: str = ""
    device: str = ""


def job_of(name: str, arguments: argparse.Namespace) -> Job:
    """The job of a named recipe.

    Raises:
        SpaceError: no recipe has the name, or --set names no field.
        ConfigError: the values of --set do not fit the recipe.
    """
    recipe = named_recipe(name)
    recipe = shrink(recipe) if arguments.tiny else recipe
    values: dict[str, Any] = {}
    if arguments.batch_tokens:
        values["schedule.train_batch_tokens"] = arguments.batch_tokens
    for path, value in map(parse_setting, arguments.set):
        parent = optional_parent(path)
        if parent is None or get_value(recipe, parent) is not None:
            values[path] = value
    recipe = set_values(recipe, values)
    return Job(
        name=name,
        recipe=recipe,
        budget=Budget(
            train_seconds=None if arguments.train_tokens else arguments.train_seconds,
            train_tokens=arguments.train_tokens,
            eval_tokens=arguments.eval_tokens,
        ),
        folder=arguments.runs / name,
        data=arguments.data / f"sp{recipe.model.vocab_size}",
        seed=arguments.seed,
        num_cores=max(1, (os.cpu_count() or 1) // max(1, arguments.gpus)),
        deadline_seconds=arguments.deadline_seconds,
    )


def parse_setting(text: str) -> tuple[str, Any]:
    """The path and value of PATH=VALUE; the value as JSON where it is some, else as text."""
    path, _, value = text.partition("=")
    try:
        return path, json.loads(value)
    except json.JSONDecodeError:
        return path, value


def execute(job: Job, trainer: FlatTrainer, gpu: int | None) -> Row:
    """Run a job on a GPU, or on the CPU."""
    start = time.perf_counter()
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "result.json").unlink(missing_ok=True)
    (job.folder / "train_gpt.py").write_bytes(bundle(job.recipe, job.budget, trainer).packed)
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "" if gpu is None else str(gpu),
        "DATA_PATH": str(job.data.resolve()),
        "TOKENIZER_PATH": str((job.data / "tokenizer.model").resolve()),
        "SEED": str(job.seed),
        # Each run's threads and compilers for itself: four runs that each took all 64 cores took four times as long.
        "OMP_NUM_THREADS": str(job.num_cores),
        "TORCHINDUCTOR_COMPILE_THREADS": str(job.num_cores),
        "RUN_ID": job.name,
    }
    with (job.folder / "output.txt").open("w") as output:
        try:
            subprocess.run(
                [sys.executable, "train_gpt.py"],
                cwd=job.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=job.deadline_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Row(name=job.name, failure=f"still running after {job.deadline_seconds:.0f} s")
    return row_of(job, time.perf_counter() - start)


def row_of(job: Job, run_seconds: float) -> Row:
    """The row of a run that has ended."""
    path = job.folder / "result.json"
    if not path.exists():
        lines = (job.folder / "output.txt").read_text(errors="replace").splitlines()
        return Row(name=job.name, failure=f"no result: {lines[-1] if lines else 'no output'}")
    outcome = outcome_from_dict(json.loads(path.read_text()))
    if not isinstance(outcome, Measurement):
        return Row(name=job.name, failure=f"{outcome.kind.value} in {outcome.phase or 'start'}: {outcome.message}")
    return Row(name=job.name, cells=cells_of(job, outcome, run_seconds), device=outcome.device)


def cells_of(job: Job, result: Measurement, run_seconds: float) -> tuple[str, ...]:
    """A measurement as the table's cells. Quantizing includes reading text for Hessians; scoring does the read-back."""
    lines = (job.folder / "events.jsonl").read_text().splitlines()
    events = {event["event"]: event for event in map(json.loads, lines)}  # the last of each kind
    quantize_seconds = result.train_seconds - events["TrainStopped"]["train_seconds"]
    pack_seconds = events["Packed"]["time"] - events["Validated"]["time"]
    predicted = predicted_bytes(job.recipe, result.code_bytes, result.steps)
    adapted = f"{result.val_bpb:.4f}" if job.recipe.evaluation.adapts else "-"
    return (
        job.name,
        f"{result.num_parameters:,}",
        f"{result.steps:,}",
        f"{result.step_avg_ms:.1f}",
        f"{result.pre_quant_val_bpb:.4f}",
        f"{result.post_quant_val_bpb:.4f}",
        f"{result.sliding_val_bpb:.4f}",
        adapted,
        f"{result.artifact_bytes:,}",
        f"{predicted:,}",
        f"{100 * (predicted / result.artifact_bytes - 1):+.1f} %",
        f"{result.peak_memory_bytes / 2**20:,.0f} MiB",
        f"{quantize_seconds:.1f} s",
        f"{pack_seconds:.1f} s",
        f"{result.eval_seconds:.1f} s",
        f"{run_seconds:.0f} s",
    )


def table_of(rows: Sequence[Row], settings: str) -> str:
    """The rows as Markdown. A run that failed fills its row with why."""
    devices = ", ".join(sorted({row.device for row in rows if row.device}))
    lines = [f"{settings}; on {devices or 'no device'}", "", line_of(COLUMNS), line_of(["---"] * len(COLUMNS))]
    lines += [line_of(row.cells or [row.name, row.failure.replace("|", "/")]) for row in rows]
    return "\n".join(lines) + "\n"


def line_of(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def run_all(jobs: Sequence[Job], num_gpus: int, out: Path, settings: str) -> list[Row]:
    """Run jobs, as many at a time as there are GPUs; the table is written anew after each."""
    trainer = flatten(trainer_folder())
    gpus = Queue[int | None]()
    for gpu in range(num_gpus) if num_gpus else [None]:
        gpus.put(gpu)

    def work(job: Job) -> Row:
        gpu = gpus.get()
        try:
            return execute(job, trainer, gpu)
        except Exception as error:  # noqa: BLE001 - one recipe's failure is a row, whatever it is
            return Row(name=job.name, failure=f"{type(error).__name__}: {error}")
        finally:
            gpus.put(gpu)

    rows: dict[str, Row] = {}
    with ThreadPoolExecutor(max(num_gpus, 1)) as pool:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            row = future.result()
            rows[row.name] = row
            out.write_text(table_of(in_order(jobs, rows), settings))
            print(line_of(row.cells or [row.name, row.failure]), flush=True)  # noqa: T201
    return in_order(jobs, rows)


def in_order(jobs: Sequence[Job], rows: Mapping[str, Row]) -> list[Row]:
    """The rows there are, in the order of the jobs."""
    return [rows[job.name] for job in jobs if job.name in rows]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets sp1024, sp2048 and so on")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file to write")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"), help="folder of the run folders")
    parser.add_argument("--only", nargs="+", default=PUBLISHED, metavar="NAME", help="these recipes")
    parser.add_argument("--train-seconds", type=float, default=120.0, help="budget of training and quantization")
    parser.add_argument("--train-tokens", type=int, help="budget in tokens, instead of seconds")
    parser.add_argument("--batch-tokens", type=int, help="tokens a step, instead of the recipe's")
    parser.add_argument("--eval-tokens", type=int, help="validation tokens to score; all by default")
    parser.add_argument("--gpus", type=int, default=1, help="runs side by side; 0 runs on the CPU")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--deadline-seconds", type=float, default=1800.0, help="after which a run is ended")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="where its sub-config is on")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a trial of this command")
    return parser.parse_args()


def main() -> int:
    """Run the command; 1 if a recipe failed."""
    arguments = parse_arguments()
    jobs = [job_of(name, arguments) for name in arguments.only]
    budget = jobs[0].budget
    length = f"{budget.train_tokens:,} tokens" if budget.train_tokens else f"{budget.train_seconds:.0f} s"
    batch = f"{arguments.batch_tokens:,} tokens" if arguments.batch_tokens else "each recipe's own tokens"
    scored = f"{budget.eval_tokens:,}" if budget.eval_tokens else "all"
    extra = "".join(f", {setting}" for setting in [*arguments.set, *(["tiny sizes"] if arguments.tiny else [])])
    settings = f"{length} a run, {batch} a step, {scored} validation tokens, seed {arguments.seed}{extra}"
    rows = run_all(jobs, arguments.gpus, arguments.out, settings)
    return int(any(row.failure for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
