"""Runs that the launcher kills, and runs of several ranks under the real torchrun."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from launched_runs import HANG, HANG_ALONE, MEASUREMENT, QUICK, WRITE_RESULT, failure_of, pids_in
from queued_runs import is_gone, queue, wait_for

from search.launch import execute
from search.ledger import Ledger
from search.run import Run
from search.run_record import RunState
from trainer.result import Failure, FailureKind

# -- runs that are killed


def test_the_deadline_kills_the_whole_tree(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", HANG, deadline_seconds=1.0)
    failure = failure_of(ledger, run)
    assert failure.kind is FailureKind.DEADLINE
    assert failure.message == "still running after 1 s, start-up included"
    assert all(is_gone(pid) for pid in pids_in(run.folder))


def test_a_cancelled_run_is_killed_at_its_next_heartbeat(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", HANG)
    cancelled = Failure(kind=FailureKind.CANCELLED, message="by the user")

    def cancel() -> None:
        pids_in(run.folder)
        ledger.finish("run", cancelled, 3.0, time.time())

    thread = threading.Thread(target=cancel)
    thread.start()
    finished = execute(run, os.environ, QUICK)
    thread.join()
    assert (finished.outcome, finished.gpu_seconds) == (cancelled, 3.0)
    assert all(is_gone(pid) for pid in pids_in(run.folder))


LAUNCHER = """
import signal, sys
from pathlib import Path
from search.launch import Timing, execute_on_worker
from search.run import Run
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started the tests in its background
folder, url, world_size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
execute_on_worker(Run(run_id=folder.name, folder=folder, world_size=world_size, num_gpus=0, accelerator=None,
                      environment={}, deadline_seconds=120.0, storage_url=url), Timing(poll_seconds=0.1))
"""


def start_launcher(run: Run) -> subprocess.Popen[bytes]:
    arguments = [str(run.folder), run.storage_url, str(run.world_size)]
    return subprocess.Popen([sys.executable, "-c", LAUNCHER, *arguments])


def test_ctrl_c_cancels_and_leaves_nothing(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", HANG)
    launcher = start_launcher(run)
    pids = pids_in(run.folder)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(20) == 0
    assert all(is_gone(pid) for pid in pids)
    assert ledger.get("run").state is RunState.CANCELLED


def test_no_trainer_survives_its_launchers_sigkill(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", HANG_ALONE)
    launcher = start_launcher(run)
    pids = pids_in(run.folder)
    assert not any(is_gone(pid) for pid in pids)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: all(is_gone(pid) for pid in pids), 5.0)


# -- several ranks, under the real torchrun


def test_two_ranks_run_and_rank_0_reports(ledger: Ledger, tmp_path: Path) -> None:
    program = WRITE_RESULT + "pathlib.Path('rank' + os.environ['RANK']).write_text(os.environ['WORLD_SIZE'])\nfinish()"
    run = queue(ledger, tmp_path / "run", program, world_size=2)
    finished = execute(run, os.environ, QUICK)
    assert finished.outcome == MEASUREMENT, (run.folder / "stdout.log").read_text()
    assert [(run.folder / f"rank{rank}").read_text() for rank in (0, 1)] == ["2", "2"]
    assert finished.gpu_seconds > 2 * 0.1


@pytest.mark.parametrize("victim", ["launcher", "torchrun"])
def test_no_rank_survives_a_sigkill_above_it(ledger: Ledger, tmp_path: Path, victim: str) -> None:
    run = queue(ledger, tmp_path / "run", HANG_ALONE, world_size=2)
    launcher = start_launcher(run)
    ranks = pids_in(run.folder, ranks=2)
    assert not any(is_gone(pid) for pid in ranks)
    torchrun = psutil.Process(ranks[0]).parent()
    assert torchrun is not None
    if victim == "launcher":
        launcher.kill()
    else:
        torchrun.kill()
    launcher.wait(20)
    wait_for(lambda: is_gone(torchrun.pid) and all(is_gone(pid) for pid in ranks), 5.0)
    if victim == "torchrun":
        outcome = ledger.get("run").outcome
        assert isinstance(outcome, Failure)
        assert "killed by signal 9" in outcome.message
