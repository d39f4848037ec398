"""The reported winner, on runs whose true means are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_trials import LIMIT, made_row, made_terms

from search.trials import TrialRow, TrialStatus
from search.winner import DRAWS, best_probabilities, shrunk, standings

TERMS = made_terms()


def run(
    recipe: str,
    val_bpb: float,
    status: TrialStatus = TrialStatus.FEASIBLE,
    number: int = 0,
    rung: str = "full",
    **more: Any,
) -> TrialRow:
    return made_row({"recipe_hash": recipe, "val_bpb": val_bpb, **more}, rung=rung, number=number, status=status)


def test_the_winner_is_better_than_the_luckiest_run() -> None:
    """Twelve recipes that differ as much as seeds do, one of them a disaster, three of them with three seeds."""
    regrets: list[tuple[float, float]] = []
    for seed in range(300):
        chance = np.random.default_rng(seed)
        truth = np.append(1.2 + 0.003 * chance.standard_normal(11), 1.4)
        rows = [
            run(str(one), truth[one] + 0.003 * chance.standard_normal())
            for one in range(12)
            for _ in range(3 if one < 3 else 1)
        ]
        luckiest = min(rows, key=lambda row: row.attributes["val_bpb"])
        chosen = [int(row.attributes["recipe_hash"]) for row in (standings(rows, TERMS)[0].row, luckiest)]
        regrets.append((truth[chosen[0]] - truth.min(), truth[chosen[1]] - truth.min()))
    ours, lucky = np.mean(regrets, axis=0)
    assert ours < 0.95 * lucky


def test_one_seed_each_leaves_the_order_and_says_how_sure_it_is() -> None:
    close = standings([run("a", 1.2000), run("b", 1.2002), run("c", 1.2300)], TERMS)
    apart = standings([run("a", 1.20), run("b", 1.22), run("c", 1.23)], TERMS)
    assert [one.row.attributes["recipe_hash"] for one in close] == ["a", "b", "c"]
    assert close[0].probability < 0.75 < 0.99 < apart[0].probability


def test_nothing_infeasible_wins_and_a_copy_is_no_second_seed() -> None:
    rows = [
        run("over", 1.0, TrialStatus.INFEASIBLE),
        run("half", 1.1),
        run("half", 1.1, TrialStatus.INFEASIBLE),
        run("plain", 1.2),
        run("plain", 1.2, copied_from=3),
    ]
    assert [(one.row.attributes["recipe_hash"], one.seeds) for one in standings(rows, TERMS)] == [("plain", 1)]
    assert [one.row.attributes["recipe_hash"] for one in standings(rows[:3], TERMS)] == ["half"], "if nothing else fits"
    assert standings(rows[:1], TERMS) == []


@pytest.mark.parametrize("status", [TrialStatus.FAILED, TrialStatus.STOPPED])
def test_a_seed_that_came_to_nothing_bars_its_recipe(status: TrialStatus) -> None:
    nothing = replace(run("half", 0.0), status=status, attributes={"recipe_hash": "half"})
    rows = [run("half", 1.1), run("half", 1.1), nothing, run("plain", 1.2)]
    assert [one.row.attributes["recipe_hash"] for one in standings(rows, TERMS)] == ["plain"]
    assert [one.row.attributes["recipe_hash"] for one in standings(rows[:3], TERMS)] == ["half"], (
        "if nothing else is there"
    )


def test_a_seed_that_the_machine_lost_says_nothing() -> None:
    lost = replace(run("half", 0.0), status=TrialStatus.LOST, attributes={"recipe_hash": "half"})
    assert standings([run("half", 1.1), lost, run("plain", 1.2)], TERMS)[0].row.attributes["recipe_hash"] == "half"


def test_the_standard_error_is_honest() -> None:
    """The winner's true mean lies within one standard error of its reported one two times of three."""
    inside: list[bool] = []
    for seed in range(200):
        chance = np.random.default_rng(seed)
        truth = 1.2 + 0.003 * chance.standard_normal(8)
        rows = [
            run(str(recipe), truth[recipe] + 0.002 * chance.standard_normal())
            for recipe in range(8)
            for _ in range(3 if recipe < 3 else 2)
        ]
        best = standings(rows, TERMS)[0]
        inside.append(abs(best.mean - truth[int(best.row.attributes["recipe_hash"])]) < best.standard_error)
    assert 0.55 < np.mean(inside) < 0.8


def test_the_likeliest_is_the_best_as_often_as_it_says() -> None:
    said, right = [], []
    for seed in range(300):
        chance = np.random.default_rng(seed)
        truth = 1.2 + 0.003 * chance.standard_normal(6)
        rows = [run(str(one), truth[one] + 0.002 * chance.standard_normal()) for one in range(6) for _ in range(2)]
        best = standings(rows, TERMS)[0]
        said.append(best.probability)
        right.append(best.row.attributes["recipe_hash"] == str(int(np.argmin(truth))))
    assert np.mean(said) == pytest.approx(np.mean(right), abs=0.07)


def test_draws_are_the_same_every_time() -> None:
    means, errors = shrunk(np.array([1.0, 1.1, 1.2]), np.full(3, 0.01))
    fits = np.ones((DRAWS, 3), dtype=np.bool_)
    assert best_probabilities(means, errors, fits).tolist() == best_probabilities(means, errors, fits).tolist()


def sized(recipe: str, val_bpb: float, size: int, seed: int = 1) -> TrialRow:
    """A run of 60,000 bytes of code."""
    return run(recipe, val_bpb, seed=seed, artifact_bytes=size, weight_bytes=size - 60_000)


def test_who_is_close_to_the_limit_may_go_over_it_with_another_seed() -> None:
    """Bytes of 16 MB scatter by about 8,000: of two equal scores, the smaller recipe is the safe one."""
    rows = [
        sized("tight", 1.2000, LIMIT - 4000),
        sized("small", 1.2004, LIMIT - 400_000),
        sized("poor", 1.25, 10_000_000),
    ]
    first = standings(rows, made_terms(seeds=[1, 2, 3]))
    assert [one.row.attributes["recipe_hash"] for one in first] == ["small", "tight", "poor"]
    assert first[0].fits > 0.999 and 0.3 < first[1].fits < 0.6
    assert sum(one.probability for one in first) == pytest.approx(1)
    alone = standings(rows, made_terms(seeds=[1]))
    assert [one.row.attributes["recipe_hash"] for one in alone] == ["tight", "small", "poor"], "it needs no other seed"
    far = standings([rows[0], sized("small", 1.22, 15_000_000)], made_terms(seeds=[1, 2, 3]))
    tight = next(one for one in far if one.row is rows[0])
    assert tight.probability == pytest.approx(tight.fits) and tight.fits < 0.6, "what is better is so if it fits"


def test_seeds_that_ran_and_fit_are_known() -> None:
    rows = [sized("tight", 1.2, LIMIT - distance, seed) for seed, distance in ((1, 4000), (2, 9000), (3, 100))]
    assert [standings(rows[:count], made_terms(seeds=[1, 2, 3]))[0].fits for count in (1, 2, 3)] == [
        pytest.approx(0.45, abs=0.1),
        pytest.approx(0.75, abs=0.1),
        1.0,
    ]


def test_who_is_over_the_limit_is_best_only_of_those_that_are_too() -> None:
    over = [replace(sized(name, score, LIMIT + 1, 2), status=TrialStatus.INFEASIBLE) for name, score in BOTH]
    rows = [*over, *(sized(name, score, LIMIT - 100) for name, score in BOTH)]
    found = standings(rows, made_terms(seeds=[1, 2, 3]))
    assert [(one.row.attributes["recipe_hash"], one.fits) for one in found] == [("a", 0.0), ("b", 0.0)]
    assert found[0].probability > 0.99


BOTH = (("a", 1.2), ("b", 1.3))


def test_a_lead_within_the_noise_of_other_rungs_is_not_worth_a_risk_of_bytes() -> None:
    """Two thousandths are a lead where runs differ by one, and none where they differ by twenty."""
    close = [sized("tight", 1.498, LIMIT - 16_000), sized("small", 1.5, 15_000_000), sized("poor", 1.6, 15_000_000)]
    steady, noisy = (
        [run("control", 1.9 + size * step, seed=step, rung="proxy") for step in range(4)] for size in (0.001, 0.02)
    )
    winners = [
        standings(close, made_terms(seeds=[1, 2, 3], other_rungs=[others]))[0].row.attributes["recipe_hash"]
        for others in (steady, noisy)
    ]
    assert winners == ["tight", "small"]


def test_recipes_that_are_among_the_best_two() -> None:
    rows = [run("a", 1.20), run("b", 1.21), run("c", 1.3), run("d", 1.4)]
    assert [one.probability for one in standings(rows, TERMS, among=2)] == pytest.approx([1, 1, 0, 0], abs=0.01)
    assert [one.probability for one in standings(rows[:1], TERMS, among=2)] == [1]
