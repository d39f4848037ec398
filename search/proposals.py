"""Turns asks into recipes worth a run; a proposal that is not is told at once."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from search.plan import TWIN_STATUSES, twin_of
from search.promote import FindParams
from search.services import Services
from search.solve import SizeSolver, Solved
from search.spec import RungSpec, StudySpec
from search.study import RungStudy
from search.trials import TrialRow, TrialStatus
from spaces.fields import SpaceError, recipe_from_dict, recipe_hash
from spaces.space import Space
from trainer.config import Budget, Recipe, check_fits
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

    TOLD = "told"  # known: told without a run, and counted
    REFUSED = "refused"  # contradicts itself, or is hopelessly large: told without a run; ask again
    DROPPED = "dropped"  # a repeat; ask again
    EXHAUSTED = "exhausted"  # only repeats of what runs now; ask again when something has finished


def params_finder(spec: StudySpec) -> FindParams:
    """A function that gives the point of the study's space that suggests a recipe, {} for a recipe outside of it.

    Any value of the field that the study solves is inside.
    """
    space, base, solved = spec.build_space(), spec.base_recipe(), spec.solved_param()

    def params_of(recipe: Recipe) -> Mapping[str, Any]:
        try:
            return space.fix(recipe if solved is None else solved.unsolved(recipe, base), base)
        except SpaceError:
            return {}

    return params_of


class Proposals:
    """Asks one rung's study for recipes, each of which runs once.

    Attributes:
        latest: number of the trial that was asked for last.
    """

    def __init__(self, study: RungStudy, spec: StudySpec, rung: RungSpec, services: Services) -> None:
        self._study = study
        self._space: Space = spec.build_space()
        self._base: Recipe = spec.base_recipe()
        self.params_of = params_finder(spec)
        self._rung = rung
        self._seed = rung.seeds[0]
        self._budget = rung.to_budget()
        self._limit = spec.limits.artifact_bytes
        self._solver = size_solver(spec, self._budget, services)
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
            recipe, solved = self._recipe_of(trial)
            check_fits(self._rung.run_recipe(recipe), self._budget)
        except ConfigError as error:
            self._study.describe(trial.number, seed=trial.user_attrs.get("seed", self._seed))
            self._study.tell(trial.number, Failure(kind=FailureKind.CONFIG, message=str(error)))
            return Unrun.REFUSED
        seed = trial.user_attrs.get("seed", self._seed)
        rows = self._study.rows()
        twin = twin_of(rows, trial.number, (recipe_hash(recipe), seed))
        if solved is not None:
            twin = twin or same_point(rows, trial.number, seed)
            self._study.describe(trial.number, solved=solved.attribute())
        self._study.describe_recipe(trial.number, recipe, seed)
        if twin is not None:
            return self._repeat(trial.number, twin)
        self._repeats = 0
        if solved is not None and solved.predicted_bytes > self._limit:
            return self._refuse(trial.number, solved)
        return Proposal(number=trial.number, recipe=recipe, seed=seed)

    def _recipe_of(self, trial: Any) -> tuple[Recipe, Solved | None]:
        """What a trial trains; its params are suggested in any case where the space has them.

        Its size is solved once: from then on, the trial has a recipe.
        """
        given = trial.user_attrs.get("recipe")
        if given is None:
            recipe = self._space.suggest(trial, self._base)
            solved = self._solver.solve(recipe, self._study.rows()) if self._solver else None
            return (solved.recipe if solved else recipe), solved
        recipe = recipe_from_dict(json.loads(given))
        if self.params_of(recipe):
            self._space.suggest(trial, self._base)
        return recipe, None

    def _refuse(self, number: int, solved: Solved) -> Unrun:
        """Tell a trial for which no value of the solved field fits: it is as far over as with the best of them."""
        message = f"artifact_bytes: must be at most {self._limit:,}, predicted {solved.predicted_bytes:,}"
        why = f"with the best {solved.param}, {solved.value:g}; not run"
        failure = Failure(kind=FailureKind.OVERSIZE, message=f"{message} {why}")
        self._study.tell(number, failure, predicted_bytes=solved.predicted_bytes)
        return Unrun.REFUSED

    def _repeat(self, number: int, twin: TrialRow) -> Unrun:
        self._repeats += 1
        if self._repeats > MAX_REPEATS and not twin.is_open:
            self._study.tell_copy(number, twin)
            return Unrun.TOLD
        self._study.tell_duplicate(number, twin)
        return Unrun.EXHAUSTED if self._repeats > MAX_REPEATS else Unrun.DROPPED


def size_solver(spec: StudySpec, budget: Budget, services: Services) -> SizeSolver | None:
    """What solves the size of a study's proposals; None where it searches sizes.

    All recipes count with the base's code: it is the same but for some values, a few bytes.
    """
    param = spec.solved_param()
    if param is None:
        return None
    base = spec.base_recipe()
    code_bytes = cache(lambda: len(services.bundle(base, budget)))

    def predict(recipe: Recipe, rows: Sequence[TrialRow]) -> int:
        return services.predict_bytes(recipe, code_bytes(), rows)

    return SizeSolver(param, spec.limits.artifact_bytes, predict)


def size_check(
    spec: StudySpec, services: Services, rows: Callable[[], Sequence[TrialRow]]
) -> Callable[[], Callable[[Recipe], bool]]:
    """Makes a check of whether a recipe is predicted to keep its bytes in the last rung, as the trials are then.

    A solved field counts with its best value. One check serves the hundreds of candidates of a proposal: reading the
    trials for each took two thirds of the time of a small study's first proposals.
    """
    budget, base, limit = spec.rungs[0].to_budget(), spec.base_recipe(), spec.limits.artifact_bytes
    solver = size_solver(spec, budget, services)
    code_bytes = cache(lambda: len(services.bundle(base, budget)))

    def check() -> Callable[[Recipe], bool]:
        known = rows()

        def fits(recipe: Recipe) -> bool:
            if solver is not None:
                return solver.fits(recipe, known)
            return services.predict_bytes(recipe, code_bytes(), known) <= limit

        return fits

    return check


def same_point(rows: Sequence[TrialRow], number: int, seed: int) -> TrialRow | None:
    """The earliest other trial with the same params and seed, whose size was solved too; None where it has to run.

    A margin that has changed since makes the same proposal another recipe, of next to the same size. One that came out
    infeasible may be tried again with the margin of today.
    """
    params = rows[number].params
    twins = (
        row
        for row in rows
        if row.params == params and row.number != number and row.attributes.get("seed") == seed
        if "solved" in row.attributes and row.status in TWIN_STATUSES - {TrialStatus.INFEASIBLE}
    )
    return min(twins, key=lambda row: (row.is_open, row.number), default=None)
