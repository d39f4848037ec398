"""Why a trial is in a rung, as it is stored with the trial and shown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from search.trials import TrialRow

ATTRIBUTE = "decision"  # of a trial, in the database


class Reason(StrEnum):
    """What put a recipe, or a further seed of one, into a rung."""

    ANCHOR = "anchor"  # a named recipe, to calibrate proxies by
    LCB = "lcb"  # best lower confidence bound of the calibrated posterior
    RANDOM = "random"  # drawn from the better half, so that the rank correlation stays unbiased
    TOP = "top"  # best proxy score
    SEEDS = "seeds"  # another seed of a recipe that may be the best
    USER = "user"  # asked for by name


@dataclass(frozen=True, kw_only=True, slots=True)
class Considered:
    """A recipe that a decision looked at.

    Attributes:
        trial: rung/number of its trial.
        mean, sd: of the posterior of its score in the rung it would go to; None where nothing was modelled.
    """

    trial: str
    mean: float | None = None
    sd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """That a recipe is to run in a rung.

    Attributes:
        source: a trial of the recipe, in this rung or the one before.
        chosen: what was known of it.
        alternatives: the best of those not taken.
        promoted_from: rung/number of the trial in the rung before.
    """

    source: TrialRow
    chosen: Considered
    reason: Reason
    seed: int
    alternatives: Sequence[Considered] = ()
    promoted_from: str | None = None

    def attribute(self) -> dict[str, Any]:
        """The part of it that is stored with the trial, as JSON."""
        return {
            "reason": self.reason.value,
            "mean": self.chosen.mean,
            "sd": self.chosen.sd,
            "alternatives": [asdict(one) for one in self.alternatives],
        }


def reason_of(row: TrialRow) -> Reason | None:
    """Why a trial is in its rung; None for a proposal, and for a trial of a study from before reasons were kept."""
    stored: Mapping[str, Any] | None = row.attributes.get(ATTRIBUTE)
    return None if stored is None else Reason(stored["reason"])
