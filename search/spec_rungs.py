"""The rungs of a study file: what each may say by itself, and given the rest of the file."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from search.flops import relative_speed
from search.spec_file import problem
from search.spec_parts import Count, Limits, Name, Positive, SpecModel, SpendSpec
from spaces.fields import SpaceError, set_values
from trainer.config import Budget, Recipe, check_fits
from trainer.errors import ConfigError

ANY_ACCELERATOR = "any"  # the price of rungs that name none


class BudgetSpec(SpecModel):
    """How much of a recipe a rung runs; see trainer.config.Budget."""

    train_seconds: Positive | None = None
    train_tokens: Count | None = None
    world_size: int = 1
    eval_tokens: Count | None = None

    @model_validator(mode="after")
    def _is_a_budget(self) -> "BudgetSpec":
        try:
            Budget(**self.model_dump())
        except ConfigError as error:
            where, _, message = str(error).partition(": ")
            raise problem(message, *where.split(".")[1:]) from None
        return self


class FidelitySpec(SpecModel):
    """How recipes are run: how much of them, with which fields changed, on what.

    Attributes:
        set: fields that every run has, whatever its trial's recipe has there.
        tokens_by_speed: whether the tokens are the base recipe's, and others get them by how fast they would train.
    """

    budget: BudgetSpec
    set: dict[str, Any] = Field(default_factory=dict[str, Any])
    tokens_by_speed: bool = False
    accelerator: str | None = None

    @property
    def price_key(self) -> str:
        """Its accelerator's name in spend.prices."""
        return self.accelerator or ANY_ACCELERATOR

    def to_budget(self) -> Budget:
        """The trainer's budget of every run; with tokens_by_speed, that of the base."""
        return Budget(**self.budget.model_dump())

    def is_like(self, other: "FidelitySpec") -> bool:
        """Whether runs of both are the same runs."""
        keys = FidelitySpec.model_fields
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    def run_budget(self, recipe: Recipe, base: Recipe) -> Budget:
        """The budget of a run of a trial with this recipe.

        Where tokens go by speed, it is that of the trial's recipe, which the last rung will run: what is set here may
        train at another one, and on other GPUs.
        """
        budget = self.to_budget()
        if not self.tokens_by_speed or budget.train_tokens is None:
            return budget
        tokens = budget.train_tokens * relative_speed(recipe, base)
        return replace(budget, train_tokens=max(round(tokens), 1))

    def run_recipe(self, recipe: Recipe) -> Recipe:
        """What a run of a trial with this recipe executes.

        Raises:
            ConfigError: the fields that are set contradict the recipe.
        """
        return set_values(recipe, self.set) if self.set else recipe


class CalibrateSpec(SpecModel):
    """What caddie calibrate compares with the last rung, beside the study's earlier ones; changes no result."""

    candidates: Annotated[list[FidelitySpec], Field(min_length=1)]


class RungSpec(FidelitySpec):
    """One fidelity of the study; the first proposes, each later one takes the best of the one before.

    Attributes:
        fallback: whether it runs only where the rung before it is seen not to rank; see search.fallback.
    """

    name: Name
    trials: Count | None = None
    promote: Count | None = None
    fallback: bool = False
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(default=[1337])
    max_run_seconds: Positive | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "RungSpec":
        if len(set(self.seeds)) != len(self.seeds):
            raise problem(f"must be different seeds, got {self.seeds}", "seeds")
        train_seconds = self.budget.train_seconds or 0.0
        if self.max_run_seconds is not None and self.max_run_seconds <= train_seconds:
            expected = f"must be more than the budget's train_seconds {train_seconds:g}"
            raise problem(f"{expected}, got {self.max_run_seconds:g}", "max_run_seconds")
        return self

    def definition(self) -> dict[str, Any]:
        """What makes its results comparable, as JSON; what an older version did not know is left out where unused."""
        unused = {key for key in ("set", "tokens_by_speed") if not getattr(self, key)}
        return self.model_dump(mode="json", exclude={"max_run_seconds", "fallback", *unused})


def check_rungs(rungs: Sequence[RungSpec], limits: Limits, base: Recipe, searched: Collection[str]) -> None:
    """Refuse rungs that make no study together.

    Args:
        searched: paths of the fields that the space searches or solves.
    """
    names = [rung.name for rung in rungs]
    for index, rung in enumerate(rungs):
        if rung.name in names[:index]:
            raise problem(f"must be another name than the other rungs', got {rung.name}", "rungs", index, "name")
        _check_source(rungs, index)
        _check_fallback(rungs, index)
        check_fidelity(rung, limits, base, searched, "rungs", index)
        check_speed(rung, rungs[-1], "rungs", index)
    if rungs[-1].set:
        message = "must be left out of the last rung, whose runs are exported as they are"
        raise problem(f"{message}, got {', '.join(rungs[-1].set)}", "rungs", len(rungs) - 1, "set")


def steady_before(rungs: Sequence[RungSpec], index: int) -> RungSpec | None:
    """The nearest rung before a place that always runs."""
    return next((rung for rung in reversed(rungs[:index]) if not rung.fallback), None)


def steady_after(rungs: Sequence[RungSpec], index: int) -> RungSpec | None:
    """The nearest rung after a place that always runs."""
    return next((rung for rung in rungs[index + 1 :] if not rung.fallback), None)


def _check_source(rungs: Sequence[RungSpec], index: int) -> None:
    """The first rung says how many trials it proposes, each later one how many it takes from the one before."""
    rung, is_first = rungs[index], index == 0
    wanted, other = ("trials", "promote") if is_first else ("promote", "trials")
    which = "the first rung" if is_first else "a later rung"
    if getattr(rung, other) is not None:
        raise problem(f"must be left out of {which}, got {getattr(rung, other)}", "rungs", index, other)
    if getattr(rung, wanted) is None:
        raise problem(f"must be given for {which}, got nothing", "rungs", index, wanted)
    if not is_first:
        before = steady_before(rungs, index)
        assert before is not None, "the first rung is no fallback"
        available = before.trials or before.promote or 0
        if (rung.promote or 0) > available:
            message = f"must be at most the {available} trials of rung {before.name}, got {rung.promote}"
            raise problem(message, "rungs", index, "promote")


def _check_fallback(rungs: Sequence[RungSpec], index: int) -> None:
    """A fallback stands between two rungs that always run."""
    rung, is_inner = rungs[index], 0 < index < len(rungs) - 1
    if rung.fallback and (not is_inner or rungs[index - 1].fallback):
        raise problem("must be a rung between two that are no fallbacks, got true", "rungs", index, "fallback")


def check_fidelity(one: FidelitySpec, limits: Limits, base: Recipe, searched: Collection[str], *at: str | int) -> None:
    """Refuse runs that no recipe near the base could be.

    Args:
        searched: paths of the fields that the space searches or solves.
        at: where it stands in the file.
    """
    seconds = one.budget.train_seconds
    if seconds is not None and seconds > limits.train_seconds:
        message = f"must be at most limits.train_seconds {limits.train_seconds:g}, got {seconds:g}"
        raise problem(message, *at, "budget", "train_seconds")
    recipe = _base_as_run(one, base, searched, *at)
    try:
        check_fits(recipe, one.to_budget())
    except ConfigError as error:
        key = "eval_tokens" if str(error).startswith("budget.eval_tokens") else "world_size"
        message = f"must suit the base recipe ({error}), got {getattr(one.budget, key)}"
        raise problem(message, *at, "budget", key) from None


def check_speed(one: FidelitySpec, last: RungSpec, *at: str | int) -> None:
    """Tokens go by speed where the last rung's will: it gives all recipes the same seconds."""
    if not one.tokens_by_speed:
        return
    for budget, whose in ((one.budget, "its own"), (last.budget, "the last rung's")):
        key = "train_tokens" if budget is one.budget else "train_seconds"
        if getattr(budget, key) is None:
            raise problem(f"must be left out unless {whose} budget is in {key}, got true", *at, "tokens_by_speed")


def _base_as_run(one: FidelitySpec, base: Recipe, searched: Collection[str], *at: str | int) -> Recipe:
    for path in one.set:
        if path == "model.vocab_size":
            raise problem(
                "must be left out, since the dataset decides it; give it in the study's set", *at, "set", path
            )
        # The part that a field is in, or a field of this part, is the same decision.
        other = next(
            (other for other in searched if f"{other}.".startswith(f"{path}.") or path.startswith(f"{other}.")), None
        )
        if other is not None:
            raise problem(f"must be left out, since the space decides {other}, got {path}", *at, "set", path)
    try:
        return one.run_recipe(base)
    except (SpaceError, ConfigError) as error:
        field, _, message = str(error).partition(": ")
        raise problem(message, *at, "set", field) from None


def check_candidates(
    candidates: Sequence[FidelitySpec], last: RungSpec, limits: Limits, base: Recipe, searched: Collection[str]
) -> None:
    """Refuse a calibration that could not run, or would compare the last rung with itself."""
    for index, one in enumerate(candidates):
        at = ("calibrate", "candidates", index)
        check_fidelity(one, limits, base, searched, *at)
        check_speed(one, last, *at)
        if one.is_like(last):
            raise problem(f"must be cheaper than the last rung {last.name}, got the same", *at)
        if any(one.is_like(other) for other in candidates[:index]):
            raise problem("must be given once, got it again", *at)


def check_prices(spend: SpendSpec, rungs: Sequence[RungSpec], candidates: Sequence[FidelitySpec]) -> None:
    """Money can only be counted where everything that runs has its price."""
    users = [(rung, f"rung {rung.name}") for rung in rungs]
    users += [(one, f"calibrate.candidates[{index}]") for index, one in enumerate(candidates)]
    for one, user in users if spend.dollars is not None else ():
        if one.price_key not in spend.prices:
            given = ", ".join(spend.prices) or "none"
            raise problem(f"must have {one.price_key}, for {user}, got {given}", "spend", "prices")
