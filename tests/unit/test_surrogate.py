"""The benchmark's surrogate: a whole table of real runs, and functions through it that strategies can be judged by."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bench.surrogate import SCALES_FILE, Surrogate, noise_seed
from bench.surrogate_breeding import FIRST_NUMBER
from bench.surrogate_groups import GroupScales, read_scales
from bench.surrogate_regression import learn_scales, regress
from bench.surrogate_report import held_out, ranks, rms
from bench.surrogate_space import ARTIFACT_CAP, BASE, PATHS, SPACE, TRAIN_TOKENS, sobol_recipes, values_of
from bench.surrogate_table import COLUMNS, RUNS_FILE, Run, read_runs

from spaces.fields import set_values

FIDELITIES = range(len(TRAIN_TOKENS))
LEAST_RECIPES = 200
SAMPLE = 256


@cache
def surrogate() -> Surrogate:
    return Surrogate.load()


@cache
def runs() -> tuple[Run, ...]:
    return tuple(read_runs())


@cache
def scales() -> GroupScales:
    return read_scales(SCALES_FILE)


def test_the_table_has_every_recipe_at_every_fidelity() -> None:
    keys = [(run.recipe, run.fidelity, run.seed) for run in runs()]
    assert len(set(keys)) == len(keys)
    recipes = {recipe for recipe, _, _ in keys}
    sampled = {recipe for recipe in recipes if recipe < FIRST_NUMBER}
    assert sampled == set(range(len(sampled)))
    assert len(recipes) >= LEAST_RECIPES
    recipes_and_seeds = {(recipe, seed) for recipe, _, seed in keys}
    assert set(keys) == {(recipe, f, seed) for recipe, seed in recipes_and_seeds for f in FIDELITIES}
    repeated = {recipe for recipe, seed in recipes_and_seeds if seed}
    assert len(repeated) >= 16
    assert all((recipe, seed) in recipes_and_seeds for recipe in repeated for seed in range(4))


def test_the_table_is_the_drawn_recipes() -> None:
    with RUNS_FILE.open(newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {len(row) for row in rows} == {len(COLUMNS)}
    sample = [values for values, _ in sobol_recipes(LEAST_RECIPES)]
    drawn = dict(enumerate({path: str(values[path]) for path in PATHS if path in values} for values in sample))
    assert all(run.values == drawn[run.recipe] for run in runs() if run.recipe in drawn)


def test_more_tokens_score_better_and_size_hardly_changes() -> None:
    measured = {(run.recipe, run.fidelity): run.measured for run in runs() if run.seed == 0 and run.measured}
    recipes = {recipe for recipe, _ in measured}
    low, mid, high = ([measured[recipe, f]["pre_quant_val_bpb"] for recipe in recipes] for f in FIDELITIES)
    assert np.median(low) > np.median(mid) + 0.1 > np.median(high) + 0.2


def test_outcomes_are_the_same_each_time_and_differ_by_seed() -> None:
    values = values_of(BASE)
    again = Surrogate.load()
    assert surrogate().outcome(values, 1, 7) == again.outcome(values, 1, 7)
    assert surrogate().truth(values, 1) == again.truth(values, 1)
    assert len({surrogate().outcome(values, 1, seed).val_bpb for seed in range(20)}) == 20
    assert noise_seed(values, 1, 7) == noise_seed(dict(reversed(values.items())), 1, 7)


def test_a_recipe_and_its_row_have_one_truth() -> None:
    recipe = set_values(BASE, {"ema.half_life_fraction": 0.05, "quant.embed_bits": 6, "model.mlp_mult": 2.0})
    values = values_of(recipe)
    assert surrogate().truth(values, 2) == surrogate().truth({p: str(v) for p, v in values.items()}, 2)
    assert surrogate().space() is SPACE


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_noise_has_the_measured_spread(fidelity: int) -> None:
    values = values_of(BASE)
    truth = surrogate().truth(values, fidelity)
    outcomes = [surrogate().outcome(values, fidelity, seed) for seed in range(300)]
    score = np.array([outcome.pre_quant_val_bpb for outcome in outcomes]) - truth.pre_quant_val_bpb
    last = np.array([outcome.curve[-1] for outcome in outcomes]) - truth.curve[-1]
    measured = surrogate().noises[fidelity].deviations
    assert abs(score.mean()) < 0.2 * measured.pre_quant_val_bpb
    assert score.std() == pytest.approx(measured.pre_quant_val_bpb, rel=0.1)
    assert last.std() == pytest.approx(measured.curve[-1], rel=0.1)
    assert np.corrcoef(score, last)[0, 1] > 0.5


def test_seeds_differ_most_where_rounding_costs_most() -> None:
    coarse = {"quant.matrix_bits": 4, "quant.embed_bits": 4, "quant.clip_sigmas": 14.0}
    mild, harsh = values_of(BASE), values_of(set_values(BASE, coarse))
    noise = [np.std([surrogate().outcome(values, 2, seed).val_bpb for seed in range(100)]) for values in (mild, harsh)]
    assert noise[1] > 2 * noise[0]


def test_truth_is_near_runs_it_has_not_seen() -> None:
    pairs = [(run, outcome) for run, outcome in held_out(runs(), scales(), folds=(0, 1)) if run.fidelity == 2]
    seen = np.array([run.measured["val_bpb"] for run, _ in pairs])
    guessed = np.array([outcome.val_bpb for _, outcome in pairs])
    sizes = np.array([run.measured["weight_bytes"] + run.measured["code_bytes"] for run, _ in pairs])
    errors = np.array([outcome.artifact_bytes for _, outcome in pairs]) / sizes - 1
    assert ranks([seen, guessed])[0] > 0.9
    assert np.median(abs(guessed - seen)) < 0.04
    assert rms(errors) < 0.015


def test_the_cap_binds_and_cheap_runs_mislead() -> None:
    seen = [run.values for run in runs() if run.fidelity == 2 and run.seed == 0]  # good ones too, as bred
    sample = [*(values for values, _ in sobol_recipes(SAMPLE)), *seen]
    truths = [[surrogate().truth(values, fidelity) for values in sample] for fidelity in FIDELITIES]
    small = np.array([outcome.artifact_bytes <= ARTIFACT_CAP for outcome in truths[2]])
    low, _, high = (np.array([outcome.val_bpb for outcome in part]) for part in truths)
    assert 0.3 < small.mean() < 0.7
    assert high.min() < high[small].min() - 0.02
    assert 0.4 < ranks([low, high])[0] < 0.9


def test_a_regression_finds_a_function_and_what_has_no_effect() -> None:
    chance = np.random.default_rng(0)
    points = chance.random((80, 3))
    targets = np.stack([np.sin(3 * points[:, 0]), points[:, 1] ** 2], axis=1)
    scales = learn_scales(points, targets)
    function = regress(points, targets, scales)
    fresh = chance.random((20, 3))
    assert scales.features[2] > 4 * max(scales.features[:2])
    assert max(abs(function(point)[0] - np.sin(3 * point[0])) for point in fresh) < 0.02


def test_a_table_that_is_cut_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "runs.csv"
    cut.write_text("\n".join(RUNS_FILE.read_text().splitlines()[:2])[:-30] + "\n")
    with pytest.raises((ValueError, TypeError)):
        read_runs(cut)
