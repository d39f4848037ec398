"""Predicted bytes, put right by what a study has measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from search.size import expected_steps, predicted_bytes, predicted_weight_bytes
from search.trials import NOTHING_SET, RUN_SET, TrialRow, recipe_of
from trainer.config import Budget, Recipe

PRIOR_PAIRS = 2  # how many pairs the prediction itself counts as
MOST_CORRECTION = 0.2  # of a pair and of the result, as a logarithm: beyond it something else is wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class SizePair:
    """Weight bytes of one run.

    Attributes:
        kind: what the error of a prediction goes with.
    """

    kind: str
    predicted: float
    measured: float


def kind_of(recipe: Recipe) -> str:
    """Recipes of one kind are mispredicted alike: by how they are clipped and compressed."""
    quant = recipe.quant
    floored = " floored" if quant.scale_is_floored else ""
    return f"{quant.clip.value}{floored} {recipe.compressor.value} {recipe.layout.value}"


def correction(pairs: Sequence[SizePair], kind: str) -> float:
    """What to multiply predicted weight bytes of a kind with; 1 without pairs.

    The mean logarithm of measured / predicted over all pairs, drawn towards 0, and that of the kind's own, drawn
    towards it: a kind that was never measured is taken for as wrong as the others.
    """
    errors = [(pair.kind, _bounded(math.log(pair.measured / pair.predicted))) for pair in pairs]
    overall = sum(error for _, error in errors) / (len(errors) + PRIOR_PAIRS)
    own = [error for other, error in errors if other == kind]
    return math.exp(_bounded((sum(own) + PRIOR_PAIRS * overall) / (len(own) + PRIOR_PAIRS)))


_correction = lru_cache(maxsize=64)(correction)


def _bounded(logarithm: float) -> float:
    return min(max(logarithm, -MOST_CORRECTION), MOST_CORRECTION)


def pairs_of(rows: Sequence[TrialRow]) -> list[SizePair]:
    """What finished trials measured, beside what is predicted for what they ran and the steps they made.

    Left out are copies of other trials, and recipes with a target of bytes, which meet it whatever is predicted.
    """
    known = [row.attributes for row in rows if row.attributes.get("weight_bytes") and not row.is_copy]
    pairs = [
        _pair_of(one["recipe"], one.get(RUN_SET, NOTHING_SET), one["steps"], one["weight_bytes"])
        for one in known
        if "recipe" in one
    ]
    return [pair for pair in pairs if pair is not None]


@lru_cache(maxsize=4096)
def _pair_of(recipe_json: str, run_set: str, steps: int, measured: int) -> SizePair | None:
    """A finished trial's pair; None where it has a target.

    Every prediction looks at all trials, and a decision predicts for all: 100 trials took a second without the cache.
    """
    recipe = recipe_of(recipe_json, run_set)
    if recipe.quant.target_bytes is not None:
        return None
    return SizePair(kind=kind_of(recipe), predicted=predicted_weight_bytes(recipe, steps), measured=measured)


def predicted_in_study(recipe: Recipe, code_bytes: int, budget: Budget, rows: Sequence[TrialRow]) -> int:
    """Bytes of a recipe's artifact under a budget, as a study with these trials expects them."""
    factor = _correction(tuple(pairs_of(rows)), kind_of(recipe))
    return predicted_bytes(recipe, code_bytes, expected_steps(recipe, budget), factor)
