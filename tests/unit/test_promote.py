"""Which trials are best and which go on, over plain rows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_trials import made_row, made_terms

from search.errors import SpecError
from search.promote import best_feasible, pareto_front, trial_to_promote
from search.trials import TrialRow, TrialStatus

Points = list[tuple[TrialStatus, float, int, str]]


def row(
    number: int, status: TrialStatus = TrialStatus.FEASIBLE, val_bpb: float = 1.5, size: int = 10, **more: Any
) -> TrialRow:
    attributes = {"recipe_hash": f"recipe{number}", "seed": 1, "val_bpb": val_bpb, "artifact_bytes": size, **more}
    return TrialRow(
        rung="proxy",
        number=number,
        status=status,
        values=(val_bpb, float(size)) if status is TrialStatus.FEASIBLE else (),
        params={},
        violations={},
        attributes=attributes,
        seconds=1.0,
    )


points = st.lists(
    st.tuples(
        st.sampled_from([TrialStatus.FEASIBLE, TrialStatus.INFEASIBLE, TrialStatus.RUNNING]),
        st.sampled_from([1.0, 1.1, 1.2, 1.3]),
        st.integers(1, 4),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=12,
)


def rows_of(drawn: Points) -> list[TrialRow]:
    return [row(n, status, score, size, recipe_hash=name) for n, (status, score, size, name) in enumerate(drawn)]


@given(points)
def test_the_front_is_what_no_feasible_trial_beats(drawn: Points) -> None:
    rows = rows_of(drawn)
    feasible = [one for one in rows if one.status is TrialStatus.FEASIBLE]
    front = pareto_front(rows)
    for one in front:
        assert one in feasible
        assert not any(
            all(a <= b for a, b in zip(x.values, one.values, strict=True)) and x.values != one.values for x in feasible
        )
    for one in feasible:
        assert any(all(a <= b for a, b in zip(x.values, one.values, strict=True)) for x in front)
    assert len({one.values for one in front}) == len(front)
    best = best_feasible(rows)
    assert (best is None) == (not feasible)
    assert best is None or best.val_bpb == min(x.attributes["val_bpb"] for x in feasible) == front[0].val_bpb


def test_the_best_trial_is_promoted_unless_one_is_named() -> None:
    rows = [row(0), row(1, val_bpb=1.2), row(2, TrialStatus.INFEASIBLE, val_bpb=1.1)]
    assert trial_to_promote(rows, made_terms(), None).number == 1
    assert trial_to_promote(rows, made_terms(), 0).number == 0
    assert trial_to_promote(rows, made_terms(), 2).number == 2


@pytest.mark.parametrize(
    ("number", "message"),
    [(None, "needs a feasible trial"), (7, "must be 0 to 0, got 7"), (0, "must have been measured, got running")],
)
def test_what_cannot_be_promoted_is_said(number: int | None, message: str) -> None:
    running = row(0, TrialStatus.RUNNING)
    bare = made_row({}, status=TrialStatus.RUNNING, seconds=None)
    assert running.val_bpb is not None
    with pytest.raises(SpecError, match=message):
        trial_to_promote([bare], made_terms(), number)
