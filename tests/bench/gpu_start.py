"""Times a run's start: PYTHONPATH=.:tests python tests/bench/gpu_start.py --dataset FOLDER --recipe NAME.

The packed run that a study would start, as its launcher starts it, up to its first timed step, twice: with empty caches
of the compilers, hence shapes never seen, and with those that the first has left. It takes turns on its GPU, as runs of
a study do, with none but itself. Then it is ended. Where the installation keeps no bytecode, a run before these fills
the folder that runs keep it in.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from gpu_child import data_variables, parser_of, recipe_of, without_packages, write

from search.bundle import bundle
from search.child import bytecode_folder, process_tree
from search.run import CODE_FILE, EVENTS_FILE, OUTPUT_FILE, Run
from trainer.config import Budget

TRAIN_SECONDS = 60.0
DEADLINE_SECONDS = 300.0
POLL_SECONDS = 0.05
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")
Event = Mapping[str, Any]


def run_of(arguments: argparse.Namespace, folder: Path, caches: Path, bytecode: Path | None) -> Run:
    """A run, its program in its folder."""
    folder.mkdir()
    budget = Budget(train_seconds=3.0 if arguments.tiny else TRAIN_SECONDS)
    (folder / CODE_FILE).write_bytes(bundle(without_packages(recipe_of(arguments)), budget).packed)
    variables = {name: str(caches / name.lower()) for name in CACHES}
    if bytecode is not None:
        variables |= {"PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": ""}
    return Run(
        run_id=folder.name,
        folder=folder,
        world_size=1,
        num_gpus=1 if torch.cuda.is_available() else 0,
        accelerator=None,
        environment={**variables, **data_variables(arguments.dataset), "TURN_FILE": str(folder / "turn")},
        deadline_seconds=DEADLINE_SECONDS,
        storage_url="",
    )


def start(run: Run) -> dict[str, Any]:
    """Seconds from a run's start to its first timed step, phase by phase.

    Raises:
        RuntimeError: it ended or took too long before that step.
    """
    spawned = time.time()
    with process_tree(run, os.environ) as process:
        events = wait_for_step(run, process, spawned)
    return times_of(events, spawned)


def wait_for_step(run: Run, process: subprocess.Popen[bytes], spawned: float) -> list[Event]:
    """The events of a run up to its first timed step."""
    while time.time() - spawned < run.deadline_seconds:
        has_ended = process.poll() is not None
        events = read_events(run.folder / EVENTS_FILE)
        if any(event["event"] == "TrainStep" for event in events):
            return events
        if has_ended:
            output = (run.folder / OUTPUT_FILE).read_text(errors="replace").strip()
            sys.stderr.write(output[-2000:])
            raise RuntimeError(f"the run ended before its first step: {output.splitlines()[-1:]}")
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"no step within {run.deadline_seconds:.0f} s")


def read_events(path: Path) -> list[Event]:
    """The whole lines of an events.jsonl that is being written."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def times_of(events: Sequence[Event], spawned: float) -> dict[str, Any]:
    """The phases before training and their seconds."""
    phases = [event for event in events if event["event"] == "PhaseEntered"]
    names, moments = [event["phase"] for event in phases], [event["time"] for event in phases]
    end = names.index("train")
    names = ["process and imports", *names[:end]]
    if names.count("warmup") == 2:  # the second after the wait for a turn
        names[-1] = "settle"
    seconds = [after - before for before, after in pairwise([spawned, *moments[: end + 1]])]
    first = next(event for event in events if event["event"] == "TrainStep")
    return {
        "seconds": moments[end] - spawned,
        "phases": [list(pair) for pair in zip(names, seconds, strict=True)],
        "first_step_seconds": first["time"] - moments[end],
    }


def main() -> None:
    """Start the run twice, print where the time went and write the file."""
    arguments = parser_of(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="caddie-start-") as name:
        folder = Path(name)
        bytecode = None if bytecode_folder() is None else folder / "bytecode"
        caches = {"first": "first", "new": "caches", "seen": "caches"}
        if bytecode is None:
            del caches["first"]
        results = {
            name: start(run_of(arguments, folder / name, folder / "of_compilers" / cache, bytecode))
            for name, cache in caches.items()
        }
    for name, result in results.items():
        phases = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in result["phases"])
        print(f"{arguments.recipe}, {name}: {result['seconds']:.1f} s ({phases})")  # noqa: T201
    tokens = recipe_of(arguments).schedule.train_batch_tokens
    write(arguments.out, {"recipe": arguments.recipe, "tokens": tokens, **results})


if __name__ == "__main__":
    main()
