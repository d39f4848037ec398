"""How alike recipes are: by architecture family, and by all that they differ in."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.fields import flat, recipe_to_dict
from trainer.config import Recipe

Array = NDArray[np.float64]


def family_of(recipe: Recipe) -> str:
    """The architecture family: which switchable parts of the model are on, and of which kinds; sizes do not count."""
    leaves = flat(recipe_to_dict(recipe)["model"])
    return " ".join(f"{path}={value}" for path, value in sorted(leaves.items()) if _is_kind(value))


def similarity(recipes: Sequence[Recipe]) -> Array:
    """(n, n) similarities of recipes, 1 for equal ones, falling with the fields that they differ in.

    exp(-d / median d) of Gower's distance d: each field that differs at all adds up to 1, numbers by how much of the
    recipes' range (of its logarithm where all are positive) lies between them, everything else 1 where it differs.
    Such a kernel is positive semidefinite.
    """
    leaves = [_leaves(recipe) for recipe in recipes]
    paths = sorted({path for one in leaves for path in one})
    distance = np.zeros((len(recipes), len(recipes)))
    for path in paths:
        values = [one.get(path, _ABSENT) for one in leaves]
        if any(value != values[0] for value in values):
            distance += _distance(values)
    others = distance[np.triu_indices(len(recipes), 1)]
    scale = float(np.median(others)) if len(others) else 0.0
    return np.exp(-distance / scale) if scale else np.ones_like(distance)


_ABSENT = "absent"


def _distance(values: Sequence[Any]) -> Array:
    """Pairwise distances of one field's values."""
    if any(not _is_number(value) for value in values):
        labels = np.array([str(value) for value in values])
        return (labels[:, None] != labels[None, :]).astype(np.float64)
    is_positive = min(values) > 0
    numbers = np.array([math.log(value) if is_positive else float(value) for value in values])
    return np.abs(numbers[:, None] - numbers[None, :]) / (numbers.max() - numbers.min())


@lru_cache(maxsize=4096)
def _leaves(recipe: Recipe) -> dict[str, Any]:
    return flat(recipe_to_dict(recipe))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_kind(value: Any) -> bool:
    return value is None or isinstance(value, bool | str)
