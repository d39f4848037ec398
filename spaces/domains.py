"""The values that a field may be searched over, and the part of a trial that they need. Knows no Optuna."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spaces.fields import SpaceError, check_value, to_json_value


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

    def nearest(self, value: Any) -> float:
        """What a trial may suggest that is closest to a value; the smallest for None."""
        return min(max(self.low if value is None else value, self.low), self.high)

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

    def nearest(self, value: Any) -> int:
        """What a trial may suggest that is closest to a value; the smallest for None."""
        inside = min(max(self.low if value is None else value, self.low), self.high)
        return self.low + round((inside - self.low) / self.step) * self.step

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
        options = {label_of(value): value for value in values}
        if len(options) != len(values):
            raise SpaceError(f"choices: must be different values, got {', '.join(map(label_of, values))}")
        return cls(options)

    def suggest(self, trial: Trial, name: str) -> Any:
        """A trial's value."""
        return self.options[trial.suggest_categorical(name, list(self.options))]

    def nearest(self, value: Any) -> str:
        """The label of a value, or of the first option where none has it."""
        return next((label for label, option in self.options.items() if option == value), next(iter(self.options)))

    def to_trial(self, value: Any, path: str) -> str:
        """The label of this value.

        Raises:
            SpaceError: the value is none of the options.
        """
        for label, option in self.options.items():
            if check_value(path, option) == value:
                return label
        raise SpaceError(f"{path}: must be one of {', '.join(self.options)}, got {label_of(value)}")


Domain = Real | Integer | Choice


def _check_range(low: float, high: float, log: bool) -> None:
    if low > high:
        raise SpaceError(f"low: must be at most high {high}, got {low}")
    if log and low <= 0:
        raise SpaceError(f"low: must be positive where log is true, got {low}")


def label_of(value: Any) -> str:
    """A value's JSON text; texts and enums without quotes."""
    plain = to_json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, sort_keys=True)
