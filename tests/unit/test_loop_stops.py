"""Studies that stop and go on: the brake, cancelled runs, a second driver, a dead one."""

from pathlib import Path
from typing import Any

import pytest
from scripted_studies import MACHINE, Script, machine, one_rung, statuses
from simulation import FakeRunner, World, write_outputs

from search.errors import RunnerError
from search.ledger import LEASE_SECONDS, Driver
from search.plan import counted
from search.run_record import RunState
from search.services import Brake


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
