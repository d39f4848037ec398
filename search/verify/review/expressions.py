"""Expressions of a script that is followed: what is known of their value."""

import ast
import builtins
from collections.abc import Callable, Hashable
from typing import Any

from search.verify.review.arithmetic import binary, comparison
from search.verify.review.assign import assign
from search.verify.review.attributes import attribute
from search.verify.review.comprehensions import comprehension
from search.verify.review.containers import elements, is_written_out
from search.verify.review.machine import Call, Machine, settings_off, truth
from search.verify.review.marks import NO_MARKS, Flag
from search.verify.review.reports import format_spec_event
from search.verify.review.subscripts import read_item
from search.verify.review.values import (
    Function,
    Items,
    Library,
    Scope,
    Table,
    Value,
    all_marks,
    const,
    join,
    marks_of,
    ref,
)

PLACEHOLDER = "\0"
MAX_TEXT = 2_000
MAX_LITERAL = 64  # items of a literal that are looked at


def evaluate(machine: Machine, node: ast.expr, scope: Scope) -> Value:
    """What is known of an expression's value; its effects are followed."""
    machine.spend()
    # By type first: a long match takes a fifth of the whole time.
    frequent = FREQUENT.get(type(node))
    return other(machine, node, scope) if frequent is None else frequent(machine, node, scope)


def constant(machine: Machine, node: ast.Constant, scope: Scope) -> Value:
    """A constant."""
    return const(node.value)


def named(machine: Machine, node: ast.Name, scope: Scope) -> Value:
    """What a name means."""
    found = scope.find(node.id)
    return name_value(machine, node.id, scope) if found is None else found


def attribute_value(machine: Machine, node: ast.Attribute, scope: Scope) -> Value:
    """What an attribute is."""
    return attribute(machine, machine.evaluate(node.value, scope), node.attr, scope, is_self=is_self(node))


def operation(machine: Machine, node: ast.BinOp, scope: Scope) -> Value:
    """What an operator gives."""
    return binary(machine, node, machine.evaluate(node.left, scope), machine.evaluate(node.right, scope))


def item(machine: Machine, node: ast.Subscript, scope: Scope) -> Value:
    """What an index or slice gives."""
    return read_item(machine, node, machine.evaluate(node.value, scope), scope)


def literal(machine: Machine, node: ast.Tuple | ast.List | ast.Set, scope: Scope) -> Value:
    """A list, tuple or set that is written out."""
    return sequence(machine, node.elts, scope)


def other(machine: Machine, node: ast.expr, scope: Scope) -> Value:
    """The rarer kinds of expressions."""
    match node:
        case ast.BoolOp():
            return boolean(machine, node, scope)
        case ast.Compare():
            values = [machine.evaluate(one, scope) for one in [node.left, *node.comparators]]
            return comparison(node, values)
        case ast.UnaryOp():
            return unary(machine, node, scope)
        case ast.IfExp():
            return choice(machine, node, scope)
        case ast.Dict():
            return dictionary(machine, node, scope)
        case ast.Lambda():
            return ref(Function(node, scope, scope.owner))
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            return comprehension(machine, node, scope)
        case ast.NamedExpr():
            value = machine.evaluate(node.value, scope)
            assign(machine, node.target, value, scope)
            return value
        case ast.Yield():
            value = machine.evaluate(node.value, scope) if node.value else const(None)
            machine.frame.yields.append(value)
            return Value()
        case ast.YieldFrom():
            machine.frame.yields += elements(machine, machine.evaluate(node.value, scope), scope)
            return Value()
        case ast.Starred() | ast.Await():
            return machine.evaluate(node.value, scope)
        case ast.Slice():
            bounds = [machine.evaluate(one, scope) for one in (node.lower, node.upper, node.step) if one]
            return Value(all_marks(bounds))
        case _:
            return Value()


def is_self(node: ast.Attribute) -> bool:
    """Whether an attribute is one of self."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def name_value(machine: Machine, name: str, scope: Scope) -> Value:
    """What a name means."""
    found = scope.find(name)
    if found is not None:
        return found
    if name == "__file__":
        return const("__file__")
    if name == "__name__":
        return const("__main__")
    if hasattr(builtins, name):
        return ref(Library(name))
    return ref(*[Library(f"{module}.{name}") for module in scope.root.starred])


def sequence(machine: Machine, nodes: list[ast.expr], scope: Scope) -> Value:
    """A list, tuple or set."""
    made = Items([])
    for node in nodes[:MAX_LITERAL]:
        value = machine.evaluate(node, scope)
        if isinstance(node, ast.Starred):
            made.is_exact &= is_written_out(value)
            for one in elements(machine, value, scope):
                made.append(one)
        else:
            made.append(value)
    made.is_exact = made.is_exact and len(nodes) <= MAX_LITERAL
    return ref(made)


def dictionary(machine: Machine, node: ast.Dict, scope: Scope) -> Value:
    """A dict."""
    made = Table({})
    for key, item in list(zip(node.keys, node.values, strict=True))[:MAX_LITERAL]:
        value = machine.evaluate(item, scope)
        if key is None:
            for one in value.refs:
                if isinstance(one, Table):
                    made.entries.update(one.entries)
                    made.rest = join(made.rest, one.rest)
            continue
        exact = machine.evaluate(key, scope).exact
        if isinstance(exact, str | int | bool | float | bytes | None):
            made.entries[exact] = value
        else:
            made.rest = join(made.rest, value)
    return ref(made)


def call_value(machine: Machine, node: ast.Call, scope: Scope) -> Value:
    """What a call gives."""
    receiver: Value | None = None
    if isinstance(node.func, ast.Attribute):
        receiver, name = machine.evaluate(node.func.value, scope), node.func.attr
        callee = attribute(machine, receiver, name, scope, is_self=is_self(node.func), is_called=True)
    else:
        callee, name = machine.evaluate(node.func, scope), node.func.id if isinstance(node.func, ast.Name) else ""
    args: list[Value] = []
    has_known_places = True
    for one in node.args:
        value = machine.evaluate(one, scope)
        args += elements(machine, value, scope) if isinstance(one, ast.Starred) else [value]
        has_known_places &= not isinstance(one, ast.Starred) or is_written_out(value)
    keywords: dict[str, Value] = {}
    for one in node.keywords:
        value = machine.evaluate(one.value, scope)
        if one.arg is not None:
            keywords[one.arg] = value
            format_spec_event(machine, one.arg, value)
        else:
            for thing in value.refs:
                if isinstance(thing, Table):
                    keywords.update({str(key): item for key, item in thing.entries.items()})
    machine.line = node.lineno
    call = Call(node, name, callee, receiver, args, keywords, scope, has_known_places=has_known_places)
    return machine.invoke(call)


def boolean(machine: Machine, node: ast.BoolOp, scope: Scope) -> Value:
    """And, or."""
    values = [machine.evaluate(one, scope) for one in node.values]
    stops = isinstance(node.op, ast.Or)
    marks = all_marks(values)
    known = [truth(value) for value in values]
    if stops in known:
        deciding = values[known.index(stops)]
        if not all(one is not None for one in known[: known.index(stops)]):
            deciding = Value(deciding.marks, deciding.consts, (), False)
        return Value(deciding.marks if not settings_off(deciding) else marks, deciding.consts, deciding.refs, False)
    if all(one is not None for one in known):
        return values[-1].marked(marks)
    refs = join(*values).refs
    return Value(marks - {Flag.SETTING}, (), refs)


def unary(machine: Machine, node: ast.UnaryOp, scope: Scope) -> Value:
    """Not, minus and so on."""
    value = machine.evaluate(node.operand, scope)
    if isinstance(node.op, ast.Not):
        known = truth(value)
        marks = marks_of(value)
        return Value(marks) if known is None else Value(marks, (not known,), is_open=False)
    exact = value.exact
    if isinstance(node.op, ast.USub) and isinstance(exact, int | float):
        return Value(value.marks, (-exact,), is_open=False)
    return Value(value.marks)


def choice(machine: Machine, node: ast.IfExp, scope: Scope) -> Value:
    """A if test else b."""
    test = machine.evaluate(node.test, scope)
    known = truth(test)
    if known is not None and not settings_off(test):
        return machine.evaluate(node.body if known else node.orelse, scope)
    if known is not None:
        likely, other_one = (node.body, node.orelse) if known else (node.orelse, node.body)
        value = machine.evaluate(likely, scope)
        with machine.optionally(True):
            machine.evaluate(other_one, scope)
        return value.marked({Flag.SETTING}) if value.consts and not value.refs else value
    return join(machine.evaluate(node.body, scope), machine.evaluate(node.orelse, scope))


def joined_text(machine: Machine, node: ast.JoinedStr, scope: Scope) -> Value:
    """An f-string: its text where its values are known, and a report of each number it names."""
    texts: list[str] = []
    marks = NO_MARKS
    is_open = False
    for part in node.values:
        if isinstance(part, ast.Constant):
            texts.append(str(part.value))
        elif isinstance(part, ast.FormattedValue):
            value = machine.evaluate(part.value, scope)
            format_spec_event(machine, "".join(texts)[-60:], value)
            marks |= marks_of(value)
            known: Hashable = value.consts[0] if value.consts else PLACEHOLDER
            is_open |= value.is_open
            texts.append(str(known))
    return Value(marks, ("".join(texts)[:MAX_TEXT],), is_open=is_open)


FREQUENT: dict[type[ast.expr], Callable[[Machine, Any, Scope], Value]] = {
    ast.Constant: constant,
    ast.Name: named,
    ast.Attribute: attribute_value,
    ast.Call: call_value,
    ast.BinOp: operation,
    ast.Subscript: item,
    **dict.fromkeys((ast.Tuple, ast.List, ast.Set), literal),
    ast.JoinedStr: joined_text,
}
