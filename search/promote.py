"""Which trials are best, which of them go on to the next rung, and the queueing of those."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search.decision import Reason
from search.errors import SpecError
from search.study import RungStudy
from search.trials import TrialRow, TrialStatus
from search.winner import Terms, standings
from trainer.config import Recipe

BY_USER = {"reason": Reason.USER.value, "mean": None, "sd": None, "alternatives": []}
FindParams = Callable[[Recipe], Mapping[str, Any]]  # the point of the space that suggests a recipe, {} outside


def best_feasible(rows: Sequence[TrialRow]) -> TrialRow | None:
    """The feasible trial of lowest val_bpb, the earlier of equals; None without one."""
    return min(_feasible(rows), key=_score, default=None)


def pareto_front(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Feasible trials that no other feasible trial beats in one objective and equals in the rest, best score first.

    Of trials with equal values only the earliest is on it.
    """
    feasible = sorted(_feasible(rows), key=lambda row: row.number)
    front = [row for row in feasible if not any(_dominates(other, row) for other in feasible)]
    return sorted(front, key=_score)


def queue_promoted(source: TrialRow, target: RungStudy, seeds: Sequence[int], find_params: FindParams) -> int:
    """Queue a trial's recipe in a later rung, once a seed; seeds it is already there with are skipped.

    Returns:
        How many trials were queued.
    """
    recipe = source.recipe
    if recipe is None:
        raise SpecError(f"trial {source.rung}/{source.number}: must have a recipe to be promoted, got {source.reason}")
    missing = missing_seeds(source, target, seeds)
    for seed in missing:
        origin = f"{source.rung}/{source.number}"
        target.queue(recipe, seed, find_params(recipe), promoted_from=origin, decision=BY_USER)
    return len(missing)


def missing_seeds(source: TrialRow, target: RungStudy, seeds: Sequence[int]) -> list[int]:
    """The seeds that a trial's recipe is not yet in a later rung with."""
    present = {row.key for row in target.rows()}
    return [seed for seed in seeds if (source.attributes["recipe_hash"], seed) not in present]


def trial_to_promote(rows: Sequence[TrialRow], terms: Terms, number: int | None) -> TrialRow:
    """The trial of that number, or of the recipe that is most likely the best.

    An infeasible trial may be promoted by number: a longer run may well fit, since trained weights compress better.

    Raises:
        SpecError: there is no such trial, it was not measured, or nothing is feasible yet.
    """
    if number is None:
        best = standings(rows, terms)
        if not best:
            raise SpecError("promote: needs a feasible trial, got none yet; name one with --trial")
        return best[0].row
    chosen = next((row for row in rows if row.number == number), None)
    if chosen is None:
        raise SpecError(f"promote: trial must be 0 to {len(rows) - 1}, got {number}")
    if chosen.val_bpb is None:
        raise SpecError(
            f"promote: trial {number} must have been measured, got {chosen.status} {chosen.reason}".rstrip()
        )
    return chosen


def _feasible(rows: Sequence[TrialRow]) -> list[TrialRow]:
    return [row for row in rows if row.status is TrialStatus.FEASIBLE]


def _score(row: TrialRow) -> tuple[float, int]:
    return row.attributes["val_bpb"], row.number


def _dominates(one: TrialRow, other: TrialRow) -> bool:
    if one.values == other.values:
        return one.number < other.number
    return all(a <= b for a, b in zip(one.values, other.values, strict=True))
