"""What seeds do to bytes, on bytes whose deviation is known."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_trials import LIMIT, made_row

from search.seed_bytes import PRIOR_FREEDOM, PRIOR_RATIO, Scatter, SeedBytes, fitting_draws, scatter_of, seed_bytes
from search.trials import TrialRow
from spaces.fields import recipe_to_dict, set_values
from trainer.config import Recipe

DRAWS = 20_000
CODE = 60_000


def run(name: str, weight_bytes: int, seed: int = 1, rung: str = "full", **more: Any) -> TrialRow:
    known = {"recipe_hash": name, "seed": seed, "weight_bytes": weight_bytes, "artifact_bytes": weight_bytes + CODE}
    return made_row({**known, **more}, rung=rung)


def chance_of(recipe: SeedBytes, scatter: Scatter) -> float:
    return float(fitting_draws(recipe, LIMIT, scatter, DRAWS, np.random.default_rng(0)).mean())


def test_without_repeats_there_is_the_prior() -> None:
    rows = [run("a", 12_000_000), run("a", 12_000_000, seed=2, copied_from=0), run("a", 11_000_000, rung="proxy")]
    assert scatter_of(rows) == Scatter(ratio=PRIOR_RATIO, freedom=PRIOR_FREEDOM)
    assert scatter_of([]) == scatter_of(rows)


def test_three_seeds_of_an_h100_run() -> None:
    rows = [run("pr163", size, seed) for seed, size in enumerate((11_852_647, 11_837_634, 11_845_765))]
    found = scatter_of(rows)
    assert found.freedom == PRIOR_FREEDOM + 2
    assert found.ratio * 11_845_349**0.5 == pytest.approx(7515, rel=0.1), "which is 0.06 % of the weights"


def test_repeats_of_all_sizes_and_rungs_tell_one_ratio() -> None:
    chance = np.random.default_rng(1)
    rows = [
        run(f"{size} {number}", round(size + 0.8 * size**0.5 * chance.standard_normal()), seed, rung)
        for rung in ("proxy", "full")
        for size in (30_000, 1_000_000, 15_000_000)
        for number in range(10)
        for seed in range(3)
    ]
    assert scatter_of(rows).ratio == pytest.approx(0.8, rel=0.15)


def test_the_chance_is_that_of_all_the_missing_seeds() -> None:
    """Against seeds drawn for recipes whose mean is as unknown."""
    scatter, size = Scatter(ratio=2.0, freedom=1e6), LIMIT - 10_000 - CODE
    deviation, chance = 2.0 * size**0.5, np.random.default_rng(2)
    for missing in (1, 2, 4):
        means = size + deviation * chance.standard_normal(DRAWS)
        seeds = means[:, None] + deviation * chance.standard_normal((DRAWS, missing))
        expected = np.mean(seeds.max(1) <= LIMIT - CODE)
        recipe = SeedBytes(measured=[size + CODE], unit=size**0.5, missing=missing)
        assert chance_of(recipe, scatter) == pytest.approx(expected, abs=0.02)


def test_seeds_that_ran_are_known() -> None:
    rows = [run("a", LIMIT - CODE - 10, seed) for seed in (1, 2)]
    assert seed_bytes(rows, [1, 2, 3]).missing == 1 and seed_bytes(rows, [1, 2]).missing == 0
    scatter = scatter_of(rows)
    assert chance_of(seed_bytes(rows, [1, 2]), scatter) == 1.0
    assert 0.4 < chance_of(seed_bytes(rows, [1, 2, 3]), scatter) < 0.6
    over = [*rows, run("a", LIMIT - CODE + 1, seed=3)]
    assert chance_of(seed_bytes(over, [1, 2, 3]), scatter) == 0.0


def test_what_prunes_itself_to_a_target_keeps_it() -> None:
    """Its bytes neither scatter nor say how others do."""
    recipe = set_values(Recipe(), {"quant.target_bytes": LIMIT})
    row = run("a", LIMIT - CODE - 10, recipe=json.dumps(recipe_to_dict(recipe)))
    assert chance_of(seed_bytes([row], [1, 2, 3]), scatter_of([])) == 1.0
    other = replace(row, attributes={**row.attributes, "seed": 2, "weight_bytes": 10_000_000})
    assert scatter_of([row, other]) == scatter_of([])
