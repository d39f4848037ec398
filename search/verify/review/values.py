"""What the static review knows of a value: where it came from, which constants it may be, what it refers to."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from search.verify.review.marks import (
    NO_MARKS,
    Mark,
    Marks,
)

MAX_CONSTANTS = 6
MAX_REFERENCES = 12
MAX_ITEMS = 24
MAX_DEPTH = 4  # of containers whose marks count
MODULES = frozenset({"Module", "Linear", "Embedding", "ModuleList", "Sequential"})


class Missing:
    """No constant."""


MISSING = Missing()


class Value:
    """What is known of a value. Names that share one share its marks, as names of one tensor do.

    Attributes:
        consts: constants it may be.
        is_open: it may be something else too.
        refs: functions, classes, objects and containers it may be.
    """

    __slots__ = ("consts", "is_open", "marks", "refs")

    def __init__(
        self,
        marks: Iterable[Mark] = NO_MARKS,
        consts: tuple[Hashable, ...] = (),
        refs: tuple[Thing, ...] = (),
        is_open: bool = True,
    ) -> None:
        self.marks: Marks = frozenset(marks)
        self.consts, self.refs, self.is_open = consts, refs, is_open or not consts

    @property
    def exact(self) -> Hashable | Missing:
        """The constant that it is."""
        return MISSING if self.is_open or len(self.consts) != 1 else self.consts[0]

    @property
    def texts(self) -> list[str]:
        """The strings that it may be."""
        return [one for one in self.consts if isinstance(one, str)]

    def add(self, marks: Iterable[Mark]) -> None:
        """Mark it in place: a tensor was written to."""
        self.marks = self.marks.union(marks)

    def marked(self, marks: Iterable[Mark]) -> Value:
        """Another value with more marks."""
        return Value(self.marks.union(marks), self.consts, self.refs, self.is_open)

    def widened(self) -> Value:
        """Another value of which the constants are only some that it may be."""
        return Value(self.marks, self.consts, self.refs)


@dataclass(eq=False, slots=True)
class Function:
    """A function of the script, with the scope it was defined in."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Scope
    owner: Class | None = None

    @property
    def name(self) -> str:
        """As written."""
        return "lambda" if isinstance(self.node, ast.Lambda) else self.node.name


@dataclass(eq=False, slots=True)
class Method:
    """A function bound to an object."""

    function: Function
    receiver: Value


@dataclass(eq=False, slots=True)
class Partial:
    """A callable with some arguments given."""

    callee: Value
    args: list[Value]
    keywords: dict[str, Value]


@dataclass(eq=False, slots=True)
class Class:
    """A class of the script."""

    node: ast.ClassDef
    scope: Scope
    bases: list[Value]
    attrs: dict[str, Value] = field(default_factory=dict)

    @property
    def is_module(self) -> bool:
        """Whether it is a torch module."""
        return any(
            (isinstance(one, Library) and one.name.split(".")[-1] in MODULES)
            or (isinstance(one, Class) and one is not self and one.is_module)
            for base in self.bases
            for one in base.refs
        )

    def find(self, name: str) -> Value | None:
        """An attribute of it or of a base."""
        if name in self.attrs:
            return self.attrs[name]
        for base in self.bases:
            for one in base.refs:
                if isinstance(one, Class) and one is not self and (found := one.find(name)) is not None:
                    return found
        return None


@dataclass(eq=False, slots=True)
class Instance:
    """An object of a class of the script."""

    cls: Class
    number: int
    attrs: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Library:
    """Something imported, or a builtin, by its full name."""

    name: str


@dataclass(eq=False, slots=True)
class Made:
    """What a library's function gave, such as an optimizer."""

    name: str
    number: int
    attrs: dict[str, Value] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Items:
    """A list, tuple or set; is_exact if these are its items in order."""

    items: list[Value]
    is_exact: bool = True

    def append(self, item: Value) -> None:
        """One more item; of many, the rest are joined."""
        if len(self.items) < MAX_ITEMS:
            self.items.append(item)
        else:
            self.items[-1] = join(self.items[-1], item)
            self.is_exact = False


@dataclass(eq=False, slots=True)
class Table:
    """A dict: entries by constant key, and all other ones joined."""

    entries: dict[Hashable, Value]
    rest: Value = field(default_factory=Value)


Thing = Function | Method | Partial | Class | Instance | Library | Made | Items | Table


class Scope:
    """Names of a module, class or function."""

    __slots__ = ("globals_", "is_class", "names", "owner", "parent", "starred")

    def __init__(self, parent: Scope | None, *, is_class: bool = False, owner: Class | None = None) -> None:
        self.parent, self.is_class, self.owner = parent, is_class, owner
        self.names: dict[str, Value] = {}
        self.globals_: dict[str, Scope] = {}
        self.starred: list[str] = []  # modules of which all names are imported

    @property
    def root(self) -> Scope:
        """The module's names."""
        return self if self.parent is None else self.parent.root

    def find(self, name: str) -> Value | None:
        """What a name means here."""
        if name in self.names:
            return self.names[name]
        above = self.parent
        while above is not None:
            if name in above.names and not above.is_class:
                return above.names[name]
            above = above.parent
        return None

    def bind(self, name: str, value: Value) -> None:
        """Let a name mean a value."""
        home = self.globals_.get(name)
        if home is None:
            self.names[name] = value
        else:
            old = home.names.get(name)
            home.names[name] = value if old is None else join(old, value).widened()


def const(value: Hashable) -> Value:
    """A constant."""
    return Value(consts=(value,), is_open=False)


def ref(*things: Thing) -> Value:
    """A reference."""
    return Value(refs=things)


def join(*values: Value) -> Value:
    """What is known of a value that is one of these."""
    if len(values) == 1:
        return values[0]
    marks = NO_MARKS.union(*[value.marks for value in values])
    consts: dict[tuple[type, Hashable], Hashable] = {}
    refs: dict[int, Thing] = {}
    for value in values:
        consts.update({(type(one), one): one for one in value.consts})
        refs.update({id(one): one for one in value.refs})
    is_open = any(value.is_open for value in values) or len(consts) > MAX_CONSTANTS
    return Value(marks, tuple(consts.values())[:MAX_CONSTANTS], tuple(refs.values())[:MAX_REFERENCES], is_open)


def marks_of(value: Value, depth: int = MAX_DEPTH) -> Marks:
    """The marks of a value and of what it contains. Objects keep what they hold to themselves."""
    marks = value.marks
    if depth and value.refs:
        for one in value.refs:
            if isinstance(one, Items):
                marks = marks.union(*[marks_of(item, depth - 1) for item in one.items])
            elif isinstance(one, Table):
                held = [*one.entries.values(), one.rest]
                marks = marks.union(*[marks_of(item, depth - 1) for item in held])
    return marks


def all_marks(values: Iterable[Value]) -> Marks:
    """The marks of all values."""
    return NO_MARKS.union(*[marks_of(value) for value in values])
