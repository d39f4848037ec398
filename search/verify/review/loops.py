"""Loops of a script that is followed: each turn marks what it takes."""

import ast

from search.verify.review.assign import assign
from search.verify.review.containers import elements
from search.verify.review.machine import Machine, is_number_like, merged, truth
from search.verify.review.marks import Flag, Turn
from search.verify.review.values import Scope, Value, join

TURNS = 2


MAX_EXACT_TURNS = 8


MAX_LOOPS = 4  # inside so many, another one is followed once


def written_names(body: list[ast.stmt]) -> set[str]:
    """Names that a block assigns."""
    return {
        node.id
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def begin_turn(scope: Scope, names: set[str], turn: Turn) -> None:
    """Let names that the loop assigns be what they may be in any turn, and indices be of this one."""
    for name in names:
        value = scope.names.get(name)
        if value is None:
            continue
        if is_number_like(value):
            marks = frozenset(mark for mark in value.marks if not (isinstance(mark, Turn) and mark.loop == turn.loop))
            scope.names[name] = Value(marks | {turn}, value.consts, value.refs)
        elif value.consts:
            scope.names[name] = value.widened()


def run_for(machine: Machine, node: ast.For | ast.AsyncFor, scope: Scope) -> None:
    """Follow a loop over what its iterable holds."""
    items = elements(machine, machine.evaluate(node.iter, scope), scope)
    if not items:
        return
    loop = machine.number()
    names = written_names(node.body)
    before = dict(scope.names)
    for turn, item in enumerate(items_of_turns(machine, items)):
        mark = Turn(loop, turn)
        machine.loops.append(mark)
        begin_turn(scope, names, mark)
        assign(machine, node.target, stamped(item, mark), scope)
        machine.run(node.body, scope)
        machine.loops.pop()
    scope.names = merged(before, scope.names)
    machine.run(node.orelse, scope)


def items_of_turns(machine: Machine, items: list[Value]) -> list[Value]:
    """The item of each turn that is followed. Inside a model one turn will do: nothing there depends on order."""
    if turns_of(machine) == 1:
        return [join(*items)]
    if len(items) > MAX_EXACT_TURNS:
        return [join(*items)] * TURNS
    return items if len(items) >= TURNS else items * TURNS


def turns_of(machine: Machine) -> int:
    """How often a loop that begins now is followed."""
    return 1 if machine.is_in_module or len(machine.loops) >= MAX_LOOPS else TURNS


def stamped(item: Value, mark: Turn) -> Value:
    """An item of one turn. A known constant is one of several."""
    return Value(item.marks | {mark}, item.consts, item.refs, item.is_open or isinstance(item.exact, int))


def run_while(machine: Machine, node: ast.While, scope: Scope) -> None:
    """Follow a loop with a condition."""
    test = machine.evaluate(node.test, scope)
    if test.consts and truth(test) is False and Flag.SETTING not in test.marks:
        return
    loop, names, before = machine.number(), written_names(node.body), dict(scope.names)
    for turn in range(turns_of(machine)):
        mark = Turn(loop, turn)
        machine.loops.append(mark)
        begin_turn(scope, names, mark)
        machine.evaluate(node.test, scope)
        machine.run(node.body, scope)
        machine.loops.pop()
    scope.names = merged(before, scope.names)
