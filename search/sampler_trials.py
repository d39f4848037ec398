"""Trials that no study knows of, for a sampler that looks at recipes before it proposes one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from spaces.space import Trial


@dataclass
class Recorder:
    """A trial that keeps what another suggests."""

    inner: Trial
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        return self.values.setdefault(name, self.inner.suggest_float(name, low, high, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number in [low, high]."""
        return self.values.setdefault(name, self.inner.suggest_int(name, low, high, step=step, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """One of the labels."""
        return self.values.setdefault(name, self.inner.suggest_categorical(name, choices))


@dataclass(frozen=True, slots=True)
class UniformTrial:
    """A trial whose suggestions are spread evenly over their ranges."""

    random: Random

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in [low, high]."""
        value = low * (high / low) ** self.random.random() if log else self.random.uniform(low, high)
        return min(max(value, low), high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number in [low, high]."""
        if log:
            return min(max(round(self.suggest_float(name, low, high, log=True)), low), high)
        return self.random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """One of the labels."""
        return self.random.choice(list(choices))
