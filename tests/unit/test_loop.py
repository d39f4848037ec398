"""The loop over real Optuna and a real ledger, with simulated workers and time."""

from pathlib import Path

import optuna
import pytest
from made_records import made_record
from scripted_studies import DIVERGED, Script, machine, one_rung, statuses
from simulation import FakeRunner, World, make_spec, measurement

from search.errors import RunnerError, SpecError
from search.promote import best_feasible
from search.services import Brake
from search.store import study_names


def test_a_settled_study_asks_for_no_machine(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run()
    runner = FakeRunner(sim.world, sim.ledger)
    assert sim.run(runner=runner).settled == ("proxy", "full")
    assert runner.prepared == []


def test_a_study_that_fits_no_machine_is_not_made(tmp_path: Path) -> None:
    class NoMachine(FakeRunner):
        def prepare(self, rung: str, world_size: int, accelerator: str | None) -> float:
            raise RunnerError(f"rung {rung}: none")

    sim = machine(tmp_path)
    with pytest.raises(RunnerError, match="rung proxy: none"):
        sim.run(runner=NoMachine(sim.world, sim.ledger))
    assert study_names(sim.storage) == []


def test_a_study_runs_from_the_base_to_the_promoted(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    result = sim.run()
    assert result.settled == ("proxy", "full") and result.stopped_at is None
    proxy, full = sim.rows("proxy"), sim.rows("full")
    assert statuses(proxy) == ["feasible"] * 4
    assert proxy[0].recipe == sim.spec.base_recipe()
    ranked = sorted(proxy, key=lambda row: row.val_bpb or 9)
    assert [row.attributes["promoted_from"] for row in full] == [f"proxy/{row.number}" for row in ranked[:2]]
    assert [row.recipe for row in full] == [row.recipe for row in ranked[:2]]
    assert [row.params for row in full] == [row.params for row in ranked[:2]]
    assert sim.world.in_flight_peak == 2
    assert sum(row.gpu_seconds for row in proxy + full) == 6 * 30.0


def test_a_run_gets_what_it_needs_and_leaves_what_the_dashboard_shows(tmp_path: Path) -> None:
    sim = machine(tmp_path, rungs=one_rung(1, seeds=[5], accelerator="H100", max_run_seconds=77.0))
    sim.run()
    (run,) = sim.world.submitted
    assert run.run_id == "sim-proxy-0000-1"
    assert run.folder == tmp_path / "runs" / "sim" / "proxy" / run.run_id
    assert (run.folder / "train_gpt.py").is_file()
    assert (run.accelerator, run.deadline_seconds, run.storage_url) == ("H100", 77.0, sim.url)
    assert run.environment["SEED"] == "5" and run.environment["RUN_ID"] == run.run_id
    assert Path(run.environment["DATA_PATH"]).is_absolute()
    (record,) = sim.ledger.runs("sim")
    assert (record.seed, record.attempt, record.trial_number, record.rung) == (5, 1, 0, "proxy")
    trial = optuna.load_study(study_name="sim/proxy", storage=sim.url).trials[0]
    metas = optuna.artifacts.get_all_artifact_meta(trial, storage=sim.storage)
    assert {meta.filename for meta in metas} == {"train.log", "train_gpt.py"}
    assert trial.user_attrs["run_id"] == run.run_id and trial.user_attrs["gpu_seconds"] == 30.0


def test_a_run_id_that_the_ledger_has_is_not_used_again_in_an_empty_runs_folder(tmp_path: Path) -> None:
    sim = machine(tmp_path, rungs=one_rung(1))
    sim.ledger.insert(made_record("sim-proxy-0000-1", study="sim", folder="gone"))
    sim.run()
    assert [run.run_id for run in sim.world.submitted] == ["sim-proxy-0000-2"]


def test_an_ended_study_is_not_run_again_and_may_grow(tmp_path: Path) -> None:
    sim = machine(tmp_path, rungs=one_rung(2))
    sim.run()
    sim.run()
    assert len(sim.world.submitted) == 2
    sim.spec = make_spec(rungs=one_rung(3))
    sim.run()
    assert statuses(sim.rows("proxy")) == ["feasible"] * 3


def test_queued_recipes_follow_the_base_even_from_outside_the_space(tmp_path: Path) -> None:
    queue = [{"set": {"model.num_layers": 5}}, {"set": {"model.model_dim": 768}}, {"set": {"model.num_layers": 5}}]
    sim = machine(tmp_path, queue=queue, rungs=one_rung(4))
    sim.run()
    rows = sim.rows("proxy")
    recipes = [row.recipe for row in rows]
    assert recipes[:3] == [sim.spec.base_recipe(), *sim.spec.queued_recipes()[:2]]
    assert rows[1].params["model.num_layers"] == 5
    assert rows[2].params == {}
    assert len(rows) == 4 and rows[3].params


def test_nothing_feasible_ends_with_the_rung_that_had_nothing(tmp_path: Path) -> None:
    sim = machine(tmp_path, World(behaviour=lambda run, values: DIVERGED))
    result = sim.run()
    assert (result.settled, result.nothing_promoted_from) == (("proxy",), "proxy")


def test_one_objective(tmp_path: Path) -> None:
    behaviour = Script(measurement(val_bpb=0.5, artifact_bytes=17_000_000))
    sim = machine(tmp_path, World(behaviour=behaviour), objectives=["val_bpb"])
    assert sim.run().settled == ("proxy", "full")
    plain = optuna.load_study(study_name="sim/proxy", storage=sim.url)
    assert plain.metric_names == ["val_bpb"] and len(plain.directions) == 1
    best = best_feasible(sim.rows("proxy"))
    assert best is not None and plain.best_trial.number == best.number != 0


def test_seeds_are_trials_of_their_own(tmp_path: Path) -> None:
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 3, "seeds": [1, 2]},
        {"name": "confirm", "budget": {"train_tokens": 9000}, "promote": 1, "seeds": [1, 2, 3]},
    ]
    sim = machine(tmp_path, World(slots=3), rungs=rungs)
    sim.run()
    proxy, confirm = sim.rows("proxy"), sim.rows("confirm")
    assert sorted(row.attributes["seed"] for row in proxy) == [1, 1, 1, 2, 2, 2]
    assert len({row.attributes["recipe_hash"] for row in proxy}) == 3
    assert [row.attributes["seed"] for row in confirm] == [1, 2, 3]
    assert len({row.attributes["recipe_hash"] for row in confirm}) == 1
    assert len({row.val_bpb for row in confirm}) == 3


def test_a_rung_alone(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    assert sim.loop().run(only_rung="proxy").settled == ("proxy",)
    assert sim.rows("full") == []
    with pytest.raises(SpecError, match="rung must be one of proxy, full, got nope"):
        sim.loop().run(only_rung="nope")


def test_a_promoted_trial_joins_the_next_rung_once(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run()
    promoted = {row.attributes["promoted_from"] for row in sim.rows("full")}
    source = next(row for row in sim.rows("proxy") if f"proxy/{row.number}" not in promoted)
    loop = sim.loop()
    assert loop.promote(source) == "full"
    assert loop.run(only_rung="full").settled == ("full",)
    assert [row.status.value for row in sim.rows("full")] == ["feasible"] * 3
    assert sim.rows("full")[2].attributes["promoted_from"] == f"proxy/{source.number}"
    with pytest.raises(SpecError, match="must be new to full"):
        loop.promote(source)
    with pytest.raises(SpecError, match="must have a rung after it, got full"):
        loop.promote(sim.rows("full")[0])


def test_another_definition_loses_nothing(tmp_path: Path) -> None:
    sim = machine(tmp_path, rungs=one_rung(2))
    sim.run()
    before = sim.rows("proxy")
    sim.spec = make_spec(rungs=one_rung(2), objectives=["val_bpb"])
    with pytest.raises(SpecError, match=r"study sim: .*objectives"):
        sim.run()
    sim.spec = make_spec(rungs=one_rung(2))
    assert sim.rows("proxy") == before


def test_a_runs_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    loop = sim.loop()
    (tmp_path / "runs" / "sim").write_text("a file where the folder should be")
    with pytest.raises(RunnerError, match=r"runs folder .*: must be a folder that can be written, got File exists"):
        loop.run()


def test_the_observer_hears_every_trial_once(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run()
    heard = [line for line in sim.observer.heard if not line.startswith("trial_progress")]
    assert heard[0] == "rung_started proxy 1"
    assert heard.count("rung_finished proxy 4") == heard.count("rung_finished full 2") == 1
    for rung, number in [("proxy", n) for n in range(4)] + [("full", n) for n in range(2)]:
        assert heard.count(f"trial_started {rung} {number}") == 1
        assert heard.count(f"trial_finished {rung} {number} feasible") == 1
    assert any(line.startswith("trial_progress") for line in sim.observer.heard)


def test_a_restart_does_not_draw_the_same_proposals_again(tmp_path: Path) -> None:
    sim = machine(tmp_path, rungs=one_rung(8))
    for _ in range(4):
        sim.run(Brake(trials_left=2))
    rows = sim.rows("proxy")
    assert len({row.attributes["recipe_hash"] for row in rows}) == len(rows) == 8
