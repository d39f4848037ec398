"""Solved size: the value lands at the limit less a margin, whatever the rest of the recipe."""

import json
import math
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_trials import made_row
from pydantic import ValidationError
from simulation import make_spec

from search.size import predicted_bytes
from search.solve import SizeSolver, SolvedParam
from search.solve_margin import MOST_MARGIN, margin_fraction, prediction_errors
from search.trials import TrialRow
from spaces.fields import get_value, recipe_hash, recipe_to_dict, set_values
from spaces.recipes import named_recipe
from trainer.config import Recipe
from trainer.errors import ConfigError

LIMIT = 16_000_000
CODE_BYTES = 40_000
BASE = set_values(
    named_recipe("baseline_int6"),
    {"quant.clip": "sigma", "quant.clip_sigmas": 12.0, "quant.scale_is_floored": False},
)


def predict(recipe: Recipe, rows: Sequence[TrialRow]) -> int:
    return predicted_bytes(recipe, CODE_BYTES, 1000)


def solver(
    path: str, low: float, high: float, step: float | None = None, limit: int = LIMIT, **more: Any
) -> SizeSolver:
    return SizeSolver(SolvedParam(path=path, low=low, high=high, step=step, **more), limit, predict)


def row(recipe: Recipe = BASE, error: float = 0.0, **more: Any) -> TrialRow:
    """A run that took so much more than predicted, as a logarithm."""
    text = json.dumps(recipe_to_dict(recipe))
    attributes = {"recipe": text, "predicted_bytes": 10_000_000, "artifact_bytes": round(10_000_000 * math.exp(error))}
    return made_row({**attributes, **more})


@settings(max_examples=30, deadline=None)
@given(
    layers=st.integers(6, 12),
    dim=st.sampled_from([448, 512, 576]),
    bits=st.integers(5, 7),
    field=st.sampled_from([("model.mlp_mult", 0.1, 20.0), ("quant.clip_sigmas", 1.0, 400.0)]),
)
def test_bytes_land_just_below_the_limit_less_the_margin(
    layers: int, dim: int, bits: int, field: tuple[str, float, float]
) -> None:
    path, low, high = field
    recipe = set_values(BASE, {"model.num_layers": layers, "model.model_dim": dim, "quant.matrix_bits": bits})
    solved = solver(path, low, high).solve(recipe, [])
    assert solved is not None
    target = LIMIT * (1 - margin_fraction([]))
    value = get_value(solved.recipe, path)
    assert low <= value <= high
    assert set_values(solved.recipe, {path: get_value(BASE, path)}) == recipe  # nothing else is changed
    assert predict(solved.recipe, []) == solved.predicted_bytes
    is_at_an_end = value in {low, high}
    assert is_at_an_end or target * 0.99 < solved.predicted_bytes <= target
    assert solved == solver(path, low, high).solve(recipe, [])


def test_a_whole_number_takes_its_steps() -> None:
    solved = solver("model.num_layers", 2, 20, 3).solve(BASE, [])
    assert solved is not None
    layers = solved.recipe.model.num_layers
    assert layers in range(2, 21, 3)
    more = set_values(solved.recipe, {"model.num_layers": layers + 3})
    assert predict(solved.recipe, []) <= LIMIT * (1 - margin_fraction([])) < predict(more, [])


def test_where_everything_fits_the_largest_is_taken() -> None:
    solved = solver("model.mlp_mult", 1.0, 1.5).solve(set_values(BASE, {"model.num_layers": 4}), [])
    assert solved is not None and solved.recipe.model.mlp_mult == 1.5


def test_where_nothing_fits_the_smallest_says_how_far_over_it_is() -> None:
    solved = solver("model.mlp_mult", 1.0, 6.0, limit=2_000_000).solve(BASE, [])
    assert solved is not None
    assert (solved.recipe.model.mlp_mult, solved.predicted_bytes > 2_000_000) == (1.0, True)


def test_a_field_without_use_is_left_alone() -> None:
    assert solver("quant.clip_sigmas", 4.0, 24.0).solve(named_recipe("baseline_int6"), []) is None  # no sigma clip
    assert solver("quant.clip_sigmas", 4.0, 24.0, when=lambda recipe: False).solve(BASE, []) is None
    assert solver("model.bigram.buckets", 16, 4096).solve(BASE, []) is None  # no bigram table


def test_a_target_of_bytes_does_not_hide_the_size() -> None:
    plain, aimed = BASE, set_values(BASE, {"quant.target_bytes": 15_000_000})
    solved = [solver("model.mlp_mult", 0.5, 20.0).solve(recipe, []) for recipe in (plain, aimed)]
    assert solved[0] is not None and solved[1] is not None
    assert solved[0].recipe.model.mlp_mult == solved[1].recipe.model.mlp_mult
    assert solved[1].recipe.quant.target_bytes == 15_000_000


def test_bytes_that_turn_around_are_refused() -> None:
    turning = SizeSolver(
        SolvedParam(path="model.mlp_mult", low=1.0, high=3.0),
        LIMIT,
        lambda recipe, rows: round(10_000_000 * (1 + (recipe.model.mlp_mult - 2) ** 2)),
    )
    with pytest.raises(ConfigError, match=r"model\.mlp_mult: bytes must rise or fall from 1 to 3 to be solved, got"):
        turning.solve(BASE, [])


def test_the_solved_value_is_part_of_the_hash_and_of_what_is_shown() -> None:
    small, large = (
        solver("model.mlp_mult", 0.5, 20.0, limit=limit).solve(BASE, []) for limit in (LIMIT, LIMIT - 10**6)
    )
    assert small is not None and large is not None
    assert recipe_hash(small.recipe) != recipe_hash(large.recipe)
    shown = {"param": "model.mlp_mult", "value": small.recipe.model.mlp_mult, "margin": 0.02882}
    assert small.attribute() == {**shown, "predicted_bytes": small.predicted_bytes}
    found = row(small.recipe, solved=small.attribute()).fields
    assert found == {"model.mlp_mult": small.recipe.model.mlp_mult}


def test_a_solved_recipe_is_found_by_what_it_was_solved_from() -> None:
    param = SolvedParam(path="model.bigram.buckets", low=16, high=4096)
    on = set_values(BASE, {"model.bigram": {}})
    assert param.unsolved(set_values(on, {"model.bigram.buckets": 77}), BASE) == on
    assert param.unsolved(
        set_values(on, {"model.bigram.buckets": 77}), set_values(on, {"model.bigram.buckets": 99})
    ) == (set_values(on, {"model.bigram.buckets": 99}))
    assert param.unsolved(BASE, on) == BASE


def test_the_margin_shrinks_with_runs_that_were_predicted_well() -> None:
    assert margin_fraction([]) == pytest.approx(0.0288, abs=1e-4)
    good = [row(error=0.005 * (-1) ** index) for index in range(20)]
    margins = [margin_fraction(good[:count]) for count in (0, 2, 6, 20)]
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] == pytest.approx(0.01, abs=0.0006)


def test_the_margin_grows_with_runs_that_came_out_larger_but_gives_no_credit_for_smaller_ones() -> None:
    alike = margin_fraction([row()] * 20)
    assert margin_fraction([row(error=0.03)] * 20) > alike + 0.025
    assert margin_fraction([row(error=-0.03)] * 20) >= alike
    assert margin_fraction([row(error=0.9)] * 20) == MOST_MARGIN


def test_only_the_latest_runs_of_their_own_count() -> None:
    assert margin_fraction([row(error=0.1)] * 30 + [row()] * 20) == margin_fraction([row()] * 20)
    aimed = row(set_values(BASE, {"quant.target_bytes": 9_000_000}))
    unmeasured = row(artifact_bytes=None)
    assert prediction_errors([row(copied_from=3), aimed, unmeasured]) == []


@pytest.mark.parametrize("std", [0.002, 0.01, 0.03])
@pytest.mark.parametrize("mean", [-0.02, 0.0, 0.02])
def test_nineteen_of_twenty_runs_keep_the_limit(mean: float, std: float) -> None:
    """Whatever the errors of predictions are, once a few are known; and little is given away."""
    chance, kept, margins = Random(1), 0, list[float]()
    for _ in range(300):
        errors = [chance.gauss(mean, std) for _ in range(13)]
        margin = margin_fraction([row(error=error) for error in errors[:12]])
        kept += (1 - margin) * math.exp(errors[12]) <= 1
        margins.append(margin)
    assert kept / 300 >= 0.93
    assert sum(margins) / 300 <= max(mean, 0.0) + 2.2 * max(std, 0.006)


def refused(solve: dict[str, Any], **changes: Any) -> str:
    space = {"params": {"optim.matrix_lr": {"low": 0.01, "high": 0.1}}, "solve": solve, **changes}
    with pytest.raises(ValidationError) as caught:
        make_spec(space=space)
    return str(caught.value)


@pytest.mark.parametrize(
    ("solve", "message"),
    [
        ({"param": "model.mlp_mul", "low": 1, "high": 6}, "must be a field of Recipe (did you mean model.mlp_mult?)"),
        ({"param": "model.mlp", "low": 1, "high": 6}, "must be a field that is a number, got model.mlp"),
        ({"param": "model.vocab_size", "low": 1, "high": 6}, "since the dataset decides this one"),
        ({"param": "optim.matrix_lr", "low": 1, "high": 6}, "must be either solved or searched by params"),
        ({"param": "optim.embed_lr", "low": 1, "high": 6}, "must be a field that decides bytes, got optim.embed_lr"),
        ({"param": "model.num_layers", "low": 1.5, "high": 6}, "must be a whole number, got 1.5"),
        ({"param": "model.mlp_mult", "low": 6, "high": 1}, "must be less than high 1, got 6"),
        ({"param": "model.mlp_mult", "low": 1, "high": 6, "step": 7}, "must be at most high - low = 5, got 7"),
        ({"param": "model.mlp_mult", "low": 0, "high": 6}, "must suit the base recipe (model.mlp_mult"),
        ({"param": "model.mlp_mult", "high": 6}, "Field required"),
    ],
)
def test_what_cannot_be_solved_is_refused(solve: dict[str, Any], message: str) -> None:
    assert message in refused(solve)


def test_a_familys_field_is_solved_under_its_condition() -> None:
    space = {"include": ["quantization"], "solve": {"param": "quant.clip_sigmas", "low": 4.0, "high": 24.0}}
    spec = make_spec(space=space)
    param = spec.solved_param()
    assert param is not None and param.is_active(BASE) and not param.is_active(Recipe())
    assert "quant.clip_sigmas" not in {param.path for param in spec.build_space().params}
    assert spec.definition()["space"]["quant.clip_sigmas"] == {"solve": {"low": 4.0, "high": 24.0, "step": None}}
