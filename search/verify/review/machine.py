"""Follows a script without running it: every statement once or twice, on values of which only marks are known."""

import ast
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from search.verify.review.marks import NO_MARKS, Flag, Mark, Marks, Turn
from search.verify.review.trace import Event, Kind, Trace
from search.verify.review.values import Class, Function, Instance, Items, Scope, Thing, Value, const, join

MAX_STEPS = 2_000_000
MAX_CALLS = 40
MAX_SAME_CALLS = 2


class TooLargeError(Exception):
    """The script takes more steps to follow than there are."""


@dataclass(slots=True)
class Frame:
    """One call that is being followed.

    Attributes:
        loops: number and turn of each loop it is in.
    """

    function: Function | None
    is_module: bool
    returns: list[Value] = field(default_factory=list)
    yields: list[Value] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """A call with its parts evaluated.

    Attributes:
        name: the last part of what is called, as written.
        receiver: of a method.
        is_statement: nothing takes its result.
        has_known_places: args are at their places; none came out of a starred value of unknown length.
    """

    node: ast.Call | None
    name: str
    callee: Value
    receiver: Value | None
    args: list[Value]
    keywords: dict[str, Value]
    scope: Scope
    is_statement: bool = False
    has_known_places: bool = True

    def get(self, place: int, *names: str) -> Value | None:
        """An argument by place or name."""
        for name in names:
            if name in self.keywords:
                return self.keywords[name]
        return self.args[place] if 0 <= place < len(self.args) else None

    def as_function(self) -> "Call":
        """The same call with the receiver as first argument, as torch.f(x) is of x.f()."""
        first = [] if self.receiver is None else [self.receiver]
        args = [*first, *self.args]
        return Call(self.node, self.name, self.callee, None, args, self.keywords, self.scope)

    @property
    def values(self) -> list[Value]:
        """All arguments."""
        return [*self.args, *self.keywords.values()]


class Machine:
    """What following a script has found so far.

    Args:
        settings: environment variables and options that the folder says to be set, with their values.
        counters: names of attributes that are counted up somewhere.
    """

    # Set by search.verify.flow, which joins the modules that need each other.
    evaluate: Callable[[ast.expr, Scope], Value]
    run: Callable[[list[ast.stmt], Scope], bool]
    invoke: Callable[[Call], Value]

    def __init__(self, settings: Mapping[str, str], counters: frozenset[str]) -> None:
        self.settings, self.counters = settings, counters
        self.trace = Trace()
        self.frames = [Frame(None, is_module=False)]
        self.loops: list[Turn] = []
        self.hooks: list[Value] = []
        self.training = const(True)
        self.stored: dict[int, Marks] = {}  # marks of what was loaded into each model
        self.files: dict[str, Marks] = {}  # splits that were written to files
        self.steps = 0
        self.line = 1
        self.is_dead = False
        self.optional_depth = 0
        self.model_depth = 0
        self._last_number = 0

    def number(self) -> int:
        """A new number."""
        self._last_number += 1
        return self._last_number

    def spend(self) -> None:
        """One more step.

        Raises:
            TooLargeError: there are no more.
        """
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise TooLargeError

    @property
    def frame(self) -> Frame:
        """The innermost call."""
        return self.frames[-1]

    @property
    def is_in_module(self) -> bool:
        """Whether the code that runs is a torch module's."""
        return self.frame.is_module

    @property
    def turns(self) -> Marks:
        """The turns of all loops that are being followed."""
        return frozenset(self.loops)

    def event(
        self,
        kind: Kind,
        name: str = "",
        marks: Marks = NO_MARKS,
        targets: Marks = NO_MARKS,
        consts: tuple[Hashable, ...] = (),
    ) -> Event:
        """Record what happens at the current line."""
        is_optional = self.optional_depth > 0
        return self.trace.add(Event(kind, self.line, name, marks, targets, consts, is_optional, self.is_dead))

    @contextmanager
    def optionally(self, is_optional: bool) -> Generator[None]:
        """Within it, what happens needs a setting that is off."""
        self.optional_depth += is_optional
        try:
            yield
        finally:
            self.optional_depth -= is_optional

    def is_too_deep(self, function: Function) -> bool:
        """Whether a call of a function is not followed any more."""
        same = sum(frame.function is not None and frame.function.node is function.node for frame in self.frames)
        return len(self.frames) > MAX_CALLS or same >= MAX_SAME_CALLS

    def call(self, callee: Value, args: list[Value], scope: Scope, receiver: Value | None = None) -> Value:
        """What a call gives that the script does not spell out."""
        return self.invoke(Call(None, "", callee, receiver, args, {}, scope))


def truth(value: Value) -> bool | None:
    """Whether a value is true; None where that is not known."""
    exact = value.exact
    if isinstance(exact, bool | int | float | str | bytes | type(None)):
        return bool(exact)
    # Nothing was put in yet, in the order in which the script is followed.
    is_empty = len(value.refs) == 1 and isinstance(value.refs[0], Items) and not value.refs[0].items
    return False if is_empty and not value.consts and not value.marks else None


def settings_off(value: Value) -> bool:
    """Whether a value depends on a setting's default."""
    return Flag.SETTING in value.marks


def branch(value: Value) -> tuple[bool, bool, bool]:
    """Of a test: whether the body can run, whether the else can, and whether the unlikely one is a setting's choice."""
    known = truth(value)
    if known is None:
        return True, True, False
    if settings_off(value):
        return True, True, True
    return known, not known, False


def merged(before: dict[str, Value], after: dict[str, Value]) -> dict[str, Value]:
    """Names after one of two branches."""
    names = dict(before)
    for name, value in after.items():
        old = names.get(name)
        names[name] = value if old is None or old is value else join(old, value)
    return names


def is_number_like(value: Value) -> bool:
    """Whether a value may be an index: it refers to nothing and holds no tokens."""
    return not value.refs and not value.marks & {
        Flag.VAL,
        Flag.TRAIN,
        Flag.LOSS,
        Flag.WEIGHTS,
        Flag.PIECES,
        Flag.BUFFER,
    }


def instances(value: Value) -> list[Instance]:
    """The objects that a value may be."""
    return [one for one in value.refs if isinstance(one, Instance)]


def owner_of(things: tuple[Thing, ...]) -> Class | None:
    """The class among things."""
    return next((one for one in things if isinstance(one, Class)), None)


def without(marks: Marks, *kinds: type) -> Marks:
    """Marks without those of some kinds."""
    return frozenset(mark for mark in marks if not isinstance(mark, kinds))


def only(marks: Marks, kind: type) -> list[Mark]:
    """Marks of one kind."""
    return [mark for mark in marks if isinstance(mark, kind)]
