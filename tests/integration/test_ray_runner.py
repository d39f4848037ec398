"""The runner on a real Ray of this machine, with small programs in the trainer's place."""

import json
import os
import signal
import time
from collections.abc import Generator, Sequence
from dataclasses import replace

import pytest
from queued_runs import is_gone, queue, wait_for
from ray_bench import FINISH, HANG, MACHINE, MEASUREMENT, PATIENCE, WAIT, Bench, started

from search.cluster import TURN_SHARE, TURNS_PER_GPU
from search.errors import RunnerError
from search.ledger import Ledger
from search.run import Finished, Progress, Run
from search.run_record import RunState
from search.runner import RayRunner
from trainer.result import FailureKind


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Bench]:
    folder = tmp_path_factory.mktemp("ray_runner")
    ledger = Ledger.open(f"sqlite:///{folder / 'caddie.db'}")
    runner = RayRunner(ledger, "local", PATIENCE, MACHINE)
    yield Bench(runner, ledger, folder)
    runner.close()


@pytest.fixture
def bench(shared: Bench) -> Generator[Bench]:
    """The shared bench, on which nothing runs."""
    yield shared
    assert shared.runner.wait(0.1) == []  # no run was left, and none ends twice


def test_runs_report_progress_and_end_with_their_measurement(bench: Bench) -> None:
    run = bench.submit("measured", "import time\n" + FINISH + "time.sleep(1.5)")
    reports = bench.reports(1)
    assert isinstance(reports[-1], Finished)
    assert reports[-1].outcome == MEASUREMENT
    progress = [report.values for report in reports if isinstance(report, Progress)]
    assert progress[-1] == {"step": 4, "progress": 0.5, "train_loss": 3.0, "tokens_per_second": 9.0}
    assert bench.ledger.get(run.run_id).gpu_seconds == reports[-1].gpu_seconds > 1.0


def test_a_cpu_run_sees_no_gpu_and_no_secret_of_ray(bench: Bench) -> None:
    run = bench.submit("environment", FINISH)
    bench.finish(run)
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["OMP_NUM_THREADS"] == "1"
    assert (environment["SEED"], environment["RUN_ID"]) == ("7", "environment")
    assert not [name for name in environment if name.startswith("RAY_")]


def test_a_gpu_run_sees_the_whole_gpus_it_holds(bench: Bench) -> None:
    runs = [bench.submit(f"gpu{n}", WAIT, num_gpus=1, accelerator="H100") for n in range(2)]
    wait_for(lambda: all(bench.ledger.get(run.run_id).state is RunState.RUNNING for run in runs))
    for run in runs:
        (run.folder / "go").touch()
    bench.finish(*runs)
    environments = [json.loads((run.folder / "environment.json").read_text()) for run in runs]
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment in environments} == {"0", "1"}


def test_a_crashed_worker_is_the_machines_and_its_trainer_dies(bench: Bench) -> None:
    run = bench.submit("crash", HANG)
    pid = started(run)
    os.kill(bench.ledger.get(run.run_id).pid, signal.SIGKILL)  # the Ray worker
    failure = bench.failure(run)
    assert failure.kind is FailureKind.MACHINE
    assert "WorkerCrashedError" in failure.message
    wait_for(lambda: is_gone(pid), 5.0)
    assert bench.ledger.get(run.run_id).gpu_seconds > 0


def test_a_result_in_the_ledger_survives_the_worker(bench: Bench) -> None:
    run = bench.submit("durable", HANG)
    pid = started(run)
    bench.ledger.finish(run.run_id, MEASUREMENT, 12.5, time.time())
    os.kill(bench.ledger.get(run.run_id).pid, signal.SIGKILL)
    [finished] = bench.finish(run)
    assert (finished.outcome, finished.gpu_seconds) == (MEASUREMENT, 12.5)
    wait_for(lambda: is_gone(pid))


def test_a_cancelled_run_is_killed_and_says_so(bench: Bench) -> None:
    run = bench.submit("cancelled", HANG)
    pid = started(run)
    bench.runner.cancel(run.run_id)
    assert bench.failure(run).kind is FailureKind.CANCELLED
    assert bench.ledger.get(run.run_id).state is RunState.CANCELLED
    wait_for(lambda: is_gone(pid), 5.0)
    bench.runner.cancel(run.run_id)  # it has ended: nothing happens


def test_a_run_cancelled_in_rays_queue_never_starts(bench: Bench) -> None:
    first = bench.submit("first", WAIT, world_size=1)
    second = bench.submit("second", WAIT, world_size=1)
    wait_for(lambda: all(bench.ledger.get(run.run_id).state is RunState.RUNNING for run in (first, second)))
    third = bench.submit("third", FINISH)
    bench.runner.cancel(third.run_id)
    assert bench.failure(third).kind is FailureKind.CANCELLED
    (first.folder / "go").touch()
    (second.folder / "go").touch()
    assert [finished.outcome for finished in bench.finish(first, second)] == [MEASUREMENT, MEASUREMENT]
    assert not (third.folder / "stdout.log").exists()


def test_the_launcher_ends_a_run_at_its_deadline(bench: Bench) -> None:
    run = bench.submit("deadline", HANG, deadline_seconds=1.0)
    failure = bench.failure(run)
    assert failure.kind is FailureKind.DEADLINE
    assert is_gone(started(run))


def test_a_worker_that_falls_silent_loses_its_run(bench: Bench) -> None:
    run = bench.submit("silent", HANG)
    pid = started(run)
    wait_for(lambda: bench.ledger.get(run.run_id).state is RunState.RUNNING)
    worker = bench.ledger.get(run.run_id).pid
    os.kill(worker, signal.SIGSTOP)  # Ray says nothing about a frozen worker
    failure = bench.failure(run)
    assert failure.kind is FailureKind.MACHINE
    assert "no heartbeat from" in failure.message
    wait_for(lambda: is_gone(worker) and is_gone(pid))  # by ray.cancel, and with its worker


def test_a_run_that_its_launcher_does_not_end_is_ended_here(bench: Bench) -> None:
    run = bench.submit("endless", HANG, deadline_seconds=60.0)
    pid = started(run)
    # As if this process thought of one second: the launcher, which thinks of sixty, goes on sending heartbeats.
    flights = bench.runner._flights  # pyright: ignore[reportPrivateUsage]
    flights[run.run_id].run = replace(run, deadline_seconds=1.0)
    failure = bench.failure(run)
    assert failure.kind is FailureKind.MACHINE
    assert "long after its deadline of 1 s" in failure.message
    wait_for(lambda: is_gone(pid))


def test_a_folder_that_the_worker_does_not_see_is_said(bench: Bench) -> None:
    run = queue(bench.ledger, bench.folder / "unshared", FINISH)
    (run.folder / "train_gpt.py").unlink()
    bench.runner.submit(run)
    assert "does this host see the runs folder?" in bench.failure(run).message


def test_a_storage_the_worker_cannot_reach_is_said(bench: Bench) -> None:
    run = bench.submit("unstored", FINISH, storage_url="sqlite:////no/such/folder/x.db")
    failure = bench.failure(run)
    assert failure.kind is FailureKind.MACHINE
    assert failure.message.startswith("StoreError: storage")


@pytest.mark.parametrize(
    ("world_size", "accelerator", "need"),
    [
        (1, "A100", "1 GPU of kind A100 on one node"),
        (8, "H100", "8 GPUs of kind H100 on one node"),
        (8, None, "8 GPUs on one node"),
    ],
)
def test_an_impossible_rung_is_refused_at_once(
    bench: Bench, world_size: int, accelerator: str | None, need: str
) -> None:
    with pytest.raises(RunnerError) as caught:
        bench.runner.prepare("full", world_size, accelerator)
    cluster = "2 CPUs and 2 GPUs (H100)"
    assert str(caught.value) == f"rung full: expected {need}, got a cluster with {cluster}"
    assert bench.runner.describe().endswith(f": {cluster}")


def test_a_queued_run_that_no_node_can_hold_any_more_is_given_up(bench: Bench) -> None:
    run = bench.submit("unplaceable", FINISH, num_gpus=4)
    failure = bench.failure(run)
    assert failure.kind is FailureKind.MACHINE
    assert failure.message.startswith("no node is left that could hold it")
    assert not (run.folder / "stdout.log").exists()


def test_slots_count_what_still_fits(bench: Bench) -> None:
    runner = bench.runner
    assert runner.prepare("proxy", 1, None) == TURN_SHARE
    assert runner.free_slots == 2 * TURNS_PER_GPU
    first = bench.submit("slot1", WAIT, num_gpus=1)
    assert runner.free_slots == TURNS_PER_GPU
    second = bench.submit("slot2", WAIT, num_gpus=1)
    assert runner.free_slots == 0
    (first.folder / "go").touch()
    bench.finish(first)
    assert runner.free_slots == TURNS_PER_GPU
    assert runner.prepare("full", 2, "H100") == 2
    assert runner.free_slots == 0  # a run on both GPUs has to wait for the one on one
    (second.folder / "go").touch()
    bench.finish(second)
    assert runner.free_slots == 1


def test_runs_that_take_turns_spread_over_the_gpus(bench: Bench) -> None:
    """However many there are, and so do those that take the places of others. Each GPU's lock one file of their own."""
    bench.runner.prepare("proxy", 1, None)
    runs: list[Run] = []

    def gpus() -> list[str]:
        wait_for(lambda: all(bench.ledger.get(run.run_id).state is RunState.RUNNING for run in runs))
        return sorted(bench.ledger.get(run.run_id).gpus for run in runs)

    def end(run: Run) -> dict[str, str]:
        (run.folder / "go").touch()
        bench.finish(run)
        runs.remove(run)
        environment: dict[str, str] = json.loads((run.folder / "environment.json").read_text())
        return environment

    for pairs in (1, 2, 3):
        runs += [bench.submit(f"turn{pairs}{n}", WAIT, num_gpus=TURN_SHARE) for n in range(2)]
        assert gpus() == ["0"] * pairs + ["1"] * pairs
    assert bench.runner.free_slots == 0
    environments = [end(run) for run in [run for run in runs if bench.ledger.get(run.run_id).gpus == "1"][:2]]
    runs += [bench.submit(f"again{n}", WAIT, num_gpus=TURN_SHARE) for n in range(2)]
    assert gpus() == ["0"] * 3 + ["1"] * 3
    environments += [end(run) for run in list(runs)]
    assert len({(one["CUDA_VISIBLE_DEVICES"], one["TURN_FILE"]) for one in environments}) == 2


def test_many_runs_end_once_each(bench: Bench) -> None:
    bench.runner.prepare("proxy", 1, None)
    waiting = [queue(bench.ledger, bench.folder / f"many{n}", FINISH, num_gpus=TURN_SHARE) for n in range(8)]
    reports: list[Progress | Finished] = []
    flying = 0
    while waiting or flying:
        while waiting and bench.runner.free_slots:
            bench.runner.submit(waiting.pop())
            flying += 1
            assert flying <= 2 * TURNS_PER_GPU
        news: Sequence[Progress | Finished] = bench.runner.wait(5.0)
        flying -= sum(isinstance(report, Finished) for report in news)
        reports += news
    ends = [report for report in reports if isinstance(report, Finished)]
    assert sorted(end.run_id for end in ends) == [f"many{n}" for n in range(8)]
    assert all(end.outcome == MEASUREMENT for end in ends)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("ray://127.0.0.1:10001", "Ray Client loses runs"),
        ("127.0.0.1:1", "ConnectionRefusedError"),
        ("127.0.0.1:http", "ValueError"),
    ],
)
def test_an_address_without_ray_is_refused_at_once(bench: Bench, address: str, problem: str) -> None:
    with pytest.raises(RunnerError, match=problem):
        RayRunner(bench.ledger, address)


def test_a_closed_runner_leaves_nothing_running(bench: Bench) -> None:
    """The last one on the shared Ray, which ends with it."""
    run = bench.submit("closed", HANG)
    pid = started(run)
    bench.runner.close()
    assert bench.ledger.get(run.run_id).state is RunState.CANCELLED
    wait_for(lambda: is_gone(pid))
