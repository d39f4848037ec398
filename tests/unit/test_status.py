"""Where a study stands, over plain rows."""

from typing import Any

from search.status import mean_scores, rank_correlation
from search.trials import TrialRow, TrialStatus


def row(recipe: str, val_bpb: float, status: TrialStatus = TrialStatus.FEASIBLE, **more: Any) -> TrialRow:
    return TrialRow(
        rung="proxy",
        number=0,
        status=status,
        values=(),
        params={},
        violations={},
        attributes={"recipe_hash": recipe, "val_bpb": val_bpb, **more},
        seconds=None,
    )


def test_a_recipe_scores_the_mean_of_its_own_runs() -> None:
    rows = [
        row("a", 1.0),
        row("a", 1.2, TrialStatus.INFEASIBLE),
        row("a", 1.0, copied_from=0),  # a repeat that cost no run must not weigh twice
        row("b", 9.0, TrialStatus.LOST),
    ]
    assert mean_scores(rows) == {"a": 1.1}


def test_rungs_are_compared_on_the_recipes_they_share() -> None:
    low = [row(recipe, score) for recipe, score in zip("abcd", (1.0, 1.1, 1.2, 1.3), strict=True)]
    high = [row(recipe, score) for recipe, score in zip("cab", (0.7, 0.8, 0.9), strict=True)]
    assert rank_correlation(low, high) == {"recipes": 3, "spearman": -0.5}
    assert rank_correlation(low, high[:2]) == {"recipes": 2, "spearman": None}
