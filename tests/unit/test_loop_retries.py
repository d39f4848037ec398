"""Runs that are lost, late or failed: what is repeated, what is not, and what stops the study."""

from pathlib import Path

import optuna
import pytest
from scripted_studies import LOST, MACHINE, Script, machine, one_rung, statuses
from simulation import FakeRunner, World, failure, measured_by_recipe, measurement

from search.errors import RunnerError
from search.plan import counted
from search.run import Finished, Progress
from search.trials import TrialStatus
from trainer.result import FailureKind


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
