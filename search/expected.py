"""A recipe that is expected to beat the winner in the last rung, where it has not been measured.

The winner is what runs have shown. Early in a study that is the best of a few, some of them there to calibrate, while
the model of all runs already knows better ones; late, a recipe may have come in when the slots were used up. Whoever
stops then should be told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.encoding import Encoder
from search.fallback import taking_part
from search.joint_promotion import joint_posterior
from search.spec import StudySpec
from search.trials import TrialRow, TrialStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A recipe, and the score that it is expected to have in another rung.

    Attributes:
        row: its run in the rung before.
        rung: where it is expected to beat the winner.
        mean, sd: of the posterior of its val_bpb there.
        is_due: whether it is queued there or runs.
    """

    row: TrialRow
    rung: str
    mean: float
    sd: float
    is_due: bool

    def facts(self) -> dict[str, Any]:
        """The same as JSON."""
        whole = {"from": self.row.rung, "trial": self.row.number, "rung": self.rung}
        return {**whole, "val_bpb": self.mean, "sd": self.sd, "is_due": self.is_due}


def expected_better(
    spec: StudySpec, rungs: Mapping[str, Sequence[TrialRow]], winner: TrialRow | None
) -> Expected | None:
    """The best of those that are expected to beat the winner by a standard deviation; None where there is none.

    It takes the joint model, and a rung before the winner's.

    Args:
        rungs: trials by rung.
        winner: the best run of the study's winner, if it has one.
    """
    names = taking_part(rungs)
    if spec.sampler_kind != "joint" or winner is None or winner.rung == names[0]:
        return None
    source, target = rungs[names[names.index(winner.rung) - 1]], rungs[winner.rung]
    ended = {row.attributes.get("recipe_hash") for row in target if not row.is_open}
    candidates = [
        row
        for row in source
        if row.status is TrialStatus.FEASIBLE and not row.is_copy and row.params
        if row.attributes["recipe_hash"] not in ended
    ]
    posterior = joint_posterior(Encoder(spec.build_space()), source, target, [*candidates, winner])
    if posterior is None or not candidates:
        return None
    cautious = posterior.means + posterior.sds
    place = int(np.argmin(cautious[:-1]))
    if cautious[place] >= posterior.means[-1]:
        return None
    row = candidates[place]
    return Expected(
        row=row,
        rung=winner.rung,
        mean=float(posterior.means[place]),
        sd=float(posterior.sds[place]),
        is_due=row.attributes["recipe_hash"] in {one.attributes.get("recipe_hash") for one in target if one.is_open},
    )
