"""Comprehensions of a script that is followed."""

import ast

from search.verify.review.assign import assign
from search.verify.review.containers import elements, is_written_out
from search.verify.review.machine import Machine, truth
from search.verify.review.marks import Flag
from search.verify.review.values import (
    Items,
    Scope,
    Table,
    Value,
    join,
    ref,
)

MAX_PAIRS = 64
MAX_EXACT_ITEMS = 8


def comprehension(
    machine: Machine, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, scope: Scope
) -> Value:
    """A comprehension, its items followed once each."""
    inside = Scope(scope, owner=scope.owner)
    inside.globals_ = {}
    pairs: list[tuple[Value, Value]] = []
    is_exact = follow_generators(machine, node, list(node.generators), inside, pairs)
    if isinstance(node, ast.DictComp):
        made = Table({})
        for key, value in pairs:
            exact = key.exact
            if isinstance(exact, str | int):
                made.entries[exact] = value
            else:
                made.rest = join(made.rest, value)
        return ref(made)
    return ref(Items([value for _, value in pairs], is_exact and isinstance(node, ast.ListComp)))


def follow_generators(
    machine: Machine,
    node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp,
    generators: list[ast.comprehension],
    scope: Scope,
    pairs: list[tuple[Value, Value]],
) -> bool:
    """The items of a comprehension from its outermost generator inwards; whether these are all of them, in order."""
    if len(pairs) > MAX_PAIRS:
        return False
    if not generators:
        if isinstance(node, ast.DictComp):
            pairs.append((machine.evaluate(node.key, scope), machine.evaluate(node.value, scope)))
        else:
            pairs.append((Value(), machine.evaluate(node.elt, scope)))
        return True
    first, rest = generators[0], generators[1:]
    source = machine.evaluate(first.iter, scope)
    items = elements(machine, source, scope)
    is_exact = is_written_out(source) and not first.ifs and len(items) <= MAX_EXACT_ITEMS
    for item in items if len(items) <= MAX_EXACT_ITEMS else [join(*items)]:
        kept = item
        for test in first.ifs:
            kept = filtered(test, first.target, kept)
        assign(machine, first.target, kept, scope)
        if all(truth(machine.evaluate(test, scope)) is not False for test in first.ifs):
            is_exact &= follow_generators(machine, node, rest, scope, pairs)
    return is_exact


def filtered(test: ast.expr, target: ast.expr, item: Value) -> Value:
    """A path of which a condition says which split it is of."""
    words = [one.value for one in ast.walk(test) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    if not item.texts or not isinstance(target, ast.Name):
        return item
    negated = any(isinstance(one, ast.NotIn | ast.Not) for one in ast.walk(test))
    for word, flag in (("train", Flag.TRAIN), ("val", Flag.VAL)):
        if any(word in text for text in words):
            is_val = (flag is Flag.VAL) != negated
            split = "val" if is_val else "train"
            return Value(item.marks, tuple(f"{text}/fineweb_{split}_" for text in item.texts))
    return item
