"""How a run ended: a Measurement or a Failure, never a sentinel score. Standard library only."""

from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class FailureKind(StrEnum):
    """Who caused a failure decides what the search does with it."""

    CONFIG = "config"  # the recipe contradicts itself, or does not fit this data or world size
    DATA = "data"  # shards or tokenizer missing or damaged
    DIVERGED = "diverged"  # the loss, in training or in validation, is not finite
    OUT_OF_MEMORY = "out_of_memory"  # even one sequence a micro-batch does not fit the device
    OVERSIZE = "oversize"  # refused before training: predicted bytes far over the cap
    DEADLINE = "deadline"  # still running when its time was up
    ARTIFACT = "artifact"  # the weight file did not read back as it was written
    MACHINE = "machine"  # process, worker, node or disk went away
    STOPPED = "stopped"  # the search saw from its curve that it would not be among the best
    CANCELLED = "cancelled"  # the user asked for it
    BUG = "bug"  # an exception nobody expected

    @property
    def is_caused_by_recipe(self) -> bool:
        """True where the same recipe would fail again, so the sampler should learn to avoid it."""
        return self in {
            FailureKind.CONFIG,
            FailureKind.DIVERGED,
            FailureKind.OUT_OF_MEMORY,
            FailureKind.OVERSIZE,
            FailureKind.STOPPED,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one finished run measured. Scores are on the weights read back from the artifact unless named pre_quant.

    Attributes:
        val_bpb: bits per byte of the read-back weights: the score. Sliding-window, or adapted where the recipe adapts.
        val_loss: the same in nats per token.
        sliding_val_bpb: sliding-window, without adaptation; None in results from before adaptation existed.
        pre_quant_val_bpb: non-overlapping, averaged weights before quantization.
        post_quant_val_bpb: non-overlapping, read-back weights.
        artifact_bytes: code_bytes + weight_bytes.
        code_bytes: bytes of the train_gpt.py that ran.
        weight_bytes: bytes of the weight file.
        train_seconds: timed training, quantization included; warm-up and compilation are not timed.
        eval_seconds: reading the artifact back and scoring it, non-overlapping and by the score that counts.
        step_avg_ms: timed training milliseconds per optimizer step, quantization left out.
        train_loss: nats per token, last step.
        peak_memory_bytes: of the device, max over the run; resident set on CPU.
        code_sha256, weight_sha256: of the two files counted.
        compressor_version: of the package that packed the weights: another one may pack them to other bytes.
    """

    val_bpb: float
    val_loss: float
    pre_quant_val_bpb: float
    post_quant_val_bpb: float
    artifact_bytes: int
    code_bytes: int
    weight_bytes: int
    code_sha256: str
    weight_sha256: str
    num_parameters: int
    steps: int
    train_tokens: int
    train_loss: float
    train_seconds: float
    eval_seconds: float
    step_avg_ms: float
    peak_memory_bytes: int
    seed: int
    world_size: int
    device: str
    torch_version: str
    python_version: str
    compressor_version: str
    sliding_val_bpb: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a run has no measurement.

    Attributes:
        phase: the last phase the run entered (events.Phase value), "" before the first.
        message: one line for people.
    """

    kind: FailureKind
    message: str
    phase: str = ""


def outcome_to_dict(outcome: Measurement | Failure) -> dict[str, Any]:
    """The JSON form of an outcome, as in result.json: its fields and an "outcome" tag."""
    return {"outcome": type(outcome).__name__.lower(), **asdict(outcome)}


def outcome_from_dict(values: dict[str, Any]) -> Measurement | Failure:
    """The outcome written by outcome_to_dict.

    Raises:
        ValueError: the tag or a field is unknown, or a field is missing.
    """
    expected = {"measurement": Measurement, "failure": Failure}.get(str(values.get("outcome")))
    given = {key: value for key, value in values.items() if key != "outcome"}
    if expected is None:
        raise ValueError(f"result: outcome must be measurement or failure, got {values.get('outcome')!r}")
    names = {field.name for field in fields(expected)}
    needed = {field.name for field in fields(expected) if field.default is MISSING}
    if wrong := (set(given) - names) | (needed - set(given)):
        raise ValueError(f"result: unknown or missing fields {sorted(wrong)}")
    if expected is Failure:
        given["kind"] = FailureKind(given["kind"])
    return expected(**given)
