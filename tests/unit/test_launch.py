"""The launcher, with small programs in the trainer's place."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from simulation import measurement

from search.child import child_environment, command_of
from search.launch import EventTail, Timing, execute
from search.ledger import Ledger, RunRecord, RunState
from search.run import Run
from trainer.result import Failure, FailureKind, outcome_to_dict

QUICK = Timing(poll_seconds=0.1, lease_seconds=30.0, teardown_seconds=0.5)

MEASUREMENT = measurement(val_bpb=1.25, seed=1)

WRITE_RESULT = f"""
import json, os, pathlib
def finish():
    if os.environ.get("RANK", "0") == "0":
        pathlib.Path("result.tmp").write_text({json.dumps(json.dumps(outcome_to_dict(MEASUREMENT)))})
        os.rename("result.tmp", "result.json")
"""
# Ignores SIGTERM and has a child in a session of its own, as bad a tenant as a trainer can be.
HANG = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
name = os.environ.get("RANK", "0")
pathlib.Path(f"pids.{name}.tmp").write_text(f"{os.getpid()} {child.pid}")
os.rename(f"pids.{name}.tmp", f"pids.{name}")
print("hanging", flush=True)
time.sleep(600)
"""
HANG_ALONE = HANG.replace('child = subprocess.Popen(["sleep", "600"], start_new_session=True)\n', "").replace(
    " {child.pid}", ""
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path / 'caddie.db'}")


def queue(ledger: Ledger, folder: Path, program: str, **changes: Any) -> Run:
    """A queued run whose trainer is the given program."""
    folder.mkdir(parents=True)
    (folder / "train_gpt.py").write_text(program)
    run = Run(
        run_id=folder.name,
        folder=folder,
        world_size=1,
        num_gpus=0,
        accelerator=None,
        environment={"SEED": "7", "RUN_ID": folder.name},
        deadline_seconds=60.0,
        storage_url=ledger.url,
    )
    run = replace(run, **changes)
    ledger.insert(
        RunRecord(
            run_id=run.run_id,
            study="s",
            rung="proxy",
            trial_number=0,
            recipe_hash="h",
            code_sha256="c",
            seed=7,
            folder=str(folder),
            world_size=run.world_size,
            queued_at=time.time(),
            lease_expires_at=time.time() + 600,
        )
    )
    return run


def failure_of(ledger: Ledger, run: Run, timing: Timing = QUICK) -> Failure:
    """The failure a run ends with, which the ledger has too."""
    finished = execute(run, os.environ, timing)
    record = ledger.get(run.run_id)
    assert isinstance(finished.outcome, Failure)
    assert record.outcome == finished.outcome
    assert record.state is (RunState.CANCELLED if finished.outcome.kind is FailureKind.CANCELLED else RunState.FAILED)
    return finished.outcome


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def pids_in(folder: Path, ranks: int = 1) -> list[int]:
    wait_for(lambda: all((folder / f"pids.{rank}").exists() for rank in range(ranks)))
    return [int(pid) for rank in range(ranks) for pid in (folder / f"pids.{rank}").read_text().split()]


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- runs that end by themselves


def test_a_measurement_comes_back_and_is_in_the_ledger(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", WRITE_RESULT + "finish()")
    finished = execute(run, os.environ, QUICK)
    record = ledger.get("run")
    assert finished.outcome == MEASUREMENT == record.outcome
    assert record.state is RunState.FINISHED
    assert (record.device, record.pid) == ("cpu", os.getpid())
    assert 0 < record.gpu_seconds == finished.gpu_seconds < 30


def test_the_hash_of_the_log_it_left_is_in_the_ledger(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", WRITE_RESULT + "pathlib.Path('train.log').write_text('done\\n')\nfinish()")
    execute(run, os.environ, QUICK)
    assert ledger.get("run").log_sha256 == hashlib.sha256(b"done\n").hexdigest()
    without = queue(ledger, tmp_path / "without", WRITE_RESULT + "finish()")
    execute(without, os.environ, QUICK)
    assert ledger.get("without").log_sha256 == ""


def test_the_trainers_own_failure_is_passed_on(ledger: Ledger, tmp_path: Path) -> None:
    failure = Failure(kind=FailureKind.DIVERGED, message="loss is nan at step 3", phase="train")
    text = json.dumps(outcome_to_dict(failure))
    program = f"import pathlib; pathlib.Path('result.json').write_text({text!r}); raise SystemExit(1)"
    assert failure_of(ledger, queue(ledger, tmp_path / "run", program)) == failure


def test_progress_reaches_the_ledger_and_the_caller(ledger: Ledger, tmp_path: Path) -> None:
    program = (
        WRITE_RESULT
        + """
import time
with open("events.jsonl", "w", buffering=1) as events:
    events.write(json.dumps({"event": "PhaseEntered", "time": 1.0, "phase": "train", "run_seconds": 0.1}) + "\\n")
    step = {"event": "TrainStep", "time": 2.0, "step": 4, "progress": 0.5, "train_loss": 3.25, "tokens_per_second": 9.0}
    events.write(json.dumps({**step, "lr_scale": 1.0}) + "\\n" + '{"event": "TrainSt')
    events.flush()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
finish()
"""
    )
    run = queue(ledger, tmp_path / "run", program)
    seen: list[dict[str, Any]] = []

    def report(progress: Mapping[str, Any]) -> None:
        seen.append(dict(progress))

    def release() -> None:
        wait_for(lambda: ledger.get("run").progress.get("step") == 4)
        (run.folder / "go").touch()

    thread = threading.Thread(target=release)
    thread.start()
    finished = execute(run, os.environ, QUICK, report)
    thread.join()
    assert finished.outcome == MEASUREMENT
    expected = {"phase": "train", "step": 4, "progress": 0.5, "train_loss": 3.25, "tokens_per_second": 9.0}
    assert seen[-1] == expected == ledger.get("run").progress


def test_a_crash_is_the_machines_with_the_exit_code_the_cause_and_the_phase(ledger: Ledger, tmp_path: Path) -> None:
    program = """
import pathlib
pathlib.Path("events.jsonl").write_text('{"event": "PhaseEntered", "time": 1.0, "phase": "warmup"}\\n')
raise RuntimeError("the disk is full")
"""
    failure = failure_of(ledger, queue(ledger, tmp_path / "run", program))
    assert failure.kind is FailureKind.MACHINE
    assert failure.phase == "warmup"
    assert failure.message == "train_gpt.py ended without a result, exit code 1: RuntimeError: the disk is full"


def test_a_killed_trainer_is_the_machines_with_the_signal_and_the_last_lines(ledger: Ledger, tmp_path: Path) -> None:
    program = "import os; print('one\\n\\ntwo\\nthree\\nfour', flush=True); os.kill(os.getpid(), 9)"
    failure = failure_of(ledger, queue(ledger, tmp_path / "run", program))
    assert failure.kind is FailureKind.MACHINE
    assert failure.message.endswith("killed by signal 9: two | three | four")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", FailureKind.OUT_OF_MEMORY),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", FailureKind.OUT_OF_MEMORY),
        ("[rank1]: DivergedError: train_loss: must be finite, got nan", FailureKind.DIVERGED),
        ("trainer.errors.DataError: val.bpb: nothing is there\nDistBackendError: peer left", FailureKind.DATA),
        ("Segmentation fault", FailureKind.MACHINE),
    ],
)
def test_the_output_tells_who_caused_a_crash(ledger: Ledger, tmp_path: Path, text: str, kind: FailureKind) -> None:
    program = f"print({text!r}); raise SystemExit(1)"
    assert failure_of(ledger, queue(ledger, tmp_path / "run", program)).kind is kind


def test_a_result_that_cannot_be_read_is_a_bug(ledger: Ledger, tmp_path: Path) -> None:
    program = "import pathlib; pathlib.Path('result.json').write_text('[1]')"
    failure = failure_of(ledger, queue(ledger, tmp_path / "run", program))
    assert failure.kind is FailureKind.BUG
    assert "result.json: expected a trainer's result" in failure.message


def test_a_trainer_that_does_not_end_after_its_result_is_killed_and_counts(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", WRITE_RESULT + "finish()\n" + HANG)
    assert execute(run, os.environ, QUICK).outcome == MEASUREMENT
    assert all(is_gone(pid) for pid in pids_in(run.folder))


# -- runs that are refused


def test_a_folder_without_trainer_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", "")
    (run.folder / "train_gpt.py").unlink()
    failure = failure_of(ledger, run)
    assert failure.kind is FailureKind.MACHINE
    assert "does this host see the runs folder?" in failure.message


@pytest.mark.parametrize("name", ["result.json", "events.jsonl", "weights.bin", "stdout.log"])
def test_outputs_of_an_earlier_run_are_not_taken_for_new(ledger: Ledger, tmp_path: Path, name: str) -> None:
    run = queue(ledger, tmp_path / "run", "raise SystemExit(3)")
    (run.folder / name).write_text(json.dumps(outcome_to_dict(MEASUREMENT)))
    failure = failure_of(ledger, run)
    assert failure.kind is FailureKind.MACHINE
    assert f"got {name} of an earlier one" in failure.message


def test_a_run_cancelled_before_it_started_does_not_start(ledger: Ledger, tmp_path: Path) -> None:
    run = queue(ledger, tmp_path / "run", "import pathlib; pathlib.Path('started').touch()")
    cancelled = Failure(kind=FailureKind.CANCELLED, message="by the user")
    ledger.finish("run", cancelled, 0.0, time.time())
    assert execute(run, os.environ, QUICK).outcome == cancelled
    assert not (run.folder / "started").exists()


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


# -- the parts


def test_a_line_without_its_newline_waits_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert not tail.read()
    path.write_text('{"event": "PhaseEntered", "phase": "se')
    assert not tail.read()
    with path.open("a") as file:
        file.write('tup"}\nnot json\n17\n{"event": "Unknown", "phase": "x"}\n')
    assert tail.read()
    assert tail.progress == {"phase": "setup"}
    assert not tail.read()


def a_run(tmp_path: Path, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "run_id": "r",
        "folder": tmp_path,
        "world_size": 1,
        "num_gpus": 0,
        "accelerator": None,
        "environment": {"SEED": "7", "DATA_PATH": "/data"},
        "deadline_seconds": 1.0,
        "storage_url": "sqlite:///x.db",
    }
    return Run(**{**values, **changes})


def test_the_child_sees_the_runs_environment_and_no_one_elses(tmp_path: Path) -> None:
    inherited = {
        "PATH": "/bin",
        "HF_HOME": "/cache",
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "3",
        "MASTER_ADDR": "elsewhere",
        "TORCHELASTIC_RUN_ID": "x",
        "RAY_AUTH_TOKEN": "secret",
        "CADDIE_STORAGE": "postgresql://user:secret@host/db",
        "SEED": "1",
        "RUN_ID": "of another run",
    }
    environment = child_environment(a_run(tmp_path), inherited)
    assert environment == {
        "PATH": "/bin",
        "HF_HOME": "/cache",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "SEED": "7",
        "DATA_PATH": "/data",
    }


def test_a_gpu_run_keeps_the_gpus_that_ray_gave_it(tmp_path: Path) -> None:
    inherited = {"CUDA_VISIBLE_DEVICES": "2,3", "OMP_NUM_THREADS": "1"}
    environment = child_environment(a_run(tmp_path, num_gpus=2, world_size=2), inherited)
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "OMP_NUM_THREADS" not in environment


def test_modules_are_compiled_once_for_all_runs_where_the_installation_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.child.cache_from_source", lambda _source: str(tmp_path / "nothing"))
    environment = child_environment(a_run(tmp_path), {"PYTHONDONTWRITEBYTECODE": "1"})
    assert environment["PYTHONPYCACHEPREFIX"] == str(Path.home() / ".cache" / "caddie" / "bytecode")
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    mine = {"PYTHONPYCACHEPREFIX": "/mine"}
    assert child_environment(a_run(tmp_path), mine)["PYTHONPYCACHEPREFIX"] == "/mine"


def test_the_working_trees_trainer_is_not_on_the_childs_path(tmp_path: Path) -> None:
    (tmp_path / "repository" / "trainer").mkdir(parents=True)
    (tmp_path / "repository" / "trainer" / "config.py").touch()
    path = os.pathsep.join([str(tmp_path / "repository"), "", "/opt/libraries"])
    assert child_environment(a_run(tmp_path), {"PYTHONPATH": path})["PYTHONPATH"] == "/opt/libraries"
    assert "PYTHONPATH" not in child_environment(a_run(tmp_path), {"PYTHONPATH": str(tmp_path / "repository")})


def test_one_process_runs_python_and_several_run_torchrun(tmp_path: Path) -> None:
    assert "torch.distributed.run" not in command_of(a_run(tmp_path), 1)
    command = command_of(a_run(tmp_path, world_size=4), 1)
    assert "--nproc-per-node=4" in command
    assert command[-1] == "train_gpt.py"
