"""Proposals of a study with a solved field, over real Optuna: restarts, repeats, sizes that do not fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from simulation import Machine, World, failure, make_spec, measurement

from search.database import engine_options
from search.errors import SpecError
from search.ledger import LEASE_SECONDS
from search.plan import counted
from search.proposals import params_finder, same_point
from search.run import Run
from search.services import Brake
from search.trials import TrialRow, TrialStatus
from spaces.fields import recipe_hash, set_values
from trainer.config import Recipe
from trainer.result import Failure, FailureKind, Measurement

LIMIT = 1_000_000
CODE_BYTES = 1_000  # fewer than the fake code has: predictions of the loop and of the solver differ by some
SPACE: dict[str, Any] = {
    "params": {"model.num_layers": {"low": 2, "high": 12}, "optim.matrix_lr": {"low": 0.01, "high": 0.1, "log": True}},
    "solve": {"param": "model.mlp_mult", "low": 0.5, "high": 8.0},
}


def predicted(recipe: Recipe, code_bytes: int, rows: Sequence[TrialRow]) -> int:
    return round(40_000 * recipe.model.num_layers * (1 + recipe.model.mlp_mult))


def machine(folder: Path, world: World | None = None, trials: int = 6, **changes: Any) -> Machine:
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": trials},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": 2},
    ]
    spec = make_spec(**{"space": SPACE, "rungs": rungs, "limits": {"artifact_bytes": LIMIT}, **changes})
    sim = Machine(folder, spec, world or World())
    sim.predict_bytes = predicted
    return sim


def solved_of(rows: Sequence[TrialRow]) -> list[TrialRow]:
    return [row for row in rows if "solved" in row.attributes]


def test_each_proposal_comes_to_the_limit_and_the_base_stays(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run()
    proxy, full = sim.rows("proxy"), sim.rows("full")
    assert proxy[0].recipe == sim.spec.base_recipe() and "solved" not in proxy[0].attributes
    assert len(solved_of(proxy)) == 5
    for row in solved_of(proxy):
        recipe, solved = row.recipe, row.attributes["solved"]
        assert recipe is not None
        assert solved["value"] == recipe.model.mlp_mult == row.fields["model.mlp_mult"]
        assert solved["predicted_bytes"] == row.attributes["predicted_bytes"] == predicted(recipe, 0, ())
        ends = {0.5, 8.0}
        assert solved["value"] in ends or 0.99 * LIMIT * (1 - solved["margin"]) < solved["predicted_bytes"] < LIMIT
        assert set(row.params) == {"model.num_layers", "optim.matrix_lr"}
    assert {recipe_hash(row.recipe) for row in full if row.recipe} <= {row.attributes["recipe_hash"] for row in proxy}
    assert all(row.params for row in full if "solved" in row.attributes)  # a point of the space, as in the rung before


class Crash(BaseException):
    """The driver process is gone."""


class DyingStorage(RDBStorage):
    """Optuna's real storage in a process that dies right before one of its writes about trials."""

    writes_left = 10**9

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.count()
        super().set_trial_user_attr(trial_id, key, value)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self.count()
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def count(self) -> None:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise Crash


@pytest.mark.parametrize("writes", range(3, 60, 4))
def test_a_recipe_never_changes_once_it_is_proposed(tmp_path: Path, writes: int) -> None:
    sim = machine(tmp_path, trials=3)
    storage = DyingStorage(sim.url, engine_options(sim.url))
    storage.writes_left = writes
    with pytest.raises(Crash):
        sim.run(storage=storage)
    before = {row.number: row.attributes.get("recipe") for row in sim.rows("proxy")}
    sim.world.workers.clear()
    sim.world.now += LEASE_SECONDS + 1  # else the dead driver still holds the study
    sim.run()
    rows = sim.rows("proxy")
    assert all(text in {None, rows[number].attributes["recipe"]} for number, text in before.items())
    for row in solved_of(rows):
        assert row.recipe is not None and row.recipe.model.mlp_mult == row.attributes["solved"]["value"]


def test_a_lost_run_is_repeated_with_its_own_size(tmp_path: Path) -> None:
    outcomes: list[Measurement | Failure] = [measurement(), failure(FailureKind.MACHINE)]

    def behave(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
        return outcomes.pop(0) if outcomes else measurement(artifact_bytes=1_100_000)  # later margins are larger

    sim = machine(tmp_path, World(slots=1, behaviour=behave), trials=4)
    sim.run()
    rows = sim.rows("proxy")
    repeat = next(row for row in rows if row.retry_of is not None)
    lost = rows[repeat.retry_of or 0]
    assert (repeat.recipe, repeat.params, repeat.fields) == (lost.recipe, lost.params, lost.fields)
    margins = [row.attributes["solved"]["margin"] for row in solved_of(rows) if row.retry_of is None]
    assert margins[-1] > margins[0]


def test_a_size_that_nothing_fits_costs_no_run_and_teaches(tmp_path: Path) -> None:
    sim = machine(tmp_path, limits={"artifact_bytes": 300_000}, sampler={"kind": "tpe", "seed": 7})
    sim.run()
    refused = [row for row in sim.rows("proxy") if row.failure is FailureKind.OVERSIZE and "solved" in row.attributes]
    assert refused
    for row in refused:
        assert row.recipe is not None and row.recipe.model.mlp_mult == 0.5
        over = row.attributes["predicted_bytes"] / 300_000 - 1
        assert over > 0 and row.violations["artifact_bytes"] == pytest.approx(over)
        assert row.reason.endswith("with the best model.mlp_mult, 0.5; not run")
    numbers = {run.run_id.split("-")[2] for run in sim.world.submitted if "-proxy-" in run.run_id}
    assert not numbers & {f"{row.number:04d}" for row in refused}
    assert counted(sim.rows("proxy"), 1337) == len(numbers), "others were asked for instead"


def test_one_point_runs_once_whatever_the_margin_has_become(tmp_path: Path) -> None:
    space = {**SPACE, "params": {"model.num_layers": {"low": 4, "high": 6}}}
    sim = machine(tmp_path, World(slots=2), trials=8, space=space)
    sim.run()
    rows = sim.rows("proxy")
    ran = [row for row in solved_of(rows) if not row.is_copy]
    assert len({row.params["model.num_layers"] for row in ran}) == len(ran) <= 3


def test_a_point_that_came_out_infeasible_may_run_again() -> None:
    def row(number: int, status: TrialStatus, **attributes: Any) -> TrialRow:
        values: dict[str, Any] = {"values": (), "violations": {}, "seconds": None, "params": {"x": 1}}
        return TrialRow(rung="r", number=number, status=status, attributes={"seed": 1, **attributes}, **values)

    solved = {"solved": {"param": "model.mlp_mult", "value": 2.0}}
    new = row(2, TrialStatus.RUNNING)
    for status, is_twin in (
        (TrialStatus.FEASIBLE, True),
        (TrialStatus.RUNNING, True),
        (TrialStatus.FAILED, True),
        (TrialStatus.INFEASIBLE, False),
        (TrialStatus.LOST, False),
    ):
        assert (same_point([row(0, status), row(1, status, **solved), new], 2, 1) is not None) == is_twin
    assert same_point([row(0, TrialStatus.FEASIBLE, **solved), row(1, TrialStatus.RUNNING)], 1, seed=2) is None


def test_any_solved_value_is_inside_the_space() -> None:
    spec = make_spec(space=SPACE)
    recipe = set_values(spec.base_recipe(), {"model.mlp_mult": 3.3, "model.num_layers": 7})
    assert params_finder(spec)(recipe)["model.num_layers"] == 7
    assert params_finder(spec)(set_values(recipe, {"model.num_heads": 4})) == {}


def test_a_study_may_not_change_what_it_solves(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run(Brake(trials_left=1))
    sim.spec = make_spec(**{**sim.spec.model_dump(exclude_unset=True), "space": {"params": SPACE["params"]}})
    with pytest.raises(SpecError, match=r"space\.model\.mlp_mult\.solve"):
        sim.run()


def test_controls_are_runs_of_the_base_with_other_seeds_beside_the_trials(tmp_path: Path) -> None:
    sim = machine(tmp_path, sampler={"seed": 7, "controls": 2})
    sim.run()
    sim.run()
    rows = sim.rows("proxy")
    base = [row for row in rows if row.recipe == sim.spec.base_recipe()]
    assert [row.attributes["seed"] for row in base] == [1337, 1338, 1339]
    assert len(rows) == 8
