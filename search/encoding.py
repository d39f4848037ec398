"""Params of a trial as points for a model: each spans 0 to 1, on the scale on which it is searched."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.space import Choice, Domain, Integer, Real, Space

Array = NDArray[np.float64]

ONE_HOT = math.sqrt(0.5)  # so that two labels are 1 apart
UNUSED = 0.5  # where a recipe has no use for a param


class Encoder:
    """Makes points of params: a number is its place in its range; a label its place among numbers, or an axis."""

    def __init__(self, space: Space) -> None:
        self._domains: Mapping[str, Domain] = {param.path: param.domain for param in space.params}
        self.dimensions = len(self._encoded({}))

    def points(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Points (N, D) of trials with these params; what a trial does not suggest lies in the middle."""
        return np.array([self._encoded(one) for one in params]).reshape(len(params), self.dimensions)

    def _encoded(self, params: Mapping[str, Any]) -> list[float]:
        return [place for path, domain in self._domains.items() for place in places(domain, params.get(path))]


def places(domain: Domain, value: Any) -> list[float]:
    """A value's coordinates; None is in the middle."""
    if isinstance(domain, Choice):
        return _label_places(list(domain.options), value)
    if domain.low == domain.high:
        return []
    return [UNUSED if value is None else place_of(domain, value)]


def place_of(domain: Real | Integer, value: float) -> float:
    """Where a number lies in its range, from 0 to 1."""
    if domain.log:
        return math.log(value / domain.low) / math.log(domain.high / domain.low)
    return (value - domain.low) / (domain.high - domain.low)


def value_at(domain: Real | Integer, place: float) -> float | int:
    """The number that lies at a place of a range."""
    if domain.log:
        return domain.nearest(domain.low * (domain.high / domain.low) ** place)
    return domain.nearest(domain.low + (domain.high - domain.low) * place)


def _label_places(labels: Sequence[str], value: Any) -> list[float]:
    """Numbers lie in a row, two labels at its ends, more labels on an axis each."""
    if len(labels) == 1:
        return []
    if len(labels) == 2 or all(map(_is_number, labels)):
        ranked = sorted(labels, key=float) if all(map(_is_number, labels)) else list(labels)
        return [UNUSED if value is None else ranked.index(value) / (len(ranked) - 1)]
    return [ONE_HOT * (label == value) for label in labels]


def _is_number(label: str) -> bool:
    try:
        float(label)
    except ValueError:
        return False
    return True
