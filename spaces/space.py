"""Params over recipe fields, and spaces of them: a trial's suggestions become a recipe and back. Knows no Optuna."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
    to_json_value,
)
from trainer.config import Recipe
from trainer.errors import ConfigError

__all__ = ["Choice", "Domain", "Integer", "Param", "Real", "Space", "SpaceError", "Trial"]


class Trial(Protocol):
    """The part of Optuna's Trial (and FixedTrial) that a space needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """One of the labels."""
        ...


@dataclass(frozen=True, slots=True)
class Real:
    """Numbers from low to high, both included; log spreads the search evenly over orders of magnitude."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def suggest(self, trial: Trial, name: str) -> float:
        """A trial's value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def to_trial(self, value: Any, path: str) -> float:
        """What a trial must suggest for this value.

        Raises:
            SpaceError: the value is outside.
        """
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise SpaceError(f"{path}: must be {self.low} to {self.high}, got {value}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Integer:
    """Whole numbers low, low + step, ... to high, which one of them reaches."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)
        if self.step < 1 or (self.high - self.low) % self.step:
            raise SpaceError(f"step: must divide high - low = {self.high - self.low}, got {self.step}")
        if self.log and self.step != 1:
            raise SpaceError(f"step: must be 1 where log is true, got {self.step}")

    def suggest(self, trial: Trial, name: str) -> int:
        """A trial's value."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def to_trial(self, value: Any, path: str) -> int:
        """What a trial must suggest for this value.

        Raises:
            SpaceError: the value is outside or between two steps.
        """
        if not isinstance(value, int) or value not in range(self.low, self.high + 1, self.step):
            steps = f" in steps of {self.step}" if self.step > 1 else ""
            raise SpaceError(f"{path}: must be {self.low} to {self.high}{steps}, got {value}")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """A few values of any kind. Trials store the labels, since Optuna's categories are scalars."""

    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError("choices: must name at least one value, got none")

    @classmethod
    def of(cls, *values: Any) -> "Choice":
        """A choice whose labels are the values' JSON text.

        Raises:
            SpaceError: the same value twice, or none.
        """
        options = {_label(value): value for value in values}
        if len(options) != len(values):
            raise SpaceError(f"choices: must be different values, got {', '.join(map(_label, values))}")
        return cls(options)

    def suggest(self, trial: Trial, name: str) -> Any:
        """A trial's value."""
        return self.options[trial.suggest_categorical(name, list(self.options))]

    def to_trial(self, value: Any, path: str) -> str:
        """The label of this value.

        Raises:
            SpaceError: the value is none of the options.
        """
        for label, option in self.options.items():
            if check_value(path, option) == value:
                return label
        raise SpaceError(f"{path}: must be one of {', '.join(self.options)}, got {_label(value)}")


Domain = Real | Integer | Choice


def _check_range(low: float, high: float, log: bool) -> None:
    if low > high:
        raise SpaceError(f"low: must be at most high {high}, got {low}")
    if log and low <= 0:
        raise SpaceError(f"low: must be positive where log is true, got {low}")


def _label(value: Any) -> str:
    plain = to_json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Param:
    """One searched field.

    Attributes:
        path: dotted field of Recipe and the dashboard's name.
        when: whether it is searched, given the recipe with the params before it; fields of an optional sub-config
            that is itself searched are searched only where it is on, without saying so here.
        otherwise: the field's value where when does not hold; None is the field's default. A field of a sub-config
            keeps the value that it has there.

    Raises:
        SpaceError: path is no field, or domain has values of another type.
    """

    path: str
    domain: Domain
    when: Callable[[Recipe], bool] | None = None
    otherwise: Any = None

    def __post_init__(self) -> None:
        plain = plain_type(require_path(self.path))
        if isinstance(self.domain, Choice):
            for option in self.domain.options.values():
                check_value(self.path, option)
        elif plain is not (float if isinstance(self.domain, Real) else int):
            wanted = {int: "an Integer or a Choice", float: "a Real or a Choice"}.get(plain, "a Choice")
            raise SpaceError(f"{self.path}: must be searched by {wanted}, got {self.domain}")


def _unsearched_value(param: Param) -> Any:
    return default_value(param.path) if param.otherwise is None else param.otherwise


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


@dataclass(frozen=True, slots=True)
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
        values = {param.path: _unsearched_value(param) for param in self._conditional() if param.when}
        values = {path: value for path, value in values.items() if optional_parent(path) is None}
        values |= {param.path: param.domain.suggest(trial, param.path) for param in self._unconditional()}
        recipe = set_values(base, values)
        for param in self._conditional():
            if self._is_active(param, recipe):
                recipe = set_values(recipe, {param.path: param.domain.suggest(trial, param.path)})
        return recipe

    def fix(self, recipe: Recipe, base: Recipe) -> dict[str, Any]:
        """The values a trial must suggest for this recipe.

        Raises:
            SpaceError: the recipe is no point of the space around base; names the first field that is off.
        """
        active = [*self._unconditional(), *(p for p in self._conditional() if self._is_active(p, recipe))]
        suggestions = {param.path: self._to_trial(param, recipe) for param in active}
        try:
            reached = self.suggest(_Replay(suggestions), base)
        except ConfigError as error:
            raise SpaceError(f"{error}, from fields that the space does not search") from None
        for path in recipe_paths():
            wanted, got = get_value(reached, path), get_value(recipe, path)
            if wanted != got:
                raise SpaceError(f"{path}: must be {_label(wanted)} where it is not searched, got {_label(got)}")
        return suggestions

    def _to_trial(self, param: Param, recipe: Recipe) -> Any:
        """What param must suggest; a sub-config's choice is found by the fields that no param of their own searches."""
        value = get_value(recipe, param.path)
        fields = {p.path: get_value(recipe, p.path) for p in self.params if optional_parent(p.path) == param.path}
        if value is not None and fields and isinstance(param.domain, Choice):
            for label, option in param.domain.options.items():
                if option is not None and set_values(recipe, {param.path: option, **fields}) == recipe:
                    return label
        return param.domain.to_trial(value, param.path)

    def _is_conditional(self, param: Param) -> bool:
        return param.when is not None or optional_parent(param.path) in self._paths()

    def _unconditional(self) -> Iterable[Param]:
        return (param for param in self.params if not self._is_conditional(param))

    def _conditional(self) -> Iterable[Param]:
        return (param for param in self.params if self._is_conditional(param))

    def _paths(self) -> set[str]:
        return {param.path for param in self.params}

    def _is_active(self, param: Param, recipe: Recipe) -> bool:
        parent = optional_parent(param.path)
        is_off = parent in self._paths() and get_value(recipe, str(parent)) is None
        return not is_off and (param.when is None or param.when(recipe))
