"""Assignments: names, attributes and items get values."""

import ast

from search.verify.review.arithmetic import binary
from search.verify.review.containers import held, unpack
from search.verify.review.machine import Machine, instances
from search.verify.review.marks import Flag, State
from search.verify.review.subscripts import is_token_key, places, store
from search.verify.review.trace import Kind
from search.verify.review.values import Class, Instance, Items, Scope, Value, join, marks_of

GROWN = frozenset({Flag.VAL, Flag.TRAIN, Flag.LOSS, Flag.TABLE, Flag.HESSIAN, Flag.BUFFER, Flag.PIECES})


def assign(machine: Machine, target: ast.expr, value: Value, scope: Scope) -> None:
    """Follow target = value."""
    match target:
        case ast.Name():
            scope.bind(target.id, value)
        case ast.Tuple() | ast.List():
            assign_parts(machine, target.elts, value, scope)
        case ast.Starred():
            assign(machine, target.value, Value(value.marks, (), (Items([held(value)], is_exact=False),)), scope)
        case ast.Attribute():
            assign_attribute(machine, machine.evaluate(target.value, scope), target.attr, value)
        case ast.Subscript():
            store(machine, target, value, scope)
        case _:
            pass


def assign_parts(machine: Machine, targets: list[ast.expr], value: Value, scope: Scope) -> None:
    """Follow a, b = value."""
    if any(isinstance(one, ast.Starred) for one in targets):
        part = held(value)
        for one in targets:
            assign(machine, one, part, scope)
        return
    for one, part in zip(targets, unpack(value, len(targets)), strict=True):
        assign(machine, one, part, scope)


def assign_attribute(machine: Machine, owner: Value, name: str, value: Value) -> None:
    """Follow owner.name = value."""
    for one in owner.refs:
        if isinstance(one, Instance | Class):
            old = one.attrs.get(name)
            # A branch may not run, so what was there stays possible.
            one.attrs[name] = value if old is None else join(value, old).widened()
            if old is not None and not value.refs and not old.refs and not value.consts:
                one.attrs[name] = value
    if name == "data" and any(isinstance(mark, State) for mark in owner.marks):
        machine.event(Kind.RESET, "data", marks_of(value), owner.marks)


def augment(machine: Machine, node: ast.AugAssign, scope: Scope) -> None:
    """Follow target += value: memory that is written to keeps its other names."""
    value = machine.evaluate(node.value, scope)
    if isinstance(node.target, ast.Subscript):
        augment_item(machine, node.target, value, scope)
        return
    old = machine.evaluate(as_load(node.target), scope)
    for one in old.refs:
        if isinstance(one, Items):
            for item in [item for thing in value.refs if isinstance(thing, Items) for item in thing.items]:
                one.append(item.marked(value.marks))
            one.is_exact = False
            return
    added = marks_of(value)
    if isinstance(node.op, ast.MatMult | ast.Mult | ast.Div | ast.Add | ast.Sub) and not old.consts:
        pair = ast.copy_location(ast.BinOp(as_load(node.target), node.op, node.value), node)
        added = binary(machine, pair, old, value).marks
    if not old.consts and (old.marks & GROWN or added & GROWN):
        old.add(added)
        return
    if isinstance(node.target, ast.Name):
        scope.bind(node.target.id, Value(old.marks | added, old.consts, old.refs))
    else:
        for one in instances(machine.evaluate(node.target.value, scope)):
            one.attrs[node.target.attr] = Value(old.marks | added, old.consts, old.refs)


def as_load(node: ast.expr) -> ast.expr:
    """The same expression, read."""
    match node:
        case ast.Name():
            return ast.copy_location(ast.Name(node.id, ast.Load()), node)
        case ast.Attribute():
            return ast.copy_location(ast.Attribute(node.value, node.attr, ast.Load()), node)
        case _:
            return node


def augment_item(machine: Machine, target: ast.Subscript, value: Value, scope: Scope) -> None:
    """Follow base[key] += value."""
    key = machine.evaluate(target.slice, scope)
    marks = marks_of(value)
    if is_token_key(key):
        marks = frozenset(mark for mark in marks if isinstance(mark, Flag)) | {Flag.TABLE}
    for one in places(machine, target if not is_token_key(key) else target.value, scope):
        one.add(marks)


def delete(machine: Machine, target: ast.expr, scope: Scope) -> None:
    """Follow del."""
    if isinstance(target, ast.Name):
        scope.names.pop(target.id, None)
    elif isinstance(target, ast.Subscript):
        machine.evaluate(target.value, scope)


def bind_names(pattern: ast.pattern, subject: Value, scope: Scope) -> None:
    """Names of a match pattern."""
    match pattern:
        case ast.MatchAs(name=name, pattern=inner):
            if name:
                scope.bind(name, subject)
            if inner:
                bind_names(inner, subject, scope)
        case ast.MatchClass():
            for name, inner in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
                parts = [one.attrs[name] for one in instances(subject) if name in one.attrs]
                bind_names(inner, join(*parts) if parts else Value(subject.marks), scope)
            for inner in pattern.patterns:
                bind_names(inner, Value(marks_of(subject)), scope)
        case ast.MatchSequence() | ast.MatchOr():
            for inner in pattern.patterns:
                bind_names(inner, held(subject), scope)
        case ast.MatchStar(name=str(name)):
            scope.bind(name, subject)
        case _:
            pass
