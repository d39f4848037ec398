"""How far an outcome is over the study's limits: the constraints that samplers and the dashboard see."""

from search.spec_parts import Limits
from trainer.result import Failure, FailureKind, Measurement

CONSTRAINTS = ("artifact_bytes", "train_seconds", "eval_seconds")  # this order in every trial: GPSampler goes by it
UNKNOWN_VIOLATION = 1.0


def measured_violations(measurement: Measurement, limits: Limits) -> dict[str, float]:
    """By constraint, how far a measurement is over its limit, relative to the limit and clipped to [-1, 10]."""
    return {name: _relative(getattr(measurement, name), getattr(limits, name)) for name in CONSTRAINTS}


def failure_violations(failure: Failure, predicted_bytes: int | None, limits: Limits) -> dict[str, float]:
    """Violations that stand in for what a failed run never measured.

    A recipe refused for its size is as far over as its prediction says, and nothing is held against its times, so that
    TPE ranks it beside those measured to be oversize. Of one stopped for its curve the same is known: where it is
    predicted to fit, it breaks no limit, and TPE ranks it behind all that were measured to be feasible and before those
    over a limit. Any other failure is over every limit by as much again.
    """
    if failure.kind in {FailureKind.OVERSIZE, FailureKind.STOPPED} and predicted_bytes is not None:
        over = _relative(predicted_bytes, limits.artifact_bytes)
        return dict(zip(CONSTRAINTS, (over, 0.0, 0.0), strict=True))
    return dict.fromkeys(CONSTRAINTS, UNKNOWN_VIOLATION)


def _relative(value: float, limit: float) -> float:
    return min(max(value / limit - 1.0, -1.0), 10.0)
