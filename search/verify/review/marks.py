"""Facts about a value that flow on to whatever is computed from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Flag(StrEnum):
    """A fact about a value that flows on to whatever is computed from it."""

    VAL = "validation tokens"
    TRAIN = "training tokens"
    LOSS = "a loss"
    WEIGHTS = "weights"
    ROUNDED = "rounded weights"
    HIDDEN = "inside a model"
    HESSIAN = "a Hessian"
    TABLE = "a table keyed on tokens"
    COUNT = "read from a table keyed on tokens"
    TARGET_KEY = "read with a key that holds the target"
    TARGET_PICK = "the target's entry of a row of counts"
    TARGET_RATIO = "counts with the target over counts without it"
    PIECES = "the tokenizer's pieces"
    INFLATED = "bytes changed by hand"
    SCALED = "bits times a constant"
    BITS = "bits"
    OWN_CODE = "the script's own text"
    OTHER_FILE = "another file's text"
    PACKED = "compressed"
    CHANGED_CODE = "the script's own text, changed"
    DECODED = "decoded bytes"
    SETTING = "an environment variable's default"
    BUFFER = "memory that is written to"
    SCORES = "attention scores without a mask"
    FACTOR = "a count times a constant"
    BEST = "the least of several losses"
    STREAM = "rows of positions"


@dataclass(frozen=True, slots=True)
class Turn:
    """Derived from one turn of a loop; each time a loop is entered it has another number.

    Attributes:
        ahead: of an index such as (i + 1) * size, by how many turns it was moved; turn is that after it.
    """

    loop: int
    turn: int
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Cut at an index: what lies before it, or after."""

    cut: str
    is_after: bool


@dataclass(frozen=True, slots=True)
class Extent:
    """So many tokens from a start, the one of that name."""

    start: str
    length: int


@dataclass(frozen=True, slots=True)
class Computed:
    """Derived from the loss, or the model's output, of that event."""

    event: int


@dataclass(frozen=True, slots=True)
class State:
    """Derived from trainable numbers: a model's weights, or a tensor made to be optimized."""

    number: int
    is_model: bool


@dataclass(frozen=True, slots=True)
class Shift:
    """Tokens so many places after those of the position."""

    by: int


@dataclass(frozen=True, slots=True)
class Tail:
    """A sequence without its first places, inside a model: aligned again once something is put before it."""

    by: int


@dataclass(frozen=True, slots=True)
class Plus:
    """An index to which a constant was added."""

    by: int


@dataclass(frozen=True, slots=True)
class Site:
    """Tokens gathered at that place of the source."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Key:
    """Read from a table with a key of tokens gathered at these places."""

    sites: frozenset[Site]


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes of that file or blob."""

    name: str


Mark = Flag | Turn | Part | Extent | Computed | State | Shift | Tail | Plus | Site | Key | Size


Marks = frozenset[Mark]


NO_MARKS: Marks = frozenset()
