"""Whether two pieces of a stream may share tokens."""

from collections.abc import Mapping
from typing import Any

from search.verify.review.marks import Marks, Part, Turn


def may_overlap(one: Marks, other: Marks) -> bool:
    """Whether two pieces may share tokens: false if some loop or cut keeps them apart."""
    return not (
        are_apart(turns_by_loop(one), turns_by_loop(other)) or are_apart(sides_by_cut(one), sides_by_cut(other))
    )


def are_apart(left: Mapping[Any, set[Any]], right: Mapping[Any, set[Any]]) -> bool:
    """Whether something that both have a side of has them on different ones."""
    return any(left[key].isdisjoint(right[key]) for key in left.keys() & right.keys())


def turns_by_loop(marks: Marks) -> dict[int, set[int]]:
    """The turns of each loop that a piece comes from."""
    found: dict[int, set[int]] = {}
    for mark in marks:
        if isinstance(mark, Turn):
            found.setdefault(mark.loop, set()).add(mark.turn)
    return found


def sides_by_cut(marks: Marks) -> dict[str, set[bool]]:
    """The sides of each cut on which a piece lies."""
    found: dict[str, set[bool]] = {}
    for mark in marks:
        if isinstance(mark, Part):
            found.setdefault(mark.cut, set()).add(mark.is_after)
    return found
