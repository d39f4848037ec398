"""Indices that are counted on or back: which turn of a loop a piece that they begin is of."""

import ast
from dataclasses import replace

from search.verify.review.machine import is_number_like, only, without
from search.verify.review.marks import Flag, Marks, Plus, Turn
from search.verify.review.values import Value

MAX_OFFSET = 8  # a larger number moves a window, not a target
NEUTRAL = (1, -1, 0)  # factors that make no size of an index


def offset_of(marks: Marks) -> int:
    """How far an index was counted on; 0 where it was not."""
    return max([one.by for one in only(marks, Plus) if isinstance(one, Plus)], default=0)


def counted_on(marks: Marks, number: int) -> Marks:
    """Of an index plus a constant."""
    return without(marks, Plus) | {Plus(offset_of(marks) + number)}


def taken(left: Value, right: Value, marks: Marks) -> Marks:
    """Of a difference: an index less a small number, or the end of a turn's piece less its size, where it begins."""
    number = right.exact
    if isinstance(number, int) and 0 < number <= MAX_OFFSET and left.is_open and not left.refs:
        return counted_on(marks, -number)
    return frozenset(
        replace(one, turn=one.turn - one.ahead, ahead=0) if isinstance(one, Turn) else one
        for one in without(marks, Plus)
    )


def stepped(op: ast.operator, left: Value, right: Value, marks: Marks) -> Marks:
    """Of a product such as (i + 1) * size: where the piece of another turn begins, so it is of that turn."""
    by = offset_of(marks)
    is_index = is_number_like(left) and is_number_like(right) and Flag.HIDDEN not in marks
    if not by or not is_index or not isinstance(op, ast.Mult) or left.exact in NEUTRAL or right.exact in NEUTRAL:
        return marks
    return frozenset(
        replace(one, turn=one.turn + by, ahead=one.ahead + by) if isinstance(one, Turn) else one for one in marks
    )
