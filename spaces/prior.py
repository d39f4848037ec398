"""What is believed before any trial: a usual value for every param, and trials that stay near it. Knows no Optuna."""

import math
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from spaces.fields import SpaceError, default_value, get_value
from spaces.recipes import named_recipe
from spaces.space import Param, Space
from trainer.config import Recipe

# Where a technique that a recipe does not have takes its numbers from: the latest that has it.
LATEST_FIRST = (
    "record_1855",
    "record_1493",
    "record_1218",
    "record_414",
    "record_162",
    "pr333",
    "pr122",
    "pr340",
    "pr163",
    "naive_baseline",
)
WIDTH = 0.2  # standard deviation of a move, as a share of a range


def usual_values(space: Space, centre: Recipe) -> dict[str, Any]:
    """What a trial would suggest for every param to be at centre, or, where centre does not search it, as records do.

    So a technique that a trial turns on starts from the numbers of the latest named recipe that has it on.
    """
    recipes = [centre, *map(named_recipe, LATEST_FIRST)]
    return {param.path: _usual_value(space, param, recipes) for param in space.params}


def _usual_value(space: Space, param: Param, recipes: Sequence[Recipe]) -> Any:
    searched = [recipe for recipe in recipes if space.is_active(param, recipe)]
    for recipe in searched:
        with suppress(SpaceError):  # a study's own domain may leave out what a record has
            return space.to_trial(param, recipe)
    values = [*(get_value(recipe, param.path) for recipe in searched), default_value(param.path)]
    return param.domain.nearest(next((value for value in values if value is not None), None))


@dataclass(frozen=True, slots=True)
class NearTrial:
    """A trial whose params keep their usual values, but for a few that move.

    Attributes:
        usual: value of each param by name.
        moving: names of those that move.
        random: source of where to.
    """

    usual: Mapping[str, Any]
    moving: Set[str]
    random: Random

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The usual number, or one that lies by a normal deviate away from it, inside the range."""
        usual = self.usual[name]
        return self._moved(usual, low, high, log) if name in self.moving and low < high else usual

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """As suggest_float, on the steps of the range, and never the usual number where it moves."""
        usual = self.usual[name]
        if name not in self.moving or low == high:
            return usual
        moved = low + round((self._moved(usual, low, high, log) - low) / step) * step
        others = [value for value in (usual - step, usual + step) if low <= value <= high]
        return self.random.choice(others) if moved == usual else min(moved, high)

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """The usual label, or any other."""
        others = [label for label in choices if label != self.usual[name]]
        return self.random.choice(others) if others and name in self.moving else self.usual[name]

    def _moved(self, usual: float, low: float, high: float, log: bool) -> float:
        start, end, at = (math.log(value) if log else value for value in (low, high, usual))
        moved = at
        while not (start <= moved <= end) or moved == at:
            moved = self.random.gauss(at, WIDTH * (end - start))
        return min(max(math.exp(moved) if log else moved, low), high)
