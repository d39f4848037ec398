"""A recipe that is expected to beat the winner in the last rung, where it has not been measured.

The winner is what runs have shown. Early in a study that is the best of a few, some of them there to calibrate, while
the model of all runs already knows better ones; late, a recipe may have come in when the slots were used up. Whoever
stops then should be told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from search.encoding import Encoder
from search.entrants import MEASURED
from search.fallback import taking_part
from search.joint_promotion import joint_posterior
from search.spec import StudySpec
from search.trials import TrialRow, TrialStatus
from search.winner import Terms, standings


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
    spec: StudySpec, rungs: Mapping[str, Sequence[TrialRow]], terms: Mapping[str, Terms]
) -> Expected | None:
    """The best of those that are expected to beat the winner by a standard deviation; None where there is none.

    It takes the joint model, and a winner of a rung that has one before it.

    Args:
        rungs: trials by rung.
        terms: of each rung.
    """
    if spec.sampler_kind != "joint":
        return None
    for low, high in reversed(list(pairwise(taking_part(rungs)))):
        if found := standings(rungs[high], terms[high]):
            return _better(Encoder(spec.build_space()), rungs[low], rungs[high], found[0].row)
    return None


def _better(
    encoder: Encoder, source: Sequence[TrialRow], target: Sequence[TrialRow], winner: TrialRow
) -> Expected | None:
    ended = {row.attributes.get("recipe_hash") for row in target if not row.is_open}
    candidates = [
        row
        for row in _measured(source)
        if row.status is TrialStatus.FEASIBLE and row.params and row.attributes["recipe_hash"] not in ended
    ]
    posterior = joint_posterior(encoder, _measured(source), _measured(target), [*candidates, winner])
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


def _measured(rows: Sequence[TrialRow]) -> list[TrialRow]:
    return [row for row in rows if row.status in MEASURED and not row.is_copy]
