"""Fallback rungs: longer proxies that a study runs only where the rung before them is seen not to rank.

Whether one has opened is read off the trials alone: it has some, or the rungs before and after it share enough recipes
to tell that they do not agree. It stays open then, and feeds the rung after it in the place of the one before.
"""

from collections.abc import Mapping, Sequence

from search.correlation import rank_correlation, ranks
from search.promotion_rule import used_slots
from search.spec import StudySpec
from search.spec_rungs import RungSpec
from search.trials import TrialRow

RowsByRung = Mapping[str, Sequence[TrialRow]]


def is_open(spec: StudySpec, rung: RungSpec, rows_of: RowsByRung) -> bool:
    """Whether a rung takes part: always, unless it is a fallback that has not been needed so far."""
    if not rung.fallback or rows_of[rung.name]:
        return True
    place = spec.rungs.index(rung)
    before, after = spec.rungs[place - 1], spec.rungs[place + 1]
    if used_slots(rows_of[after.name]) >= (after.promote or 0):
        return False  # nothing is left that a better proxy could choose
    return ranks(rank_correlation(rows_of[before.name], rows_of[after.name])) is False


def feeding_place(spec: StudySpec, place: int, rows_of: RowsByRung) -> int:
    """The place of the rung that feeds a later one now."""
    return place - 1 if is_open(spec, spec.rungs[place - 1], rows_of) else place - 2


def taking_part(rows_of: RowsByRung) -> list[str]:
    """The rungs that promote into each other, in order: one without a trial between two that have some is closed."""
    names = list(rows_of)
    last = max((place for place, name in enumerate(names) if rows_of[name]), default=-1)
    return [name for place, name in enumerate(names) if rows_of[name] or place > last]
