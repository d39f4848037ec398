"""What a rung still owes, read off its trials alone, so that a restart after any crash comes to the same answer."""

from collections.abc import Mapping, Sequence

from search.trials import OPEN_STATUSES, TrialRow, TrialStatus
from trainer.result import FailureKind

MAX_ATTEMPTS = 2
# In a row, for each of which another proposal is asked. Around some bases half of a family's proposals contradict
# themselves or are far too large; where all are, each further one uses up a trial, so that the study comes to an end.
MAX_REFUSED = 20
# Not a strike against the trial: the user cancelled it, or no trial can run until somebody repairs the data.
BLAMELESS = frozenset({FailureKind.CANCELLED, FailureKind.DATA})
TWIN_STATUSES = OPEN_STATUSES | {
    TrialStatus.FEASIBLE,
    TrialStatus.INFEASIBLE,
    TrialStatus.FAILED,
    TrialStatus.STOPPED,
}


def retries_due(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Lost trials that are to be queued again: each once, unless the machine has failed its repeat too."""
    retried = {row.retry_of for row in rows}
    by_number = {row.number: row for row in rows}
    return [
        row
        for row in rows
        if row.status is TrialStatus.LOST
        and row.number not in retried
        and row.recipe is not None
        and (row.failure in BLAMELESS or attempt_of(row, by_number) < MAX_ATTEMPTS)
    ]


def attempt_of(row: TrialRow, by_number: Mapping[int, TrialRow]) -> int:
    """1 for a first try, 2 where the machine failed the trial that this one repeats."""
    attempt, number = 1, row.retry_of
    while number is not None:
        earlier = by_number[number]
        attempt += earlier.failure not in BLAMELESS
        number = earlier.retry_of
    return attempt


def seeds_due(rows: Sequence[TrialRow], seeds: Sequence[int]) -> list[tuple[TrialRow, int]]:
    """Trials of the first seed, and the further seeds their recipe is still to be queued with."""
    present = {row.key for row in rows}
    worth = {TrialStatus.RUNNING, TrialStatus.FEASIBLE}
    return [
        (row, seed)
        for row in rows
        if row.status in worth and row.key is not None and not row.is_copy
        if row.key[1] == seeds[0]
        for seed in seeds[1:]
        if (row.key[0], seed) not in present
    ]


def counted(rows: Sequence[TrialRow], seed: int) -> int:
    """How many of a first rung's trials are used up.

    A trial counts once however often it is repeated; further seeds of a recipe, dropped proposals and those that
    contradict themselves or are hopelessly large do not count.
    """
    retried = {row.retry_of for row in rows}
    own = [
        row
        for row in rows
        if row.status is not TrialStatus.DUPLICATE
        and row.number not in retried
        and row.attributes.get("seed", seed) == seed
    ]
    return len(own) - _num_replaced(own)


def _num_replaced(rows: Sequence[TrialRow]) -> int:
    """How many proposals were refused, so that another one was asked for."""
    replaced = in_a_row = 0
    for row in rows:
        in_a_row = in_a_row + 1 if row.is_refused else 0
        replaced += 0 < in_a_row <= MAX_REFUSED
    return replaced


def is_settled(rows: Sequence[TrialRow], trials: int | None, seed: int) -> bool:
    """Whether nothing is queued or running and, in a first rung, all its trials are there."""
    has_all = trials is None or counted(rows, seed) >= trials
    return has_all and not any(row.is_open for row in rows)


def is_done(rows: Sequence[TrialRow], trials: int | None, seeds: Sequence[int]) -> bool:
    """Whether a rung is settled and nothing would be queued in it again: no machine is needed for it."""
    has_seeds = trials is None or not seeds_due(rows, seeds)
    return is_settled(rows, trials, seeds[0]) and has_seeds and not retries_due(rows)


def twin_of(rows: Sequence[TrialRow], number: int, key: tuple[str, int]) -> TrialRow | None:
    """The earliest other trial with this recipe and seed that has a result or will have one."""
    twins = (row for row in rows if row.key == key and row.number != number and row.status in TWIN_STATUSES)
    return min(twins, key=lambda row: (row.is_open, row.number), default=None)
