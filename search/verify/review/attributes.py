"""Attributes: of objects, classes, libraries and tensors."""

import ast

from search.verify.review.machine import Machine, is_number_like, only
from search.verify.review.marks import Flag, Turn
from search.verify.review.values import (
    Class,
    Function,
    Instance,
    Library,
    Made,
    Method,
    Partial,
    Scope,
    Table,
    Value,
    const,
    join,
    marks_of,
    ref,
)

# What a tensor's own properties tell holds none of its numbers.
PLAIN = frozenset(
    {"shape", "dtype", "device", "ndim", "grad", "is_cuda", "requires_grad", "itemsize", "name", "stdout"}
)
SAME = frozenset({"T", "mT", "H", "real", "values", "indices"})


def attribute(
    machine: Machine, value: Value, name: str, scope: Scope, *, is_self: bool = False, is_called: bool = False
) -> Value:
    """What value.name is.

    Args:
        is_self: value is the name self.
        is_called: it is called, so only functions matter; a method that the script does not define gives no reference.
    """
    found = [one for thing in value.refs for one in of_thing(machine, value, thing, name, scope)]
    if found:
        both = join(*found)
        turns = only(value.marks, Turn)
        # What an object of one turn of a loop holds is of that turn.
        return both.marked(turns) if turns and not both.refs and not frozenset(turns) <= both.marks else both
    if name == "training":
        return machine.training
    if is_called or (name in PLAIN and not value.texts):
        return Value()
    marks = marks_of(value)
    if name in {"weight", "bias"} and not machine.is_in_module and not is_self:
        return Value(marks | {Flag.WEIGHTS})
    if name == "data" or name in SAME:
        return Value(marks, refs=value.refs)
    return Value(marks, tuple(value.texts))


def of_thing(machine: Machine, value: Value, thing: object, name: str, scope: Scope) -> list[Value]:
    """The attribute of one thing that a value may be; none where it has no such attribute that is known."""
    match thing:
        case Instance():
            return of_instance(machine, thing, name, scope)
        case Class():
            found = thing.find(name)
            return [] if found is None else [found]
        case Library():
            if name == "__dict__":
                return [ref(Library(thing.name))]
            return [ref(Library(f"{thing.name}.{name}"))]
        case Made():
            return [thing.attrs[name]] if name in thing.attrs else []
        case Partial() if name == "func":
            return [thing.callee]
        case _:
            return []


def of_instance(machine: Machine, one: Instance, name: str, scope: Scope) -> list[Value]:
    """An attribute of an object: its own, or its class's, bound to it."""
    if name in one.attrs:
        found = one.attrs[name]
        if name in machine.counters and is_number_like(found):
            return [Value(found.marks | machine.turns, found.consts, found.refs)]
        return [found]
    if name == "__class__":
        return [ref(one.cls)]
    if name == "__dict__":
        return [ref(Table(dict[object, Value](one.attrs)))]  # type: ignore[arg-type]
    if name == "training":
        return []
    found = one.cls.find(name)
    if found is None:
        getter = one.cls.find("__getattr__")
        if getter is not None and not one.cls.is_module:
            return [machine.call(getter, [ref(one), const(name)], scope)]
        return []
    bound = [bind(thing, ref(one), found) for thing in found.refs if isinstance(thing, Function)]
    if bound and is_property(found):
        return [machine.call(join(*bound), [], scope)]
    others = tuple(thing for thing in found.refs if not isinstance(thing, Function))
    if others or not bound:
        bound.append(Value(found.marks, found.consts, others, found.is_open))
    if name in machine.counters and is_number_like(found):
        return [Value(found.marks | machine.turns, found.consts)]
    return bound


def bind(function: Function, receiver: Value, found: Value) -> Value:
    """A function as a method of an object."""
    if function.owner is None or "staticmethod" in decorators(function):
        return Value(found.marks, (), (function,))
    return ref(Method(function, receiver))


def decorators(function: Function) -> set[str]:
    """The last names of a function's decorators."""
    if isinstance(function.node, ast.Lambda):
        return set()
    names: set[str] = set()
    for one in function.node.decorator_list:
        target = one.func if isinstance(one, ast.Call) else one
        names.add(
            target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
        )
    return names


def is_property(value: Value) -> bool:
    """Whether an attribute is computed when it is read."""
    return any(isinstance(one, Function) and decorators(one) & {"property", "cached_property"} for one in value.refs)


def hidden(marks: frozenset[object]) -> frozenset[object]:
    """Marks inside a model."""
    return marks | {Flag.HIDDEN}
