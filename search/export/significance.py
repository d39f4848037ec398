"""Whether the seeds beat a reference score by the challenge's margin, and how sure that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from search.errors import SubmissionError
from search.export.claim import Claim, Reference
from trainer.result import Measurement

RECORD_MARGIN = 0.005  # nats per token by which a record must be better
RECORD_P = 0.01
SMALLEST_SPREAD = 1e-9  # nats; below it the seeds are one run told several times
RATIO_TOLERANCE = 1e-4  # runs scored on the same tokens agree to rounding


@dataclass(frozen=True, kw_only=True, slots=True)
class Significance:
    """A one-sided one-sample t-test of the losses of seeds against a reference less the margin; nats per token.

    Attributes:
        reference_loss: as given, or converted from bits per byte.
        reference_bpb: as given; None where a loss was given.
        mean, std: of the seeds; std is the sample standard deviation.
        p: probability of a mean this low or lower, were the true mean reference_loss - RECORD_MARGIN.
    """

    reference_loss: float
    reference_bpb: float | None
    num_seeds: int
    mean: float
    std: float
    t: float
    p: float

    @property
    def threshold(self) -> float:
        """The loss to be below."""
        return self.reference_loss - RECORD_MARGIN

    @property
    def is_significant(self) -> bool:
        """Whether the challenge would take it for a record."""
        return self.p < RECORD_P


def significance(claim: Claim) -> Significance | None:
    """The test of a claim against its reference; None where it has none.

    Raises:
        SubmissionError: fewer than two seeds, seeds without spread, or runs that were not scored on the same tokens.
    """
    reference = claim.entry.reference
    if reference is None:
        return None
    loss = reference_loss(reference, claim.measurements)
    losses = [one.val_loss for one in claim.measurements]
    t, p = t_test(losses, loss - RECORD_MARGIN)
    return Significance(
        reference_loss=loss,
        reference_bpb=reference.bpb,
        num_seeds=len(losses),
        mean=fmean(losses),
        std=stdev(losses),
        t=t,
        p=p,
    )


def t_test(losses: Sequence[float], threshold: float) -> tuple[float, float]:
    """Student's t and the one-sided p that the mean of losses is below threshold.

    Raises:
        SubmissionError: fewer than two losses, or all the same.
    """
    if len(losses) < 2:
        raise SubmissionError(f"reference: expected at least two seeds to test it with, got {len(losses)}")
    if max(losses) - min(losses) < SMALLEST_SPREAD:
        raise SubmissionError(f"reference: expected losses that differ by seed, got {len(losses)} times {losses[0]}")
    import scipy.stats  # takes a second, and few exports need it

    result: Any = scipy.stats.ttest_1samp(losses, popmean=threshold, alternative="less")
    return float(result.statistic), float(result.pvalue)


def reference_loss(reference: Reference, measurements: Sequence[Measurement]) -> float:
    """The reference in nats per token of these runs' tokenizer.

    Bits per byte are converted by the ratio of the two in the runs, which the scored text and its tokens fix.

    Raises:
        SubmissionError: the runs' ratios differ, so they were not scored on the same tokens.
    """
    if reference.loss is not None:
        return reference.loss
    assert reference.bpb is not None, "a reference has one of the two"
    ratios = [one.val_loss / one.val_bpb for one in measurements]
    if not math.isclose(min(ratios), max(ratios), rel_tol=RATIO_TOLERANCE):
        raise SubmissionError(
            "reference: expected one ratio of val_loss to val_bpb in all runs, since they score the same tokens,"
            f" got {min(ratios):.6f} to {max(ratios):.6f}"
        )
    return reference.bpb * fmean(ratios)
