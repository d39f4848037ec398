"""Where a study stands, over plain rows."""

from typing import Any

import pytest
from made_trials import LIMIT, made_row, made_terms

from search.correlation import (
    correlate,
    correlation_warning,
    describe_correlation,
    mean_scores,
    rank_correlation,
    ranks,
)
from search.status import rung_status, winner_lines
from search.trials import TrialRow, TrialStatus


def row(recipe: str, val_bpb: float, status: TrialStatus = TrialStatus.FEASIBLE, **more: Any) -> TrialRow:
    return made_row({"recipe_hash": recipe, "val_bpb": val_bpb, **more}, status=status)


def test_the_winner_is_told_with_the_chance_that_its_further_seeds_fit() -> None:
    sure = row("a", 1.2, seed=1, artifact_bytes=10_000_000, weight_bytes=9_000_000)
    tight = row("a", 1.2, seed=1, artifact_bytes=LIMIT - 5000, weight_bytes=LIMIT - 65_000)
    lines = {
        name: winner_lines([rung_status("full", [one], made_terms(seeds=seeds))])[0]
        for name, one, seeds in (("sure", sure, [1, 2]), ("tight", tight, [1, 2]), ("alone", tight, [1]))
    }
    assert lines["sure"].endswith("with a probability of 100%") and lines["alone"] == lines["sure"]
    assert "; its other seeds keep the bytes with one of 6" in lines["tight"]


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
    pair = rank_correlation(low, high)
    assert (pair["recipes"], pair["spearman"], pair["kendall"]) == (3, -0.5, pytest.approx(-1 / 3))
    unknown = dict.fromkeys(("spearman", "kendall", "interval", "kendall_interval"))
    assert rank_correlation(low, high[:2]) == {"recipes": 2, **unknown}


def test_the_interval_is_narrow_for_many_recipes_and_wide_for_few() -> None:
    scores = [float(number) for number in range(40)]
    noisy = [score + 6 * (-1) ** place for place, score in enumerate(scores)]
    few, many = correlate(scores[:6], noisy[:6]), correlate(scores, noisy)
    assert many["interval"][0] > 0.7 > few["interval"][0]
    assert many["interval"][0] < many["spearman"] < many["interval"][1] <= 1
    assert correlate(scores[:4], scores[:4])["interval"] is not None, "the same order in both"


def test_a_proxy_that_does_not_rank_is_warned_of_once_there_is_enough_to_say_so() -> None:
    scores = [float(number) for number in range(8)]
    names = {"from": "proxy", "to": "full"}
    good = {**names, "recipes": 8, **correlate(scores, scores)}
    bad = {**names, "recipes": 8, **correlate(scores, scores[4:] + scores[:4])}
    few = {**names, "recipes": 5, **correlate(scores[:5], scores[4::-1])}
    assert [ranks(pair) for pair in (good, bad, few)] == [True, False, None]
    assert correlation_warning(good) == correlation_warning(few) == ""
    assert "Give proxy a longer budget" in correlation_warning(bad)
    assert describe_correlation(good) == "1.00, 90% interval 1.00 to 1.00; Kendall 1.00 (8 recipes in both)"
