"""Params over recipe fields, and spaces of them: a trial's suggestions become a recipe and back. Knows no Optuna."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from spaces.domains import Choice, Domain, Integer, Real, Trial, label_of
from spaces.fields import (
    SpaceError,
    check_value,
    default_value,
    get_value,
    optional_parent,
    plain_type,
    recipe_paths,
    require_path,
    set_values,
)
from trainer.config import Recipe
from trainer.errors import ConfigError

__all__ = ["Choice", "Domain", "Integer", "Param", "Real", "Space", "SpaceError", "Trial"]


@dataclass(frozen=True, slots=True)
class Param:
    """One searched field.

    Attributes:
        path: dotted field of Recipe and the dashboard's name.
        when: whether it is searched, given the recipe with the params before it; fields of an optional sub-config
            that is itself searched are searched only where it is on, without saying so here.
        otherwise: the field's value where when does not hold. None is the field's default; for a field of a sub-config,
            what it is there.
        snap: the recipe's value for a suggested one, given the recipe with the params before it, where not all that a
            range holds makes a good recipe. What it returns it leaves as it is.

    Raises:
        SpaceError: path is no field, or domain has values of another type.
    """

    path: str
    domain: Domain
    when: Callable[[Recipe], bool] | None = None
    otherwise: Any = None
    snap: Callable[[Recipe, Any], Any] | None = None

    def __post_init__(self) -> None:
        plain = plain_type(require_path(self.path))
        if isinstance(self.domain, Choice):
            for option in self.domain.options.values():
                check_value(self.path, option)
        elif plain is not (float if isinstance(self.domain, Real) else int):
            wanted = {int: "an Integer or a Choice", float: "a Real or a Choice"}.get(plain, "a Choice")
            raise SpaceError(f"{self.path}: must be searched by {wanted}, got {self.domain}")

    @property
    def unsearched_value(self) -> Any:
        """The field's value where the condition does not hold."""
        return default_value(self.path) if self.otherwise is None else self.otherwise

    def over(self, domain: Domain) -> "Param":
        """The same field over another domain.

        The condition stays unless it would give the field a value outside of that; what is listed is not snapped.
        """
        try:
            domain.to_trial(check_value(self.path, self.unsearched_value), self.path)
            is_inside = True
        except SpaceError:
            is_inside = optional_parent(self.path) is not None and self.otherwise is None
        snap = self.snap if isinstance(domain, Real) else None
        return Param(self.path, domain, self.when if is_inside else None, self.otherwise if is_inside else None, snap)

    def suggest(self, trial: Trial, recipe: Recipe) -> Any:
        """The field's value in a trial, given the recipe with the params before it."""
        value = self.domain.suggest(trial, self.path)
        return value if self.snap is None else self.snap(recipe, value)


@dataclass(frozen=True, slots=True)
class _Replay:
    """A trial whose suggestions are known."""

    suggestions: Mapping[str, Any]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self.suggestions[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.suggestions[name]

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        return self.suggestions[name]


@dataclass(frozen=True)
class Space:
    """The searched fields of a study.

    Raises:
        SpaceError: two params have one path.
    """

    params: tuple[Param, ...]

    def __post_init__(self) -> None:
        paths = [param.path for param in self.params]
        for path in paths:
            if paths.count(path) > 1:
                raise SpaceError(f"{path}: must be searched by one param, got {paths.count(path)}")

    def suggest(self, trial: Trial, base: Recipe) -> Recipe:
        """The recipe of a trial: base with every searched field suggested.

        Unconditional params are set together first, since some values are valid only together; the others have the
        values they take where they are not searched, and are then suggested one after another.

        Raises:
            ConfigError: the suggested values contradict each other.
        """
        guarded = (param for param in self._conditional if param.when and optional_parent(param.path) is None)
        values = {param.path: param.unsearched_value for param in guarded}
        values |= {param.path: param.suggest(trial, base) for param in self._unconditional}
        recipe = set_values(base, values)
        for param in self._conditional:
            if not self._is_reachable(param, recipe):
                continue
            if param.when is None or param.when(recipe):
                recipe = set_values(recipe, {param.path: param.suggest(trial, recipe)})
            elif param.otherwise is not None and self._is_on(param, recipe):
                recipe = set_values(recipe, {param.path: param.otherwise})
        return recipe

    def fix(self, recipe: Recipe, base: Recipe) -> dict[str, Any]:
        """The values a trial must suggest for this recipe.

        Raises:
            SpaceError: the recipe is no point of the space around base; names the first field that is off.
        """
        active = [*self._unconditional, *(p for p in self._conditional if self.is_active(p, recipe))]
        suggestions = {param.path: self.to_trial(param, recipe) for param in active}
        try:
            reached = self.suggest(_Replay(suggestions), base)
        except ConfigError as error:
            raise SpaceError(f"{error}, from fields that the space does not search") from None
        for path in recipe_paths():
            wanted, got = get_value(reached, path), get_value(recipe, path)
            if wanted != got:
                raise SpaceError(f"{path}: must be {label_of(wanted)} where it is not searched, got {label_of(got)}")
        return suggestions

    def is_active(self, param: Param, recipe: Recipe) -> bool:
        """Whether a trial of this recipe suggests the param."""
        return self._is_reachable(param, recipe) and (param.when is None or param.when(recipe))

    def to_trial(self, param: Param, recipe: Recipe) -> Any:
        """What the param must suggest for a recipe where it is active.

        A sub-config's choice is found by the fields that no param of their own searches.

        Raises:
            SpaceError: the param's domain does not have the recipe's value.
        """
        value = get_value(recipe, param.path)
        fields = {p.path: get_value(recipe, p.path) for p in self.params if optional_parent(p.path) == param.path}
        if value is not None and fields and isinstance(param.domain, Choice):
            for label, option in param.domain.options.items():
                if option is not None and set_values(recipe, {param.path: option, **fields}) == recipe:
                    return label
        return param.domain.to_trial(value, param.path)

    @cached_property
    def _unconditional(self) -> tuple[Param, ...]:
        return tuple(param for param in self.params if param not in self._conditional)

    @cached_property
    def _conditional(self) -> tuple[Param, ...]:
        return tuple(p for p in self.params if p.when or p.snap or optional_parent(p.path) in self._paths)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(param.path for param in self.params)

    def _is_reachable(self, param: Param, recipe: Recipe) -> bool:
        """Whether a param can be set: a sub-config that no param turns off goes on with its first field."""
        return optional_parent(param.path) not in self._paths or self._is_on(param, recipe)

    @staticmethod
    def _is_on(param: Param, recipe: Recipe) -> bool:
        parent = optional_parent(param.path)
        return parent is None or get_value(recipe, parent) is not None
