"""What the joint model says of scores in a later rung: of recipes by their params, where proxies alone calibrate less.

A recipe whose params are near those of good dear runs is expected to be good however mediocre its proxy, and the other
way round. Pure functions over rows: the model is fitted anew each time, so that any process comes to the same answer.
"""

from collections.abc import Sequence

import numpy as np

from search.calibration import Posterior
from search.encoding import Encoder
from search.joint_model import MOST_RUNS, Runs, fit_joint, middle_of, unit_of
from search.trials import TrialRow

SOURCE, TARGET = 0, 1  # rungs of the model


def joint_posterior(
    encoder: Encoder, source: Sequence[TrialRow], target: Sequence[TrialRow], candidates: Sequence[TrialRow]
) -> Posterior | None:
    """Of the scores that candidates would have in the target; None where the model cannot say.

    That is without a dear run in the space, with too many runs, and where a candidate lies outside the space: its
    posterior could only come from elsewhere, and would not compare with the others'.

    Args:
        source, target: trials; those not measured, copies and those outside the space tell nothing.
    """
    rungs = ((SOURCE, source), (TARGET, target))
    known = [(rung, row) for rung, rows in rungs for row in rows if row.params and row.is_measured]
    has_dear = any(rung == TARGET for rung, _ in known)
    if not has_dear or len(known) > MOST_RUNS or not all(row.params for row in candidates):
        return None
    return _fitted(_runs(encoder, known), encoder, candidates)


def _runs(encoder: Encoder, known: Sequence[tuple[int, TrialRow]]) -> Runs:
    return Runs(
        points_ND=encoder.points([row.params for _, row in known]),
        rungs_N=np.array([rung for rung, _ in known]),
        scores_N=np.array([row.attributes["val_bpb"] for _, row in known]),
    )


def _fitted(runs: Runs, encoder: Encoder, candidates: Sequence[TrialRow]) -> Posterior:
    """In bits per byte. Bad scores stay compressed: what they become says too little to be worth stretching."""
    model = fit_joint(runs, num_rungs=2)
    means, deviations = model.predict(encoder.points([row.params for row in candidates]), TARGET)
    unit = unit_of(runs.scores_N, runs.rungs_N)
    middle = middle_of(runs.scores_N, runs.rungs_N, TARGET)
    return Posterior(means=middle + unit * means, sds=unit * deviations)
