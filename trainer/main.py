"""The entry point of a packed run, and how an exception becomes a Failure."""

import json
import sys
import time
import traceback
from pathlib import Path

import torch

from trainer.config import Budget, Recipe
from trainer.environment import open_environment, process_variables
from trainer.errors import ArtifactError, ConfigError, DataError, DivergedError
from trainer.events import EventLog, Note, Phase
from trainer.phases import Session
from trainer.result import Failure, FailureKind, Measurement, outcome_to_dict

RESULT_FILE = "result.json"


def failure_of(error: Exception, phase: str) -> Failure:
    """What an exception says about the run."""
    match error:
        case ConfigError():
            kind = FailureKind.CONFIG
        case DataError():
            kind = FailureKind.DATA
        case DivergedError():
            kind = FailureKind.DIVERGED
        case ArtifactError():
            kind = FailureKind.ARTIFACT
        case torch.OutOfMemoryError():
            kind = FailureKind.OUT_OF_MEMORY
        case OSError():
            kind = FailureKind.MACHINE
        case _:
            kind = FailureKind.BUG
    first_line = str(error).splitlines()[0] if str(error) else ""
    message = first_line if kind is not FailureKind.BUG else f"{type(error).__name__}: {first_line}"
    return Failure(kind=kind, message=message or type(error).__name__, phase=phase)


def write_result(folder: Path, outcome: Measurement | Failure) -> None:
    """Write result.json so that a reader sees all of it or none."""
    temporary = folder / (RESULT_FILE + ".tmp")
    temporary.write_text(json.dumps(outcome_to_dict(outcome), indent=1), encoding="utf-8")
    temporary.replace(folder / RESULT_FILE)


def run(recipe: Recipe, budget: Budget, code_path: Path) -> int:
    """Run a recipe in the working folder and return the exit code: 0 with a measurement, 1 with a failure.

    Rank 0 writes train.log, events.jsonl, weights.bin and, last, result.json.

    Args:
        code_path: the file that is running, whose bytes count.
    """
    folder, variables = Path.cwd(), process_variables()
    is_main = variables.get("RANK", "0") == "0"
    log = EventLog(folder if is_main else None, time.time)
    outcome: Measurement | Failure
    try:
        environment = open_environment(variables)
        session = Session(recipe, budget, environment, folder, log.emit, time.perf_counter)
        outcome = session.measure(code_path.resolve())
        session.enter(Phase.DONE)
        environment.close()
    except Exception as error:  # noqa: BLE001 - the boundary: any exception becomes a Failure
        outcome = failure_of(error, log.phase)
        traceback.print_exc(file=sys.stderr)
        log.emit(Note(text=f"failed: {outcome.kind.value}: {outcome.message}"))
    if is_main:
        write_result(folder, outcome)
    return 0 if isinstance(outcome, Measurement) else 1
