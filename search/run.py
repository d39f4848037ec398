"""One execution as the loop, the runner and the launcher see it, and what lies in its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainer.result import Failure, Measurement, outcome_from_dict

# A run's folder: the program, what the trainer writes there, and what it printed.
CODE_FILE = "train_gpt.py"
LOG_FILE = "train.log"
EVENTS_FILE = "events.jsonl"
WEIGHT_FILE = "weights.bin"
RESULT_FILE = "result.json"
OUTPUT_FILE = "stdout.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One execution of a packed train_gpt.py.

    Attributes:
        folder: where it runs and leaves its files; holds train_gpt.py before it is submitted.
        world_size: processes (ranks) of the run.
        num_gpus: GPUs it holds, whole ones or a share of one; 0 on a CPU machine.
        accelerator: GPU kind it needs, as Ray names it (H100); None takes any.
        environment: DATA_PATH, TOKENIZER_PATH, SEED, RUN_ID.
        deadline_seconds: killed when it runs longer, start-up included.
        storage_url: database of the ledger that the launcher reports to.
    """

    run_id: str
    folder: Path
    world_size: int
    num_gpus: float
    accelerator: str | None
    environment: Mapping[str, str]
    deadline_seconds: float
    storage_url: str


def read_outcome(folder: Path) -> Measurement | Failure | None:
    """What the trainer left in its folder, whole; None where it left nothing.

    Raises:
        ValueError: result.json cannot be read or is no outcome.
    """
    try:
        values = json.loads((folder / RESULT_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(str(error)) from error
    if not isinstance(values, dict):
        raise ValueError(f"must be an object, got {values!r}")
    return outcome_from_dict(values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Latest known state of a run: phase, step, progress in [0, 1], train_loss, tokens_per_second."""

    run_id: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """How a run ended; exactly one for each submitted run.

    Attributes:
        gpu_seconds: seconds held times GPUs (times processes on a CPU machine).
    """

    run_id: str
    outcome: Measurement | Failure
    gpu_seconds: float


class Runner(Protocol):
    """Executes runs somewhere. Nothing else knows Ray."""

    def prepare(self, rung: str, world_size: int, accelerator: str | None) -> float:
        """Get ready for the runs of a rung; free_slots counts for them from now on.

        Returns:
            GPUs that each of them holds: world_size, a share where several take turns on one, or 0 without GPUs.

        Raises:
            RunnerError: no such run could ever start.
        """
        ...

    @property
    def free_slots(self) -> int:
        """How many more runs of the prepared rung could start now."""
        ...

    def submit(self, run: Run) -> None:
        """Start a run and return at once; never retries by itself."""
        ...

    def wait(self, timeout_seconds: float) -> Sequence[Progress | Finished]:
        """Reports that came in, waiting at most timeout_seconds for the first; none at once when nothing runs."""
        ...

    def cancel(self, run_id: str) -> None:
        """Kill a run; its Finished follows with FailureKind.CANCELLED."""
        ...

    def close(self) -> None:
        """Release what the runner started."""
        ...
