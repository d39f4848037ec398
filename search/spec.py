"""Study files: what they may say, checked, and what they mean. studies/README.md documents every key."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from search.errors import SpecError
from search.solve import SolvedParam
from search.spec_file import describe, problem, read_spec_file
from search.spec_parts import (
    DataSpec,
    EarlyStopSpec,
    Limits,
    Name,
    ParamSpec,
    PromotionSpec,
    QueueSpec,
    SamplerKind,
    SamplerSpec,
    SpaceSpec,
    SpecModel,
    SpendSpec,
)
from search.spec_rungs import CalibrateSpec, RungSpec, check_candidates, check_prices, check_rungs
from search.spec_solve import check_solve
from spaces import architecture, evaluation, golf, optimizer, quantization, shape, storage, training
from spaces.fields import SpaceError, close_match, flat, recipe_from_dict, recipe_to_dict, set_values
from spaces.recipes import named_recipe
from spaces.space import Choice, Domain, Integer, Param, Real, Space
from trainer.config import Recipe
from trainer.errors import ConfigError

__all__ = ["FAMILIES", "Limits", "RungSpec", "StudySpec", "definition_differences", "load_spec"]

# In the order in which their params are suggested: the conditions of each may look at those before it.
FAMILIES: Mapping[str, Callable[[], tuple[Param, ...]]] = MappingProxyType(
    {
        "shape": shape.params,
        "architecture": architecture.params,
        "quantization": quantization.params,
        "storage": storage.params,
        "optimizer": optimizer.params,
        "training": training.params,
        "evaluation": evaluation.params,
        "golf": golf.params,
    }
)
Objective = Literal["val_bpb", "artifact_bytes"]
OBJECTIVES = (["val_bpb"], ["val_bpb", "artifact_bytes"])
# Params of a small space. In larger ones the joint model has not been tried, and random points are mostly bad.
FEW_PARAMS = 30
GROWING = re.compile(r"rungs\.\d+\.(trials|promote)")  # what a study that exists may change, upwards


class StudySpec(SpecModel):
    """A study file."""

    name: Name
    base: str = "naive_baseline"
    set: dict[str, Any] = Field(default_factory=dict[str, Any])
    space: SpaceSpec
    queue: list[QueueSpec] = Field(default_factory=list[QueueSpec])
    objectives: list[Objective] = Field(default_factory=lambda: ["val_bpb", "artifact_bytes"])
    limits: Limits = Limits()
    data: DataSpec
    rungs: Annotated[list[RungSpec], Field(min_length=1)]
    sampler: SamplerSpec = SamplerSpec()
    early_stop: EarlyStopSpec | None = EarlyStopSpec()
    spend: SpendSpec = SpendSpec()
    promotion: PromotionSpec = PromotionSpec()
    calibrate: CalibrateSpec | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "StudySpec":
        base = _recipe(self.base, Recipe(), self.set)
        for index, entry in enumerate(self.queue):
            _queued(entry, base, "queue", index)
        _check_space(self.space)
        solved = self.solved_param()
        if self.space.solve is not None and solved is not None:
            check_solve(self.space.solve, self.space.params, base, is_conditional=solved.when is not None)
        if self.objectives not in OBJECTIVES:
            raise problem(f"must be [val_bpb] or [val_bpb, artifact_bytes], got {self.objectives}", "objectives")
        searched = [param.path for param in self.build_space().params] + ([solved.path] if solved else [])
        check_rungs(self.rungs, self.limits, base, searched)
        if self.promotion.rule == "top" and any(rung.fallback for rung in self.rungs):
            raise problem("must be model where a rung is a fallback, got top", "promotion", "rule")
        candidates = self.calibrate.candidates if self.calibrate else []
        check_candidates(candidates, self.rungs[-1], self.limits, base, searched)
        check_prices(self.spend, self.rungs, candidates)
        return self

    def base_recipe(self) -> Recipe:
        """The recipe of trial 0, which every field that is not searched comes from."""
        return set_values(named_recipe(self.base), self.set)

    def queued_recipes(self) -> tuple[Recipe, ...]:
        """Recipes to run right after the base; they may lie outside the space."""
        base = self.base_recipe()
        return tuple(_queued(entry, base) for entry in self.queue)

    def build_space(self) -> Space:
        """The searched fields: those of the families, over the domains of params where it names them; then the rest."""
        solved = self.space.solve.param if self.space.solve else None
        families = [params for name, params in FAMILIES.items() if name in self.space.include]
        included = [param for params in families for param in params() if param.path != solved]
        own = {path: spec.domain(path) for path, spec in self.space.params.items()}
        named = [param.over(own[param.path]) if param.path in own else param for param in included]
        known = {param.path for param in included}
        return Space((*named, *(Param(path, domain) for path, domain in own.items() if path not in known)))

    def solved_param(self) -> SolvedParam | None:
        """The field that is solved rather than searched, under the family's condition; None where there is none."""
        solve = self.space.solve
        if solve is None:
            return None
        known = [param for family in FAMILIES.values() for param in family() if param.path == solve.param]
        when = known[0].when if known else None
        return SolvedParam(path=solve.param, low=solve.low, high=solve.high, step=solve.step, when=when)

    @property
    def is_small(self) -> bool:
        """Whether it searches few params."""
        return len(self.build_space().params) <= FEW_PARAMS

    @property
    def sampler_kind(self) -> SamplerKind:
        """Who proposes: as the file says, else the joint model, where params are few and the score is the goal."""
        if self.sampler.kind is not None:
            return self.sampler.kind
        return "joint" if self.is_small and self.sampler.goal == "val_bpb" else "tpe"

    def definition(self) -> dict[str, Any]:
        """What makes results comparable, as JSON: recipe, space, objectives, limits, data and rungs.

        The queue, the sampler and deadlines are no part of it: they decide which results there are, not their meaning.
        """
        space = {param.path: _domain_to_dict(param.domain) for param in self.build_space().params}
        if self.space.solve is not None:
            space[self.space.solve.param] = {"solve": self.space.solve.model_dump(exclude={"param"})}
        return {
            "name": self.name,
            "recipe": recipe_to_dict(self.base_recipe()),
            "space": space,
            "objectives": list(self.objectives),
            "limits": self.limits.model_dump(),
            "data": self._data_from_here(),
            "rungs": [rung.definition() for rung in self.rungs],
        }

    def to_json(self) -> str:
        """The study file as JSON, for reading it back in another process, maybe after the project has moved."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True) | {"data": self._data_from_here()})

    def _data_from_here(self) -> dict[str, str]:
        return {"path": _from_here(self.data.path), "tokenizer": _from_here(self.data.tokenizer)}


def load_spec(path: Path) -> StudySpec:
    """The study of a file; relative paths in it start at the working folder.

    Raises:
        SpecError: the file cannot be read, is not YAML, or says what no study can mean.
    """
    file = read_spec_file(path)
    try:
        return StudySpec.model_validate(file.values)
    except ValidationError as error:
        raise SpecError(describe(error, file)) from error


def definition_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What keeps two definitions (StudySpec.definition) from being one study: a line a key, none where they may be.

    More trials or more promoted ones are no difference, nor are fields that an older version's recipe lacks.
    """
    before, after = flat(_with_every_field(old)), flat(_with_every_field(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"{key} was {before.get(key)!r}, got {after.get(key)!r}"
        for key in keys
        if not _may_change(key, before.get(key), after.get(key))
    ]


def _with_every_field(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """A definition whose recipe has all fields of this version; as it is where this version has no such recipe."""
    try:
        return {**definition, "recipe": recipe_to_dict(recipe_from_dict(definition["recipe"]))}
    except (SpaceError, ConfigError):
        return definition


def _may_change(key: str, old: Any, new: Any) -> bool:
    is_growing = GROWING.fullmatch(key) is not None and isinstance(old, int) and isinstance(new, int)
    return old == new or (is_growing and new > old)


def _recipe(name: str | None, base: Recipe, values: Mapping[str, Any], *at: str | int) -> Recipe:
    """A recipe that a file names and changes, with the key at fault where it cannot be."""
    try:
        start = base if name is None else named_recipe(name)
    except SpaceError as error:
        raise problem(str(error).partition(": ")[2], *at, "recipe" if at else "base") from None
    try:
        return set_values(start, values)
    except (SpaceError, ConfigError) as error:
        field, _, message = str(error).partition(": ")
        raise problem(message, *at, "set", field) from None


def _queued(entry: QueueSpec, base: Recipe, *at: str | int) -> Recipe:
    """The recipe of a queue's entry; a named one has the base's vocabulary, which is the dataset's."""
    vocabulary = {"model.vocab_size": base.model.vocab_size} if entry.recipe else {}
    return _recipe(entry.recipe, base, vocabulary | entry.set, *at)


def _check_space(space: SpaceSpec) -> None:
    for index, family in enumerate(space.include):
        if family not in FAMILIES:
            names = ", ".join(FAMILIES)
            raise problem(
                f"must be one of {names}{close_match(family, FAMILIES)}, got {family}", "space", "include", index
            )
        if family in space.include[:index]:
            raise problem(f"must be named once, got {family} again", "space", "include", index)
        if family != "golf" and "golf" in space.include:
            raise problem(f"must be left out, since golf has all of it, got {family}", "space", "include", index)
    for path, spec in space.params.items():
        if path == "model.vocab_size":
            raise problem("must be left out, since the dataset decides it; give it in set", "space", "params", path)
        try:
            Param(path, spec.domain(path))
        except (SpaceError, ConfigError) as error:
            key, _, message = str(error).partition(": ")
            raise problem(message, "space", "params", path, *([key] if key in ParamSpec.model_fields else ())) from None
    if not space.include and not space.params:
        raise problem("must search something: include a family or give params, got nothing", "space")


def _domain_to_dict(domain: Domain) -> dict[str, Any]:
    match domain:
        case Real(low, high, log):
            return {"low": low, "high": high, "log": log}
        case Integer(low, high, step, log):
            return {"low": low, "high": high, "step": step, "log": log}
        case Choice(options):
            return {"choices": list(options)}


def _from_here(path: Path) -> str:
    """A path as the study file most likely wrote it, so that a moved project is still the same study."""
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()
