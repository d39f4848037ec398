"""Builtins that make, join and choose from lists."""

import ast
from collections.abc import Callable

from search.verify.review.containers import copied, elements, held, pairs
from search.verify.review.machine import Call, Machine, without
from search.verify.review.marks import Flag, Plus, State
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Items,
    Table,
    Value,
    all_marks,
    join,
    marks_of,
    ref,
)

Model = Callable[[Machine, Call, str], Value]


def first(call: Call) -> Value:
    """The first argument."""
    return call.args[0] if call.args else Value()


def listed(machine: Machine, call: Call, name: str) -> Value:
    """Follow list, sorted and their like."""
    value = first(call)
    if not call.args:
        return ref(Items([]))
    if "key" in call.keywords:
        choose(machine, call, elements(machine, value, call.scope), name)
    if any(isinstance(one, Items) for one in value.refs):
        return copied(value)
    items = elements(machine, value, call.scope) if value.refs else []
    return ref(Items(items, is_exact=False)) if items else Value(marks_of(value), tuple(value.texts))


def queue(machine: Machine, call: Call, name: str) -> Value:
    """Follow Queue: what is put in comes out."""
    return ref(Items([], is_exact=False))


def chained(machine: Machine, call: Call, name: str) -> Value:
    """Follow itertools.chain."""
    return ref(Items([item for arg in call.args for item in elements(machine, arg, call.scope)], is_exact=False))


def mapping(machine: Machine, call: Call, name: str) -> Value:
    """Follow dict and its like."""
    made = Table(dict[object, Value](call.keywords))  # type: ignore[arg-type]
    for arg in call.args:
        for one in arg.refs:
            if isinstance(one, Table):
                made.entries.update(one.entries)
                made.rest = one.rest
        if not arg.consts and not any(isinstance(one, Table) for one in arg.refs) and name == "dict":
            made.rest = held(arg)
    return ref(made)


def enumerated(machine: Machine, call: Call, name: str) -> Value:
    """Follow enumerate."""
    return ref(Items([pairs(Value(), item) for item in elements(machine, first(call), call.scope)], is_exact=False))


def zipped(machine: Machine, call: Call, name: str) -> Value:
    """Follow zip."""
    columns = [elements(machine, arg, call.scope) for arg in call.args]
    if columns and all(len(column) == len(columns[0]) for column in columns) and len(columns[0]) <= 8:
        return ref(Items([ref(Items(list(row))) for row in zip(*columns, strict=True)]))
    return ref(Items([ref(Items([join(*column) if column else Value() for column in columns]))], is_exact=False))


def mapped(machine: Machine, call: Call, name: str) -> Value:
    """Follow map, filter and an executor's map and submit."""
    columns = [join(*items) for arg in call.args[1:] if (items := elements(machine, arg, call.scope))]
    if name.endswith("filter"):
        return ref(Items(elements(machine, call.args[1], call.scope) if len(call.args) > 1 else [], is_exact=False))
    return ref(Items([machine.call(first(call), columns, call.scope)], is_exact=False))


def counted(machine: Machine, call: Call, name: str) -> Value:
    """Follow range: numbers of which only the bounds' marks are known."""
    return Value(without(all_marks(call.values), Plus))


def following(machine: Machine, call: Call, name: str) -> Value:
    """Follow next: another item each turn of a loop."""
    value = first(call)
    found = elements(machine, value, call.scope)
    return (join(*found) if found else Value(marks_of(value))).marked(machine.turns)


def choose(machine: Machine, call: Call, items: list[Value], name: str) -> frozenset[State]:
    """Record a choice by a validation loss; what is chosen is marked as fitted by it."""
    given = machine.call(call.keywords["key"], [join(*items)], call.scope) if items else Value()
    marks = marks_of(given)
    if not {Flag.VAL, Flag.LOSS} <= marks:
        return frozenset()
    fitted = frozenset({State(machine.number(), is_model=False)})
    machine.event(Kind.SELECT, "rounding" if Flag.ROUNDED in marks | all_marks(items) else name, marks, fitted)
    return fitted


def extreme(machine: Machine, call: Call, name: str) -> Value:
    """Follow min and max; the choice of weights by a validation loss is recorded."""
    items = (
        [item for arg in call.args for item in elements(machine, arg, call.scope)] if len(call.args) == 1 else call.args
    )
    marks = all_marks(items)
    if "key" in call.keywords and items:
        return join(*items).marked(choose(machine, call, items, name))
    is_each = (
        call.node is not None and len(call.args) == 1 and isinstance(call.node.args[0], ast.GeneratorExp | ast.ListComp)
    )
    if is_each and {Flag.VAL, Flag.LOSS} <= marks:
        return Value(marks | {Flag.BEST})
    numbers = [item.exact for item in items]
    if items and all(isinstance(one, int | float) for one in numbers):
        known = [one for one in numbers if isinstance(one, int | float)]
        return Value(marks, (min(known) if name == "min" else max(known),), is_open=False)
    # A floor under a number is no other number.
    return Value(marks, (), join(*items).refs if items else ())
