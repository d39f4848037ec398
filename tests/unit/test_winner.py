"""The reported winner, on runs whose true means are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_trials import made_row

from search.trials import TrialRow, TrialStatus
from search.winner import best_probabilities, shrunk, standings


def run(
    recipe: str, val_bpb: float, status: TrialStatus = TrialStatus.FEASIBLE, number: int = 0, **more: Any
) -> TrialRow:
    return made_row({"recipe_hash": recipe, "val_bpb": val_bpb, **more}, rung="full", number=number, status=status)


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
        chosen = [int(row.attributes["recipe_hash"]) for row in (standings(rows)[0].row, luckiest)]
        regrets.append((truth[chosen[0]] - truth.min(), truth[chosen[1]] - truth.min()))
    ours, lucky = np.mean(regrets, axis=0)
    assert ours < 0.95 * lucky


def test_one_seed_each_leaves_the_order_and_says_how_sure_it_is() -> None:
    close = standings([run("a", 1.2000), run("b", 1.2002), run("c", 1.2300)])
    apart = standings([run("a", 1.20), run("b", 1.22), run("c", 1.23)])
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
    assert [(one.row.attributes["recipe_hash"], one.seeds) for one in standings(rows)] == [("plain", 1)]
    assert [one.row.attributes["recipe_hash"] for one in standings(rows[:3])] == ["half"], "if nothing else fits"
    assert standings(rows[:1]) == []


@pytest.mark.parametrize("status", [TrialStatus.FAILED, TrialStatus.STOPPED])
def test_a_seed_that_came_to_nothing_bars_its_recipe(status: TrialStatus) -> None:
    nothing = replace(run("half", 0.0), status=status, attributes={"recipe_hash": "half"})
    rows = [run("half", 1.1), run("half", 1.1), nothing, run("plain", 1.2)]
    assert [one.row.attributes["recipe_hash"] for one in standings(rows)] == ["plain"]
    assert [one.row.attributes["recipe_hash"] for one in standings(rows[:3])] == ["half"], "if nothing else is there"


def test_a_seed_that_the_machine_lost_says_nothing() -> None:
    lost = replace(run("half", 0.0), status=TrialStatus.LOST, attributes={"recipe_hash": "half"})
    assert standings([run("half", 1.1), lost, run("plain", 1.2)])[0].row.attributes["recipe_hash"] == "half"


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
        best = standings(rows)[0]
        inside.append(abs(best.mean - truth[int(best.row.attributes["recipe_hash"])]) < best.standard_error)
    assert 0.55 < np.mean(inside) < 0.8


def test_the_likeliest_is_the_best_as_often_as_it_says() -> None:
    said, right = [], []
    for seed in range(300):
        chance = np.random.default_rng(seed)
        truth = 1.2 + 0.003 * chance.standard_normal(6)
        rows = [run(str(one), truth[one] + 0.002 * chance.standard_normal()) for one in range(6) for _ in range(2)]
        best = standings(rows)[0]
        said.append(best.probability)
        right.append(best.row.attributes["recipe_hash"] == str(int(np.argmin(truth))))
    assert np.mean(said) == pytest.approx(np.mean(right), abs=0.07)


def test_draws_are_the_same_every_time() -> None:
    means, errors = shrunk(np.array([1.0, 1.1, 1.2]), np.full(3, 0.01))
    assert best_probabilities(means, errors).tolist() == best_probabilities(means, errors).tolist()
