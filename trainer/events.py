"""The trainer's one output channel: events, rendered as the challenge's log lines and written as events.jsonl.

Programs read events.jsonl and result.json; people and reviewers read train.log. Only rank 0 emits.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never


class Phase(StrEnum):
    """What a run is doing, in order."""

    SETUP = "setup"
    WARMUP = "warmup"
    WAIT = "wait"  # for the device, where runs share it
    TRAIN = "train"
    QUANTIZE = "quantize"
    EVALUATE = "evaluate"
    DONE = "done"


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseEntered:
    """A phase begins; seconds since the run's start."""

    phase: Phase
    run_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDescribed:
    """Facts fixed before training. lines are rendered key:value log lines of the challenge."""

    run_id: str
    seed: int
    world_size: int
    num_parameters: int
    device: str
    torch_version: str
    recipe: dict[str, object]
    budget: dict[str, object]
    lines: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmupStep:
    """One untimed step; weights and optimizer state are restored after the last."""

    step: int
    steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainStep:
    """One logged optimizer step.

    Attributes:
        expected_steps: total by the budget in tokens, or by the pace so far.
        progress: share of the budget used, [0, 1].
        train_loss: nats per token of the step's global batch.
        train_seconds: timed training so far.
        tokens_per_second: over timed training so far.
        lr_scale: learning-rate multiplier of the step.
    """

    step: int
    expected_steps: int
    progress: float
    train_loss: float
    train_seconds: float
    tokens_per_second: float
    lr_scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainStopped:
    """Training ended. reason is wallclock_cap or token_budget."""

    reason: str
    step: int
    train_seconds: float
    peak_memory_bytes: int
    reserved_memory_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Validated:
    """Validation of the final, averaged weights before quantization, non-overlapping windows."""

    step: int
    train_seconds: float
    val_loss: float
    val_bpb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchHalved:
    """The device ran out of memory; the step is repeated with micro-batches of this many sequences."""

    sequences: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A validation score of the weights read back from the artifact.

    Attributes:
        label: int8_zlib_roundtrip or sliding_window, as in the challenge's final_ lines.
        num_tokens, num_bytes: scored.
        stride: tokens between windows; the window length where windows do not overlap.
    """

    label: str
    val_loss: float
    val_bpb: float
    num_tokens: int
    num_bytes: int
    stride: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """The artifact was written.

    Attributes:
        label: bits and compressor, like int8+zlib.
        payload_bytes: before compression.
    """

    label: str
    weight_bytes: int
    code_bytes: int
    payload_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A remark for the log, such as a fast path that stays off and why."""

    text: str


Event = (
    PhaseEntered
    | RunDescribed
    | WarmupStep
    | TrainStep
    | TrainStopped
    | Validated
    | MicroBatchHalved
    | Scored
    | Packed
    | Note
)
Emit = Callable[[Event], None]


def render(event: Event) -> list[str]:
    """The log lines of an event, in the challenge's own format."""
    match event:
        case PhaseEntered():
            return [f"phase:{event.phase.value} run_time:{event.run_seconds:.1f}s"]
        case RunDescribed():
            return event.lines
        case WarmupStep():
            return [f"warmup_step:{event.step}/{event.steps}"]
        case TrainStep():
            return [
                f"step:{event.step}/{event.expected_steps} train_loss:{event.train_loss:.4f} "
                f"{train_time(event.train_seconds, event.step)}"
            ]
        case TrainStopped():
            mebibytes = event.peak_memory_bytes // 2**20
            return [
                f"stopping_early: {event.reason} train_time:{1000 * event.train_seconds:.0f}ms "
                f"step:{event.step}/{event.step}",
                f"peak memory allocated: {mebibytes} MiB reserved: {event.reserved_memory_bytes // 2**20} MiB",
            ]
        case Validated():
            return [
                f"step:{event.step}/{event.step} val_loss:{event.val_loss:.4f} val_bpb:{event.val_bpb:.4f} "
                f"{train_time(event.train_seconds, event.step)}"
            ]
        case MicroBatchHalved():
            return [f"out_of_memory: micro-batch is now {event.sequences} sequences"]
        case Scored():
            milliseconds = 1000 * event.seconds
            return [
                f"final_{event.label} val_loss:{event.val_loss:.4f} val_bpb:{event.val_bpb:.4f} "
                f"stride:{event.stride} eval_time:{milliseconds:.0f}ms",
                f"final_{event.label}_exact val_loss:{event.val_loss:.8f} val_bpb:{event.val_bpb:.8f}",
            ]
        case Packed():
            return [
                f"Serialized model {event.label}: {event.weight_bytes} bytes (payload:{event.payload_bytes})",
                f"Code size: {event.code_bytes} bytes",
                f"Total submission size {event.label}: {event.weight_bytes + event.code_bytes} bytes",
            ]
        case Note():
            return [event.text]
        case _:
            assert_never(event)


def train_time(seconds: float, steps: int) -> str:
    """The challenge's timing fields."""
    return f"train_time:{1000 * seconds:.0f}ms step_avg:{1000 * seconds / max(steps, 1):.2f}ms"


class EventLog:
    """Writes events to train.log and events.jsonl in a folder and to standard output, line by line.

    Args:
        folder: None on ranks other than 0, whose events go nowhere.
        clock: seconds since the epoch.
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.phase = ""
        self.log = None if folder is None else (folder / "train.log").open("w", encoding="utf-8", buffering=1)
        self.events = None if folder is None else (folder / "events.jsonl").open("w", encoding="utf-8", buffering=1)

    def emit(self, event: Event) -> None:
        """Write one event."""
        if isinstance(event, PhaseEntered):
            self.phase = event.phase.value
        if self.log is None or self.events is None:
            return
        values = {"event": type(event).__name__, "time": self.clock(), **asdict(event)}
        self.events.write(json.dumps(values) + "\n")
        for line in render(event):
            self.log.write(line + "\n")
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
