"""The launcher, with small programs in the trainer's place: runs that end by themselves, and runs that are refused."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from launched_runs import HANG, MEASUREMENT, QUICK, WRITE_RESULT, failure_of, pids_in
from queued_runs import is_gone, queue, wait_for

from search.launch import execute
from search.ledger import Ledger
from search.run_record import RunState
from trainer.result import Failure, FailureKind, outcome_to_dict

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
