"""How far below the limit of bytes a solved size aims: as far as the study's own predictions have been wrong."""

import math
from collections.abc import Sequence
from statistics import fmean

from scipy.special import stdtrit

from search.size import predicted_weight_bytes
from search.trials import TrialRow

FITTING_FRACTION = 0.95  # of solved recipes that are to keep the limit
LATEST = 20  # runs that count: earlier ones were predicted with less correction
# What is taken for granted before a study has runs: predictions are right within 1 %, as if seen in three runs.
PRIOR_STD = 0.01
PRIOR_RUNS = 3
PRIOR_MEAN_RUNS = 2  # and on average right, as if seen in two
MOST_MARGIN = 0.2


def margin_fraction(rows: Sequence[TrialRow]) -> float:
    """The share of the limit to stay below it by.

    The 95 % quantile of the next run's error, log(measured / predicted), as Student's t has it for normal errors whose
    mean and deviation are not known, each drawn towards the prior above. Errors hold what seeds do to bytes beside what
    the prediction does not know. Runs that come out smaller than predicted on average earn no credit: predictions are
    for the last rung's budget, and runs on a smaller one may be smaller. 2.9 % without runs; 1.0 % after 20 that were
    right within 0.5 %.
    """
    errors = prediction_errors(rows)[-LATEST:]
    count = len(errors) + PRIOR_MEAN_RUNS
    mean = sum(errors) / count
    own = fmean(errors) if errors else 0.0
    squares = sum((error - own) ** 2 for error in errors)
    freedom = PRIOR_RUNS + len(errors)
    std = math.sqrt((PRIOR_RUNS * PRIOR_STD**2 + squares) / freedom * (1 + 1 / count))
    return min(max(mean, 0.0) + float(stdtrit(freedom, FITTING_FRACTION)) * std, MOST_MARGIN)


def prediction_errors(rows: Sequence[TrialRow]) -> list[float]:
    """Of each run that was measured, by trial number: the logarithm of its bytes over those predicted when it started.

    Left out are copies of other trials, recipes with a target of bytes, which meet it whatever is predicted, and runs
    in which a rung set what decides bytes: the prediction was for the trial's recipe.
    """
    return [
        math.log(row.artifact_bytes / row.attributes["predicted_bytes"])
        for row in rows
        if row.artifact_bytes and row.attributes.get("predicted_bytes") and not row.is_copy
        if _was_run_as_predicted(row)
    ]


def _was_run_as_predicted(row: TrialRow) -> bool:
    recipe, run = row.recipe, row.run_recipe
    if recipe is None or run is None or run.quant.target_bytes is not None:
        return False
    steps = row.attributes.get("steps")
    return run == recipe or predicted_weight_bytes(run, steps) == predicted_weight_bytes(recipe, steps)
