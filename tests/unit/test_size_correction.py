"""Predictions of bytes, corrected by a study's own runs."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_trials import made_row

from search.size import expected_steps, predicted_weight_bytes
from search.size_correction import SizePair, correction, kind_of, pairs_of, predicted_in_study
from search.trials import TrialRow
from spaces.fields import recipe_to_dict, set_values
from spaces.recipes import named_recipe
from trainer.config import Budget, Recipe

BUDGET = Budget(train_seconds=600, world_size=8)


def pair(kind: str, ratio: float) -> SizePair:
    return SizePair(kind=kind, predicted=1_000_000.0, measured=1_000_000.0 * ratio)


def row(recipe: Recipe, ratio: float, steps: int = 500, **more: Any) -> TrialRow:
    """A finished trial whose weights took so many times what is predicted."""
    attributes = {"weight_bytes": round(ratio * predicted_weight_bytes(recipe, steps)), "steps": steps, **more}
    return made_row({"recipe": json.dumps(recipe_to_dict(recipe)), **attributes})


def test_without_runs_a_prediction_stays() -> None:
    assert correction([], "a") == 1.0
    plain = predicted_weight_bytes(Recipe(), expected_steps(Recipe(), BUDGET))
    assert predicted_in_study(Recipe(), 30_000, BUDGET, []) == plain + 30_000


def test_many_runs_of_a_kind_are_believed_and_few_are_half_believed() -> None:
    assert correction([pair("a", 0.96)] * 100, "a") == pytest.approx(0.96, abs=0.001)
    assert 0.96 < correction([pair("a", 0.96)], "a") < 0.99


def test_a_kind_that_was_never_measured_is_as_wrong_as_the_others() -> None:
    pairs = [pair("a", 0.95)] * 50 + [pair("b", 1.05)] * 50
    assert correction(pairs, "c") == pytest.approx(1.0, abs=0.01)
    assert correction(pairs, "a") == pytest.approx(0.95, abs=0.005)
    assert correction([pair("a", 0.95)] * 50, "c") == pytest.approx(0.95, abs=0.005)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 10.0)), max_size=20), st.sampled_from("abcd"))
def test_a_correction_is_bounded_and_between_what_was_seen(drawn: list[tuple[str, float]], kind: str) -> None:
    factor = correction([pair(name, ratio) for name, ratio in drawn], kind)
    assert abs(math.log(factor)) <= 0.2 + 1e-9
    ratios = [1.0, *(ratio for _, ratio in drawn)]
    assert min(ratios) - 1e-9 <= factor <= max(ratios) + 1e-9


def test_runs_of_a_study_correct_its_next_prediction() -> None:
    recipe = named_recipe("baseline_int6")
    rows = [row(set_values(recipe, {"model.num_layers": layers}), 0.97) for layers in (8, 9, 10, 11) * 5]
    plain = predicted_weight_bytes(recipe, expected_steps(recipe, BUDGET))
    assert predicted_in_study(recipe, 0, BUDGET, rows) == pytest.approx(0.97 * plain, rel=0.004)


def test_only_runs_of_their_own_that_were_measured_count() -> None:
    recipe = named_recipe("baseline_int6")
    failed = row(recipe, 1.0)
    del failed.attributes["weight_bytes"]  # pyright: ignore[reportIndexIssue]
    rows = [failed, row(recipe, 0.9, copied_from=3), row(set_values(recipe, {"quant.target_bytes": 9_000_000}), 0.7)]
    assert pairs_of(rows) == []
    assert len(pairs_of([*rows, row(recipe, 0.9)])) == 1


def test_kinds_go_by_clip_and_compression() -> None:
    assert kind_of(Recipe()) == "quantile floored zlib plain"
    assert kind_of(named_recipe("record_1855")) == "sigma best plain"
