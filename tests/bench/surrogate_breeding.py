"""More recipes where strategies will look: children of the best so far, on both sides of the cap.

An even sample of twelve dimensions has few good recipes, and a regression would be guessing just where it counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bench.surrogate_space import ARTIFACT_CAP, BASE, DRAW_SEED, SPACE

from trainer.config import Recipe

FOUNDERS = 128  # recipes of the even sample that the first generation may descend from
FIRST_NUMBER = 1000  # of the first generation's children; the next one's start at 2000, and so on
GENERATION = 12
PARENTS = 8
MUTATION = 0.1  # share of values that come from anyone in the table

Row = Mapping[str, str]


@dataclass
class Child:
    """A trial whose values come from other trials; keeps what it suggested."""

    parents: Sequence[Row]
    anyone: Sequence[Row]
    chance: np.random.Generator
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number that another trial has, as all three do."""
        return self.values.setdefault(name, float(self.inherit(name)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number."""
        return self.values.setdefault(name, int(self.inherit(name)))

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """A label."""
        return self.values.setdefault(name, self.inherit(name))

    def inherit(self, name: str) -> str:
        """The value of one parent or, at times, of anyone; of anyone too where no parent has it."""
        is_mutant = self.chance.random() < MUTATION
        pool = [row for row in self.parents if row[name]]
        if is_mutant or not pool:
            pool = [row for row in self.anyone if row[name]]
        return pool[self.chance.integers(len(pool))][name]


def bred_recipes(rows: Sequence[Row], generation: int) -> Iterator[tuple[int, dict[str, Any], Recipe]]:
    """Number, values and recipe of each child of a generation, from the runs of founders and older generations.

    Args:
        rows: the table; parents are judged by the first seed at the largest budget.
    """
    first = FIRST_NUMBER * generation
    judged = [row for row in rows if (row["fidelity"], row["seed"]) == ("2", "0") and not row["failure"]]
    older = [row for row in judged if int(row["recipe"]) in {*range(FOUNDERS), *range(FIRST_NUMBER, first)}]
    before = sorted(older, key=lambda row: float(row["val_bpb"]))
    small = [row for row in before if int(row["weight_bytes"]) + int(row["code_bytes"]) <= ARTIFACT_CAP]
    for number in range(first, first + GENERATION):
        chance = np.random.default_rng([DRAW_SEED, number])
        best = (small if number % 2 else before)[:PARENTS]
        mother, father = chance.choice(len(best), 2, replace=False)
        child = Child([best[mother], best[father]], before, chance)
        recipe = SPACE.suggest(child, BASE)
        yield number, child.values, recipe
