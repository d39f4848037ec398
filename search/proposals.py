"""Turns asks into recipes worth a run; a proposal that is not is told at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from search.plan import twin_of
from search.promote import FindParams
from search.spec import RungSpec, StudySpec
from search.study import RungStudy
from search.trials import TrialRow
from spaces.fields import SpaceError, recipe_from_dict, recipe_hash
from spaces.space import Space
from trainer.config import Recipe, check_fits
from trainer.errors import ConfigError
from trainer.result import Failure, FailureKind

MAX_REPEATS = 5  # proposals in a row that name known recipes; the next one is told its twin's result


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """A RUNNING trial that is to be run."""

    number: int
    recipe: Recipe
    seed: int


class Unrun(StrEnum):
    """Why an ask gave nothing to run."""

    TOLD = "told"  # invalid, or known: told without a run, and counted
    DROPPED = "dropped"  # a repeat; ask again
    EXHAUSTED = "exhausted"  # only repeats of what runs now; ask again when something has finished


def params_finder(spec: StudySpec) -> FindParams:
    """A function that gives the point of the study's space that suggests a recipe, {} for a recipe outside of it."""
    space, base = spec.build_space(), spec.base_recipe()

    def params_of(recipe: Recipe) -> Mapping[str, Any]:
        try:
            return space.fix(recipe, base)
        except SpaceError:
            return {}

    return params_of


class Proposals:
    """Asks one rung's study for recipes, each of which runs once.

    Attributes:
        latest: number of the trial that was asked for last.
    """

    def __init__(self, study: RungStudy, spec: StudySpec, rung: RungSpec) -> None:
        self._study = study
        self._space: Space = spec.build_space()
        self._base: Recipe = spec.base_recipe()
        self.params_of = params_finder(spec)
        self._seed = rung.seeds[0]
        self._budget = rung.to_budget()
        self._repeats = 0
        self.latest = -1

    def next(self, resumed: int | None = None) -> Proposal | Unrun:
        """The next recipe to run: of a trial left over from an earlier driver, of the queue, or a new one."""
        trial = self._study.ask() if resumed is None else self._study.resume(resumed)
        self.latest = trial.number
        if "copied_from" in trial.user_attrs:  # dropped by an earlier driver that died before it could tell
            self._study.tell_duplicate(trial.number, self._study.rows()[trial.user_attrs["copied_from"]])
            return Unrun.DROPPED
        try:
            recipe = self._recipe_of(trial)
            check_fits(recipe, self._budget)
        except ConfigError as error:
            self._study.describe(trial.number, seed=trial.user_attrs.get("seed", self._seed))
            self._study.tell(trial.number, Failure(kind=FailureKind.CONFIG, message=str(error)))
            return Unrun.TOLD
        seed = trial.user_attrs.get("seed", self._seed)
        twin = twin_of(self._study.rows(), trial.number, (recipe_hash(recipe), seed))
        self._study.describe_recipe(trial.number, recipe, seed)
        if twin is not None:
            return self._repeat(trial.number, twin)
        self._repeats = 0
        return Proposal(number=trial.number, recipe=recipe, seed=seed)

    def _recipe_of(self, trial: Any) -> Recipe:
        """What a trial trains; its params are suggested in any case where the space has them."""
        given = trial.user_attrs.get("recipe")
        if given is None:
            return self._space.suggest(trial, self._base)
        recipe = recipe_from_dict(json.loads(given))
        if self.params_of(recipe):
            self._space.suggest(trial, self._base)
        return recipe

    def _repeat(self, number: int, twin: TrialRow) -> Unrun:
        self._repeats += 1
        if self._repeats > MAX_REPEATS and not twin.is_open:
            self._study.tell_copy(number, twin)
            return Unrun.TOLD
        self._study.tell_duplicate(number, twin)
        return Unrun.EXHAUSTED if self._repeats > MAX_REPEATS else Unrun.DROPPED
