"""The loop over real Optuna and a real ledger, with simulated workers and time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from simulation import FakeRunner, Machine, World, failure, make_spec, measured_by_recipe, measurement, write_outputs

from search.errors import RunnerError, SpecError
from search.ledger import LEASE_SECONDS, Driver, RunRecord, RunState
from search.plan import MAX_REFUSED, counted
from search.promote import best_feasible, pareto_front
from search.run import Finished, Progress, Run
from search.services import Brake
from search.store import study_names
from search.trials import TrialRow, TrialStatus
from trainer.result import Failure, FailureKind, Measurement

Outcome = Measurement | Failure | None


def machine(folder: Path, world: World | None = None, **changes: Any) -> Machine:
    return Machine(folder, make_spec(**changes), world or World())


def one_rung(trials: int = 4, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "proxy", "budget": {"train_tokens": 1000}, "trials": trials, **more}]


def statuses(rows: list[TrialRow]) -> list[str]:
    return [row.status.value for row in rows]


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


class Script:
    """Outcomes in the order of submission; after them, what the recipe decides."""

    def __init__(self, *outcomes: Outcome | str) -> None:
        self.left = list(outcomes)

    def __call__(self, run: Run, values: Mapping[str, Any]) -> Outcome:
        outcome = self.left.pop(0) if self.left else "recipe"
        return measured_by_recipe(run, values) if isinstance(outcome, str) else outcome


LOST = None
MACHINE = failure(FailureKind.MACHINE)
DIVERGED = failure(FailureKind.DIVERGED)


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
    record = RunRecord(
        run_id="sim-proxy-0000-1",
        study="sim",
        rung="proxy",
        trial_number=0,
        recipe_hash="r",
        code_sha256="c",
        seed=1337,
        folder="gone",
        world_size=1,
        queued_at=0.0,
        lease_expires_at=0.0,
    )
    sim.ledger.insert(record)
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


def test_a_lost_run_is_repeated_exactly_once(tmp_path: Path) -> None:
    sim = machine(tmp_path, World(slots=1, behaviour=Script(MACHINE, "recipe", MACHINE, MACHINE)), rungs=one_rung(3))
    sim.run()
    rows = sim.rows("proxy")
    by_retry = {row.retry_of: row for row in rows if row.retry_of is not None}
    assert by_retry[0].status is TrialStatus.FEASIBLE
    assert by_retry[0].recipe == rows[0].recipe and by_retry[0].params == rows[0].params
    lost_twice = [row for row in rows if row.status is TrialStatus.LOST and row.retry_of is not None]
    assert len(lost_twice) == 1 and lost_twice[0].number not in by_retry
    assert counted(rows, 1337) == 3
    assert sorted(run.attempt for run in sim.ledger.runs()) == [1, 1, 1, 2, 2]


def test_a_worker_not_heard_of_is_given_up_and_repeated(tmp_path: Path) -> None:
    sim = machine(tmp_path, World(slots=2, behaviour=Script(LOST)), rungs=one_rung(2))
    sim.run()
    rows = sim.rows("proxy")
    assert rows[0].status is TrialStatus.LOST and rows[0].reason == "no sign of life from its worker on worker"
    assert sum(row.retry_of == 0 for row in rows) == 1
    assert sorted(statuses(rows)) == ["feasible", "feasible", "lost"]


class LateRunner(FakeRunner):
    """Says everything twice, the second time long after."""

    kept: list[Progress | Finished]

    def wait(self, timeout_seconds: float) -> list[Progress | Finished]:
        reports = list(super().wait(timeout_seconds))
        self.kept = [*getattr(self, "kept", []), *reports]
        return [*reports, *reports, *self.kept]


def test_late_and_doubled_reports_change_nothing(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run(runner=LateRunner(sim.world, sim.ledger))
    assert statuses(sim.rows("proxy")) == ["feasible"] * 4
    finished = [line for line in sim.observer.heard if line.startswith("trial_finished")]
    assert len(finished) == len(set(finished)) == 6


def test_a_report_after_the_run_was_given_up_changes_nothing(tmp_path: Path) -> None:
    sim = machine(tmp_path, World(slots=1, behaviour=Script(LOST)), rungs=one_rung(1))
    runner = FakeRunner(sim.world, sim.ledger)
    late = Finished(run_id="sim-proxy-0000-1", outcome=measurement(val_bpb=0.5), gpu_seconds=1e6)
    waits = 0
    plain_wait = runner.wait

    def wait(timeout_seconds: float) -> list[Progress | Finished]:
        nonlocal waits
        waits += 1
        is_given_up = sim.ledger.get(late.run_id).state.is_final
        return [*plain_wait(timeout_seconds), *([late] if is_given_up else [])]

    runner.wait = wait
    sim.run(runner=runner)
    rows = sim.rows("proxy")
    assert rows[0].status is TrialStatus.LOST
    assert all(row.val_bpb != 0.5 for row in rows)
    assert sum(run.gpu_seconds for run in sim.ledger.runs()) < 1000


class MuteRunner(FakeRunner):
    """Never reports an end: Ray lost the node after the worker had written its result."""

    def wait(self, timeout_seconds: float) -> list[Progress | Finished]:
        return [report for report in super().wait(timeout_seconds) if isinstance(report, Progress)]


def test_a_result_in_the_ledger_counts_without_the_runners_word(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    assert sim.run(runner=MuteRunner(sim.world, sim.ledger)).settled == ("proxy", "full")


def test_a_failure_of_the_recipe_is_never_repeated(tmp_path: Path) -> None:
    kinds = [FailureKind.DIVERGED, FailureKind.OUT_OF_MEMORY, FailureKind.CONFIG]
    sim = machine(tmp_path, World(slots=1, behaviour=Script(*map(failure, kinds))), rungs=one_rung(4))
    sim.run()
    rows = sim.rows("proxy")
    assert statuses(rows) == ["failed"] * 3 + ["feasible"]
    plain = optuna.load_study(study_name="sim/proxy", storage=sim.url)
    assert [trial.state.name for trial in plain.trials] == ["PRUNED"] * 3 + ["COMPLETE"]


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


def press_after(runner: FakeRunner, brake: Brake, submitted: int, presses: int) -> FakeRunner:
    plain_wait = runner.wait

    def wait(timeout_seconds: float) -> Any:
        if len(runner.world.submitted) >= submitted and not brake.is_stopping:
            for _ in range(presses):
                brake.press()
        return plain_wait(timeout_seconds)

    runner.wait = wait
    return runner


def test_a_graceful_stop_lets_runs_finish_and_goes_on_later(tmp_path: Path) -> None:
    sim, brake = machine(tmp_path), Brake()
    result = sim.run(brake, runner=press_after(FakeRunner(sim.world, sim.ledger), brake, submitted=2, presses=1))
    assert (result.settled, result.stopped_at) == ((), "proxy")
    assert statuses(sim.rows("proxy")) == ["feasible"] * 2
    assert sim.run().settled == ("proxy", "full")
    assert statuses(sim.rows("proxy")) == ["feasible"] * 4


def test_a_hard_stop_cancels_and_the_same_recipes_run_later(tmp_path: Path) -> None:
    sim, brake = machine(tmp_path), Brake()
    result = sim.run(brake, runner=press_after(FakeRunner(sim.world, sim.ledger), brake, submitted=2, presses=2))
    assert result.stopped_at == "proxy"
    rows = sim.rows("proxy")
    assert statuses(rows) == ["lost", "lost", "queued", "queued"]
    assert all(run.state is RunState.CANCELLED for run in sim.ledger.runs())
    assert sim.world.workers == {}
    sim.run()
    rows = sim.rows("proxy")
    assert [row.recipe for row in rows[2:4]] == [row.recipe for row in rows[:2]]
    assert counted(rows, 1337) == 4 and statuses(rows).count("feasible") == 4


def test_cancelling_is_no_strike_against_a_trial(tmp_path: Path) -> None:
    sim = machine(tmp_path, World(slots=1), rungs=one_rung(1))
    for submitted in (1, 2):
        brake = Brake()
        sim.run(brake, runner=press_after(FakeRunner(sim.world, sim.ledger), brake, submitted=submitted, presses=2))
    sim.world.behaviour = Script(MACHINE)
    sim.run()
    assert statuses(sim.rows("proxy")) == ["lost", "lost", "lost", "feasible"]


class DeafRunner(FakeRunner):
    """Cannot cancel: its node is gone."""

    def cancel(self, run_id: str) -> None:
        pass


def test_a_run_that_cannot_be_cancelled_is_ended_in_the_ledger(tmp_path: Path) -> None:
    sim, brake = machine(tmp_path, World(run_seconds=1e6)), Brake()
    sim.run(brake, runner=press_after(DeafRunner(sim.world, sim.ledger), brake, submitted=2, presses=2))
    assert all(run.state is RunState.CANCELLED and run.gpu_seconds > 30 for run in sim.ledger.runs())
    assert statuses(sim.rows("proxy"))[:2] == ["lost", "lost"]


def test_at_most_so_many_trials_in_one_go(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    assert sim.run(Brake(trials_left=3)).stopped_at == "proxy"
    assert len(sim.rows("proxy")) == 3
    assert sim.run(Brake(trials_left=2)).stopped_at == "full"
    assert (len(sim.world.submitted), len(sim.rows("proxy"))) == (5, 4)
    assert sim.run().settled == ("proxy", "full")


def test_a_second_driver_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.ledger.claim("sim", Driver(owner="first", host="elsewhere", pid=99), sim.world.now)
    with pytest.raises(RunnerError, match="study sim: expected no other driver, got process 99 on elsewhere"):
        sim.run()
    assert sim.world.submitted == []
    sim.world.now += LEASE_SECONDS + 1
    assert sim.run().settled == ("proxy", "full")


def test_a_driver_that_lost_its_study_stops(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    runner = FakeRunner(sim.world, sim.ledger)
    plain_wait = runner.wait

    def wait(timeout_seconds: float) -> Any:
        sim.world.now += LEASE_SECONDS + 1  # suspended for a while; another one took over
        sim.ledger.claim("sim", Driver(owner="other", host="elsewhere", pid=99), sim.world.now)
        return plain_wait(timeout_seconds)

    runner.wait = wait
    with pytest.raises(RunnerError, match="process 99 on elsewhere"):
        sim.run(runner=runner)


def test_runs_of_a_dead_driver_that_still_live_are_waited_for(tmp_path: Path) -> None:
    sim, brake = machine(tmp_path, rungs=one_rung(3)), Brake()
    runner = FakeRunner(sim.world, sim.ledger)

    def die(timeout_seconds: float) -> Any:
        raise KeyboardInterrupt

    runner.wait = die
    with pytest.raises(KeyboardInterrupt):
        sim.run(brake, runner=runner)
    assert statuses(sim.rows("proxy")) == ["running", "running"]
    sim.run(runner=FakeRunner(sim.world, sim.ledger))
    assert statuses(sim.rows("proxy")) == ["feasible"] * 3
    assert len(sim.world.submitted) == 3


def test_a_result_left_in_the_folder_of_a_lost_worker_counts(tmp_path: Path) -> None:
    sim = machine(tmp_path, World(slots=1), rungs=one_rung(1))
    runner = FakeRunner(sim.world, sim.ledger)

    def die(timeout_seconds: float) -> Any:
        raise KeyboardInterrupt

    runner.wait = die
    with pytest.raises(KeyboardInterrupt):
        sim.run(runner=runner)
    worker = sim.world.workers.pop("sim-proxy-0000-1")
    sim.ledger.close()
    assert worker.outcome is not None
    write_outputs(worker.run.folder, worker.outcome)
    sim.world.now += LEASE_SECONDS + 1
    sim.run()
    assert statuses(sim.rows("proxy")) == ["feasible"]
    assert len(sim.world.submitted) == 1


def test_missing_data_stops_the_study_and_costs_no_trial(tmp_path: Path) -> None:
    gone = failure(FailureKind.DATA, "data: expected shards, got none")
    sim = machine(tmp_path, World(behaviour=lambda run, values: gone))
    for _ in range(3):
        with pytest.raises(RunnerError, match="proxy: data: expected shards, got none"):
            sim.run()
    sim.world.behaviour = measured_by_recipe
    assert sim.run().settled == ("proxy", "full")
    rows = sim.rows("proxy")
    assert counted(rows, 1337) == statuses(rows).count("feasible") == 4


def test_a_machine_that_fails_everything_stops_the_study(tmp_path: Path) -> None:
    sim = machine(tmp_path, World(slots=1, behaviour=lambda run, values: MACHINE), rungs=one_rung(20))
    with pytest.raises(RunnerError, match="3 trials failed twice each, the last one with: as the test wants"):
        sim.run()
    assert len(sim.world.submitted) < 12


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
