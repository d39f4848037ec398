"""Follows a whole script: its top level, and whatever nothing in it calls."""

import ast
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from search.verify.review.calls import run_function
from search.verify.review.expressions import evaluate
from search.verify.review.library import invoke
from search.verify.review.machine import MAX_STEPS, Machine, TooLargeError
from search.verify.review.statements import run_block
from search.verify.review.trace import Trace
from search.verify.review.values import Class, Function, Scope

RECURSION = 12_000
# What code that was made to confuse may raise here: it is then not followed to its end, which is said.
CONFUSED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, MemoryError)
DEAD_STEPS = MAX_STEPS // 12


@contextmanager
def deep_recursion() -> Generator[None]:
    """Within it, Python functions may call each other deeply: a script's calls are followed by calls."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def counters_of(tree: ast.Module) -> frozenset[str]:
    """Attributes that are counted up somewhere."""
    return frozenset(
        node.target.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute)
    )


def follow(tree: ast.Module, settings: Mapping[str, str]) -> tuple[Trace, bool]:
    """What a script does, in order, and whether all of it could be followed.

    Args:
        settings: environment variables and options that its folder says to be set.
    """
    machine = Machine(settings, counters_of(tree))
    machine.evaluate = partial(evaluate, machine)
    machine.run = partial(run_block, machine)
    machine.invoke = partial(invoke, machine)
    scope = Scope(None)
    is_whole = True
    with deep_recursion():
        try:
            machine.run(tree.body, scope)
        except (TooLargeError, RecursionError, *CONFUSED):
            is_whole = False
        follow_rest(machine, tree, scope)
    return machine.trace, is_whole


def follow_rest(machine: Machine, tree: ast.Module, scope: Scope) -> None:
    """Follow functions that nothing called, so that what they would use is seen."""
    machine.is_dead = True
    machine.steps = MAX_STEPS - DEAD_STEPS
    machine.frames = machine.frames[:1]
    machine.loops.clear()
    machine.hooks.clear()
    seen = {event.line for event in machine.trace.events}
    with suppress(TooLargeError, RecursionError, *CONFUSED):
        for value in list(scope.names.values()):
            for one in value.refs:
                for function in functions_of(one):
                    if not touched(function, seen):
                        run_function(machine, function, [], {})


def functions_of(one: object) -> list[Function]:
    """A function, or the methods of a class."""
    if isinstance(one, Function):
        return [one]
    if isinstance(one, Class):
        return [thing for value in one.attrs.values() for thing in value.refs if isinstance(thing, Function)]
    return []


def touched(function: Function, seen: set[int]) -> bool:
    """Whether something was recorded inside a function."""
    first, last = function.node.lineno, function.node.end_lineno or function.node.lineno
    return any(first <= line <= last for line in seen)
