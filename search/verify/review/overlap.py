"""Whether two pieces of a stream may share tokens."""

from collections.abc import Hashable

from search.verify.review.marks import Marks, Part, Turn


def may_overlap(one: Marks, other: Marks) -> bool:
    """Whether two pieces may share tokens: false if some loop or cut keeps them apart."""
    for group in (turns_by_loop, sides_by_cut):
        left, right = group(one), group(other)
        if any(left[key].isdisjoint(right[key]) for key in left.keys() & right.keys()):
            return False
    return True


def turns_by_loop(marks: Marks) -> dict[Hashable, set[Hashable]]:
    """The turns of each loop that a piece comes from."""
    found: dict[Hashable, set[Hashable]] = {}
    for mark in marks:
        if isinstance(mark, Turn):
            found.setdefault(mark.loop, set()).add(mark.turn)
    return found


def sides_by_cut(marks: Marks) -> dict[Hashable, set[Hashable]]:
    """The sides of each cut on which a piece lies."""
    found: dict[Hashable, set[Hashable]] = {}
    for mark in marks:
        if isinstance(mark, Part):
            found.setdefault(mark.cut, set()).add(mark.is_after)
    return found
