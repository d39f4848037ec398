"""Solved size: one field of each proposed recipe is computed so that its predicted bytes come to the limit.

Proposals then compete at equal bytes, the sampler has one param and one constraint less to learn, and hardly any is
infeasible.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.solve_margin import margin_fraction
from search.trials import TrialRow
from spaces.fields import default_value, get_value, optional_parent, plain_type, require_path, set_values
from trainer.config import Recipe
from trainer.errors import ConfigError

NUM_REAL_VALUES = 2**12  # of a field without steps: 4 kB apart where the range is worth the whole limit
NUM_CHECKED = 7  # values, over the range, at which bytes must keep rising or falling
TOLERANCE = 0.002  # a turn by so much of the bytes is none: compressors and corrections are chosen by recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class SolvedParam:
    """The field that is solved.

    Attributes:
        step: distance of values; None leaves a real field without steps, and is 1 for a whole number.
        when: whether a recipe makes use of the field; None where each does, if it has it.
    """

    path: str
    low: float
    high: float
    step: float | None = None
    when: Callable[[Recipe], bool] | None = None

    @property
    def num_values(self) -> int:
        """How many values there are from low to high."""
        if self._step is None:
            return NUM_REAL_VALUES
        return int((self.high - self.low) / self._step + 1e-9) + 1

    def value_at(self, index: int) -> float | int:
        """The value number index, from low; six digits, so that it reads the same everywhere."""
        step = (self.high - self.low) / (NUM_REAL_VALUES - 1) if self._step is None else self._step
        value = self.low + index * step
        return round(value) if self._is_whole else float(f"{value:.6g}")

    def is_active(self, recipe: Recipe) -> bool:
        """Whether the recipe has the field and makes use of it."""
        parent = optional_parent(self.path)
        is_there = parent is None or get_value(recipe, parent) is not None
        return is_there and (self.when is None or self.when(recipe))

    def unsolved(self, recipe: Recipe, base: Recipe) -> Recipe:
        """The recipe with the value from which it was solved: the base's, or a fresh sub-config's."""
        parent = optional_parent(self.path)
        if parent is None:
            return set_values(recipe, {self.path: get_value(base, self.path)})
        if get_value(recipe, parent) is None:
            return recipe
        is_in_base = get_value(base, parent) is not None
        return set_values(recipe, {self.path: get_value(base, self.path) if is_in_base else default_value(self.path)})

    @property
    def _is_whole(self) -> bool:
        return plain_type(require_path(self.path)) is int

    @property
    def _step(self) -> float | None:
        return 1.0 if self.step is None and self._is_whole else self.step


@dataclass(frozen=True, kw_only=True, slots=True)
class Solved:
    """A recipe whose field has been solved.

    Attributes:
        predicted_bytes: of the recipe; over the limit where no value of the field fits.
        margin: share of the limit that it was to stay below the limit by.
    """

    recipe: Recipe
    param: str
    value: float | int
    predicted_bytes: int
    margin: float

    def attribute(self) -> dict[str, Any]:
        """What a trial keeps of it beside the recipe."""
        whole = {"param": self.param, "value": self.value}
        return {**whole, "predicted_bytes": self.predicted_bytes, "margin": round(self.margin, 5)}


class SizeSolver:
    """Solves the size of a study's proposals.

    Args:
        limit: bytes of the artifact.
        predict: artifact bytes of a recipe, given the trials so far.
    """

    def __init__(self, param: SolvedParam, limit: int, predict: Callable[[Recipe, Sequence[TrialRow]], int]) -> None:
        self.param = param
        self._limit = limit
        self._predict = predict

    def solve(self, recipe: Recipe, rows: Sequence[TrialRow]) -> Solved | None:
        """The recipe with the value that predicted bytes are the most for, within the limit less a margin.

        The value of fewest bytes where each is predicted to be over that. A target of bytes in the recipe is not
        looked at: it would cut any size down to itself.

        Returns:
            None where the recipe has no use for the field.

        Raises:
            ConfigError: bytes neither rise nor fall with the field, or a value contradicts the recipe.
        """
        if not self.param.is_active(recipe):
            return None
        margin = margin_fraction(rows)

        def bytes_at(index: int) -> int:
            return self._bytes_at(recipe, rows, index)

        direction = self._direction(bytes_at)
        if direction == 0:
            return None
        by_bytes = range(self.param.num_values)[::direction]
        num_fitting = bisect_right(by_bytes, int(self._limit * (1 - margin)), key=bytes_at)
        index = by_bytes[max(num_fitting - 1, 0)]
        value, predicted = self.param.value_at(index), bytes_at(index)
        return Solved(
            recipe=set_values(recipe, {self.param.path: value}),
            param=self.param.path,
            value=value,
            predicted_bytes=predicted,
            margin=margin,
        )

    def fits(self, recipe: Recipe, rows: Sequence[TrialRow]) -> bool:
        """Whether some value is predicted to fit, at the cost of two predictions."""
        if not self.param.is_active(recipe):
            return self._predict(recipe, rows) <= self._limit
        ends = (0, self.param.num_values - 1)
        return min(self._bytes_at(recipe, rows, index) for index in ends) <= self._limit * (1 - margin_fraction(rows))

    def _bytes_at(self, recipe: Recipe, rows: Sequence[TrialRow], index: int) -> int:
        values = {self.param.path: self.param.value_at(index), "quant.target_bytes": None}
        return self._predict(set_values(recipe, values), rows)

    def _direction(self, bytes_at: Callable[[int], int]) -> int:
        """1 where bytes rise with the field, -1 where they fall, 0 where they stay."""
        last = self.param.num_values - 1
        found = [bytes_at(round(last * place / (NUM_CHECKED - 1))) for place in range(NUM_CHECKED)]
        slack = TOLERANCE * max(found)
        is_rising = all(after >= before - slack for before, after in itertools.pairwise(found))
        is_falling = all(after <= before + slack for before, after in itertools.pairwise(found))
        if not (is_rising or is_falling):
            expected = f"bytes must rise or fall from {self.param.low:g} to {self.param.high:g} to be solved"
            raise ConfigError(f"{self.param.path}: {expected}, got {', '.join(f'{number:,}' for number in found)}")
        return (found[-1] > found[0]) - (found[-1] < found[0])
