"""How many bytes runs of one recipe differ by from seed to seed, and whether its further seeds will keep the limit.

The deviation goes with the root of the weights' bytes, for all sizes: it is 2.2 and 2.0 times the root in H100 runs of
12 and 14 MB, 1.4 times in public records of 16 MB, and 1.5 times in CPU runs of 31 KB (median 1.0), which as a share of
the bytes is from 0.03 % to 1 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from search.trials import TrialRow

# What is taken for granted before a study has repeats, as if seen in so many differences between runs.
PRIOR_RATIO, PRIOR_FREEDOM = 2.0, 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scatter:
    """What seeds do to bytes.

    Attributes:
        ratio: deviation of a run's bytes over the root of its weights' bytes.
        freedom: differences between runs that it was seen in.
    """

    ratio: float
    freedom: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedBytes:
    """The bytes of a recipe's artifact.

    Attributes:
        measured: of its runs.
        unit: root of its weights' bytes; 0 where seeds do not matter.
        missing: runs that it is still to have.
    """

    measured: Sequence[int]
    unit: float
    missing: int


def scatter_of(rows: Sequence[TrialRow]) -> Scatter:
    """What seeds do to bytes, by all recipes that ran with several in one rung."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        weight_bytes = row.attributes.get("weight_bytes")
        if weight_bytes and not row.is_copy and not _has_target(row):
            groups.setdefault((row.rung, row.attributes["recipe_hash"]), []).append(weight_bytes)
    squares = sum(float(np.var(group)) * len(group) / fmean(group) for group in groups.values())
    freedom = PRIOR_FREEDOM + sum(len(group) - 1 for group in groups.values())
    return Scatter(ratio=math.sqrt((PRIOR_FREEDOM * PRIOR_RATIO**2 + squares) / freedom), freedom=freedom)


def seed_bytes(runs: Sequence[TrialRow], seeds: Sequence[int]) -> SeedBytes:
    """The bytes of one recipe's measured runs, and how many of the seeds it has yet to run with."""
    present = {row.attributes.get("seed") for row in runs}
    weights = [row.attributes["weight_bytes"] for row in runs if row.attributes.get("weight_bytes")]
    is_fixed = not weights or _has_target(runs[0])
    return SeedBytes(
        measured=[row.artifact_bytes for row in runs if row.artifact_bytes is not None],
        unit=0.0 if is_fixed else math.sqrt(fmean(weights)),
        missing=sum(seed not in present for seed in seeds),
    )


def fitting_draws(
    recipe: SeedBytes, limit: int, scatter: Scatter, draws: int, chance: np.random.Generator
) -> NDArray[np.bool_]:
    """In which of some draws from the posterior all seeds of a recipe keep the limit; runs that it has are known.

    Bytes are normal about the recipe's mean, of which nothing is known but its runs.
    """
    if max(recipe.measured, default=0) > limit:
        return np.zeros(draws, dtype=np.bool_)
    if not recipe.missing or not recipe.unit:
        return np.ones(draws, dtype=np.bool_)
    deviations = recipe.unit * scatter.ratio * np.sqrt(scatter.freedom / chance.chisquare(scatter.freedom, draws))
    means = fmean(recipe.measured) + deviations / math.sqrt(len(recipe.measured)) * chance.standard_normal(draws)
    all_fit = ndtr((limit - means) / deviations) ** recipe.missing
    return chance.random(draws) < all_fit


def _has_target(row: TrialRow) -> bool:
    """Whether a recipe prunes its weights until they have the bytes that it wants."""
    return row.recipe is not None and row.recipe.quant.target_bytes is not None
