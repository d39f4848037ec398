"""Recipes that the loop tells without a run, or never as the best: contradictory, oversize, equal, infeasible."""

from pathlib import Path

import optuna
import pytest
from scripted_studies import DIVERGED, Script, machine, one_rung, statuses
from simulation import World, measurement

from search.plan import MAX_REFUSED, counted
from search.promote import best_feasible, pareto_front
from search.services import Brake
from search.trials import TrialStatus
from trainer.result import FailureKind


def test_contradictory_values_are_told_without_a_run(tmp_path: Path) -> None:
    space = {"params": {"model.num_heads": {"choices": [7, 8]}, "optim.matrix_lr": {"low": 0.01, "high": 0.1}}}
    sim = machine(tmp_path, space=space, rungs=one_rung(8), sampler={"kind": "tpe", "seed": 7})
    sim.run()
    rows = sim.rows("proxy")
    bad = [row for row in rows if row.params.get("model.num_heads") == "7"]
    assert bad and all(row.failure is FailureKind.CONFIG and "num_heads" in row.reason for row in bad)
    assert counted(rows, 1337) == len(sim.world.submitted) == 8, "others were asked for instead"
    assert all(f"trial_finished proxy {row.number} failed" in sim.observer.heard for row in bad)


def test_a_space_of_contradictions_comes_to_an_end(tmp_path: Path) -> None:
    """The base runs; then twenty proposals are replaced, and each further one uses up a trial."""
    space = {"params": {"model.num_heads": {"choices": [7]}, "optim.matrix_lr": {"low": 0.01, "high": 0.1}}}
    sim = machine(tmp_path, space=space, rungs=one_rung(4))
    assert sim.run(Brake(trials_left=4)).settled == ("proxy",)
    assert statuses(sim.rows("proxy")) == ["feasible"] + ["failed"] * (MAX_REFUSED + 3)
    assert len(sim.world.submitted) == 1


def test_a_recipe_predicted_oversize_is_told_without_a_run(tmp_path: Path) -> None:
    sim = machine(tmp_path, rungs=one_rung(6), sampler={"kind": "random", "seed": 1})
    sim.predict_bytes = lambda recipe, code_bytes, rows: 2_000_000 * recipe.model.num_layers
    sim.run()
    rows = sim.rows("proxy")
    refused = [row for row in rows if row.failure is FailureKind.OVERSIZE]
    assert refused[0].number == 0, "18 MB predicted for the base of 9 layers"
    assert refused[0].reason == "artifact_bytes: must be at most 16,000,000, predicted 18,000,000; not run"
    assert refused[0].violations["artifact_bytes"] == pytest.approx(18 / 16 - 1)
    assert len(sim.world.submitted) == len(rows) - len(refused)
    assert len(sim.ledger.runs()) == len(sim.world.submitted)
    assert len(refused) > 1 and counted(rows, 1337) == len(sim.world.submitted) == 6, "others were asked for instead"


def test_a_space_of_oversize_recipes_comes_to_an_end(tmp_path: Path) -> None:
    """Twenty proposals are replaced, and each further one uses up a trial; none counts as one that was taken up."""
    sim = machine(tmp_path, rungs=one_rung(4))
    sim.predict_bytes = lambda recipe, code_bytes, rows: 99_000_000
    assert sim.run(Brake(trials_left=2)).settled == ("proxy",)
    assert statuses(sim.rows("proxy")) == ["failed"] * (MAX_REFUSED + 4)
    assert sim.world.submitted == []


def test_max_trials_are_those_that_run(tmp_path: Path) -> None:
    sim = machine(tmp_path, rungs=one_rung(8), sampler={"kind": "random", "seed": 1})
    sim.predict_bytes = lambda recipe, code_bytes, rows: 2_000_000 * recipe.model.num_layers
    assert sim.run(Brake(trials_left=3)).stopped_at == "proxy"
    assert len(sim.world.submitted) == 3 < len(sim.rows("proxy"))


def test_equal_recipes_run_once(tmp_path: Path) -> None:
    space = {"params": {"model.num_layers": {"low": 8, "high": 10}}}
    sim = machine(tmp_path, World(slots=2), space=space, rungs=one_rung(6))
    assert sim.run().settled == ("proxy",)
    rows = sim.rows("proxy")
    assert len(sim.world.submitted) == 3
    originals = [row for row in rows if "copied_from" not in row.attributes]
    assert sorted(row.params["model.num_layers"] for row in originals) == [8, 9, 10]
    copies = [row for row in rows if row.status is TrialStatus.FEASIBLE and "copied_from" in row.attributes]
    assert len(copies) == 3 and all(row.gpu_seconds == 0 for row in copies)
    for row in copies:
        assert row.values == rows[row.attributes["copied_from"]].values
    assert counted(rows, 1337) == 6


def test_infeasible_is_never_best_and_never_promoted(tmp_path: Path) -> None:
    world = World(behaviour=Script(measurement(val_bpb=0.5, artifact_bytes=17_000_000), DIVERGED))
    sim = machine(tmp_path, world)
    base = sim.spec.base_recipe()
    sim.predict_bytes = lambda recipe, code_bytes, rows: 17_000_000 if recipe == base else 0
    sim.run()
    rows = sim.rows("proxy")
    best = best_feasible(rows)
    assert best is not None and best.number not in (0, 1)
    assert not {0, 1} & {row.number for row in pareto_front(rows)}
    assert not {"proxy/0", "proxy/1"} & {row.attributes["promoted_from"] for row in sim.rows("full")}
    plain = optuna.load_study(study_name="sim/proxy", storage=sim.url)
    assert not {0, 1} & {trial.number for trial in plain.best_trials}
