"""The calibrated posterior, on synthetic recipes whose dear scores are known."""

from itertools import pairwise

import numpy as np
import pytest

from search.calibration import Array, Scores, calibrate, seed_noise

NOISE = 0.002


def scores(proxies: Array, dears: Array, similarity: Array | None = None) -> Scores:
    ones = np.ones(len(proxies))
    alike = np.eye(len(proxies)) if similarity is None else similarity
    return Scores(proxies=proxies, num_proxies=ones, dears=dears, num_dears=ones, similarity=alike)


def drawn(chance: np.random.Generator, size: int, slope: float, residual: float) -> tuple[Array, Array]:
    """Proxies and true dear scores."""
    proxies = 1.3 + 0.05 * chance.standard_normal(size)
    return proxies, 1.1 + slope * (proxies - 1.3) + residual * chance.standard_normal(size)


def test_without_a_dear_run_the_proxies_rank() -> None:
    proxies = np.array([1.3, 1.2, 1.4, 1.25])
    posterior = calibrate(scores(proxies, np.full(4, np.nan)), NOISE, NOISE)
    assert np.argsort(posterior.lower_bounds).tolist() == np.argsort(proxies).tolist()
    assert min(posterior.sds) > 0.3, "how far apart the rungs are is not known"
    assert not posterior.is_calibrated


def test_one_dear_run_tells_the_offset() -> None:
    proxies = np.array([1.3, 1.2, 1.4])
    posterior = calibrate(scores(proxies, np.array([1.1, np.nan, np.nan])), NOISE, NOISE)
    assert posterior.is_calibrated
    assert posterior.means[1] == pytest.approx(1.1 - 0.08, abs=0.01)
    assert posterior.sds[0] < 0.01 < posterior.sds[1] < 0.2


@pytest.mark.parametrize("num_dear", [2, 4, 8, 16])
@pytest.mark.parametrize("residual", [0.0, 0.01, 0.04])
def test_deviations_are_honest(num_dear: int, residual: float) -> None:
    """Of recipes without a dear run, two thirds lie within one deviation and nearly all within three."""
    errors: list[Array] = []
    for seed in range(40):
        chance = np.random.default_rng(seed)
        proxies, truth = drawn(chance, 30, 0.7, residual)
        dears = np.where(np.arange(30) < num_dear, truth + NOISE * chance.standard_normal(30), np.nan)
        posterior = calibrate(scores(proxies, dears), NOISE, NOISE)
        errors.append((truth - posterior.means)[num_dear:] / posterior.sds[num_dear:])
    error = np.concatenate(errors)
    assert np.mean(np.abs(error) < 1) > 0.55
    assert np.mean(np.abs(error) < 3) > 0.95


def test_more_dear_runs_know_more() -> None:
    chance = np.random.default_rng(0)
    proxies, truth = drawn(chance, 30, 0.7, 0.005)
    sds = [
        float(
            np.mean(calibrate(scores(proxies, np.where(np.arange(30) < count, truth, np.nan)), NOISE, NOISE).sds[20:])
        )
        for count in (1, 4, 16)
    ]
    assert all(later < earlier for earlier, later in pairwise(sds))


def test_the_slope_is_found() -> None:
    chance = np.random.default_rng(1)
    proxies, truth = drawn(chance, 20, 1.4, 0.002)
    assert calibrate(scores(proxies, truth), NOISE, NOISE).slope == pytest.approx(1.4, abs=0.1)


def test_what_misleads_the_proxy_of_one_recipe_is_held_against_its_like() -> None:
    """Two families of equal proxies, one of which is worse than its proxies say."""
    family = np.arange(12) % 2
    proxies = np.linspace(1.2, 1.3, 12)
    truth = proxies - 0.2 + 0.05 * family
    dears = np.where(np.arange(12) < 8, truth, np.nan)
    alike = np.where(family[:, None] == family[None, :], 0.95, 0.05) + 0.05 * np.eye(12)
    posterior = calibrate(scores(proxies, dears, alike), NOISE, NOISE)
    blind = calibrate(scores(proxies, dears), NOISE, NOISE)
    assert np.abs(posterior.means - truth)[8:].mean() < 0.5 * np.abs(blind.means - truth)[8:].mean()


def test_a_lucky_dear_run_is_drawn_towards_its_proxy() -> None:
    chance = np.random.default_rng(2)
    proxies, truth = drawn(chance, 12, 0.8, 0.001)
    lucky = truth.copy()
    lucky[3] -= 0.02
    posterior = calibrate(scores(proxies, lucky), NOISE, dear_noise=0.02)
    assert lucky[3] < posterior.means[3] < truth[3] + 0.01
    assert abs(posterior.means[3] - truth[3]) < 0.7 * 0.02


def test_noise_is_pooled_over_repeated_runs() -> None:
    chance = np.random.default_rng(3)
    groups = [list(1.2 + 0.003 * chance.standard_normal(3)) for _ in range(20)]
    assert seed_noise(groups, []) == pytest.approx(0.003, rel=0.25)
    assert seed_noise([[1.2], [1.3]], []) == pytest.approx(0.001), "without repeats, the guess"
    assert 0 < seed_noise([[1.2, 1.2]], []) < 0.001


def test_noise_of_a_rung_without_repeats_is_that_of_the_others() -> None:
    controls = [[1.9, 1.92, 1.88, 1.9], [2.0]]
    elsewhere = seed_noise(controls, [])
    assert seed_noise([[1.5], [1.6]], [controls]) == elsewhere == pytest.approx(0.014, rel=0.1)
    own = seed_noise([[1.5, 1.501, 1.499, 1.5]], [controls])
    assert 0.001 < own < 0.6 * elsewhere, "few of its own soon count for more"


def test_noise_of_a_study_without_repeats_goes_with_how_far_its_recipes_differ() -> None:
    """As it does from H100 runs to those of a CPU; a disaster is no difference."""
    chance = np.random.default_rng(4)
    scores = [[float(score)] for score in 3.1 + 0.2 * chance.standard_normal(40)]
    assert seed_noise(scores, []) == pytest.approx(0.02, rel=0.3)
    assert seed_noise([*scores, [9.0]], []) == pytest.approx(seed_noise(scores, []), rel=0.1)
    assert seed_noise([[3.0], [3.01]], [scores]) == seed_noise(scores, []), "the rung that has any"
    narrow = [[1.2 + score[0] / 1000] for score in scores]
    assert seed_noise(narrow, []) == pytest.approx(0.001), "at least what full runs have"
