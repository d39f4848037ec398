"""What a loss on the way says of the score at the end: a robust line through finished runs, and their spread.

Scores have a long tail upwards (a quantizer that fails costs more than any learning rate), which says nothing about how
far below the line a run may end. So the line is that of Theil and Sen, which a quarter of outliers does not move, and
the spread is that of the runs that ended better than it says.

Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, 1968.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

FEWEST = 8  # points that a line is fitted to


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveModel:
    """Final val_bpb as a line in the training loss on the way.

    Attributes:
        spread: standard deviation of the runs that ended better than the line says, in BPB.
        freedom: their number less one.
        mean_loss, sum_of_squares: of the losses that it was fitted to.
    """

    slope: float
    intercept: float
    spread: float
    freedom: int
    num_runs: int
    mean_loss: float
    sum_of_squares: float

    def expected(self, loss: float) -> float:
        """The final val_bpb on the line."""
        return self.intercept + self.slope * loss

    def probability_below(self, val_bpb: float, loss: float) -> float:
        """Probability that a run with this loss ends at or below a val_bpb: Student's t about the line."""
        from scipy.special import stdtr  # numpy comes with it: not for commands that never ask

        leverage = 1 / self.num_runs + (loss - self.mean_loss) ** 2 / self.sum_of_squares
        distance = (val_bpb - self.expected(loss)) / (self.spread * math.sqrt(1 + leverage))
        return float(stdtr(self.freedom, distance))


def fit_curve_model(losses: Sequence[float], finals: Sequence[float]) -> CurveModel | None:
    """The line through runs; None where there are too few, or where a lower loss does not mean a lower score."""
    if len(losses) < FEWEST or min(losses) == max(losses):
        return None
    from scipy.stats import theilslopes  # takes a second

    fitted: Any = theilslopes(finals, losses)
    slope = float(fitted.slope)
    if slope <= 0:
        return None
    intercept = median(final - slope * loss for loss, final in zip(losses, finals, strict=True))
    below = [final - slope * loss - intercept for loss, final in zip(losses, finals, strict=True)]
    better = [residual for residual in below if residual <= 0]
    freedom = len(better) - 1  # half of the runs at least, as the intercept is a median
    center = fmean(losses)
    return CurveModel(
        slope=slope,
        intercept=intercept,
        spread=max(math.sqrt(sum(residual**2 for residual in better) / freedom), 1e-9),
        freedom=freedom,
        num_runs=len(losses),
        mean_loss=center,
        sum_of_squares=sum((loss - center) ** 2 for loss in losses),
    )
