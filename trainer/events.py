"""The trainer's one output channel: events, rendered as the challenge's log lines and written as events.jsonl.

Programs read events.jsonl and result.json; people and reviewers read train.log. Only rank 0 emits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What a run is doing, in order."""

    SETUP = "setup"
    WARMUP = "warmup"
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
        progress: share of the budget used, [0, 1].
        train_loss: nats per token of the step's global batch.
        train_seconds: timed training so far.
        tokens_per_second: over timed training so far.
        lr_scale: learning-rate multiplier of the step.
    """

    step: int
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


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchHalved:
    """The device ran out of memory; training starts over with smaller micro-batches."""

    sequences: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A validation score. name is pre_quant, post_quant or sliding_window."""

    name: str
    val_loss: float
    val_bpb: float
    tokens: int
    bytes: int
    seconds: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """The artifact was written: label is like int8+zlib."""

    label: str
    weight_bytes: int
    code_bytes: int
    payload_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A remark for the log, such as a fast path that stays off and why."""

    text: str


Event = PhaseEntered | RunDescribed | WarmupStep | TrainStep | TrainStopped | MicroBatchHalved | Scored | Packed | Note
Emit = Callable[[Event], None]
