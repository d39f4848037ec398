"""What the reader of wrappers computes with: constants of Python, and stand-ins for what it does not run."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.verify.wrapper.decoders import MAX_OUTPUT_BYTES, OpaqueError

MAX_STEPS = 500_000  # an XOR over a packed file of 80 KB, byte by byte; about 2 s
MAX_BYTES = 3 * MAX_OUTPUT_BYTES  # of everything computed, whether kept or not
BYTES_PER_ELEMENT = 16


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A module, or something in one, by its dotted name.

    Attributes:
        origin: where the code names it.
    """

    path: str
    origin: ast.AST | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """A method of a constant."""

    value: Any
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A function with some of its arguments."""

    function: object
    arguments: Sequence[object]
    keywords: Mapping[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Code that was compiled, not yet executed."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class PathTo:
    """A pathlib.Path."""

    name: str


@dataclass(slots=True, eq=False)
class Scope:
    """Names of a module or of a call, and those around it."""

    outer: "Scope | None" = None
    names: dict[str, object] = field(default_factory=dict)

    def get(self, name: str) -> object:
        """A value; KeyError where there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        raise KeyError(name)

    @property
    def module(self) -> "Scope":
        """The outermost names."""
        return self if self.outer is None else self.outer.module


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function or lambda of the code that is read."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Scope


@dataclass(frozen=True, slots=True, eq=False)
class Unknown:
    """Whatever is not computed, and why."""

    why: str = "a value that is not in the text"


class ExhaustedError(Exception):
    """There is too much to compute."""


UNKNOWN = Unknown()
STRANGE = (Unknown, Named, Bound, Partial, Source, PathTo, Function, Scope)  # no constants


@dataclass(slots=True)
class Budget:
    """How much may still be computed."""

    steps: int = MAX_STEPS
    bytes: int = MAX_BYTES

    def step(self, count: int = 1) -> None:
        """Count some steps.

        Raises:
            ExhaustedError: they were too many.
        """
        self.steps -= count
        if self.steps < 0:
            raise ExhaustedError(f"code that computes more than {MAX_STEPS} steps before it runs")

    def reserve(self, size: int) -> None:
        """Count bytes before they are made.

        Raises:
            OpaqueError: they are too many for one value.
            ExhaustedError: they were too many in all.
        """
        if size > MAX_OUTPUT_BYTES:
            raise OpaqueError(f"a value of more than {MAX_OUTPUT_BYTES} bytes")
        self.bytes -= size
        if self.bytes < 0:
            raise ExhaustedError(f"code that computes more than {MAX_BYTES} bytes before it runs")


CONTAINERS = (list, tuple, dict, set, frozenset)
MAX_ELEMENTS = 100_000  # of lists in lists: comparing them may visit each, also those that stand in several places


def is_small(value: object) -> bool:
    """Whether a container of containers has few elements, each place it stands in counted."""
    waiting, count = [value], 0
    while waiting:
        one = waiting.pop()
        elements = list(one.values()) + list(one) if isinstance(one, dict) else one
        inner = [two for two in elements if isinstance(two, CONTAINERS)] if isinstance(elements, CONTAINERS) else []
        count += len(inner)
        if count > MAX_ELEMENTS:
            return False
        waiting += inner
    return True


def size_of(value: object) -> int:
    """Roughly the memory of a value."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 4 * len(value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, int):
        return value.bit_length() // 8
    if isinstance(value, CONTAINERS):
        return BYTES_PER_ELEMENT * len(value)
    return 0
