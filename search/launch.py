"""One execution on this host: the trainer's process tree, its heartbeats, its deadline and its result."""

import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.child import process_tree
from search.errors import StoreError
from search.ledger import LEASE_SECONDS, Ledger
from search.run import (
    CODE_FILE,
    EVENTS_FILE,
    LOG_FILE,
    OUTPUT_FILE,
    RESULT_FILE,
    WEIGHT_FILE,
    Finished,
    Run,
    read_outcome,
)
from trainer.result import Failure, FailureKind, Measurement

OUTPUTS = (EVENTS_FILE, RESULT_FILE, OUTPUT_FILE, LOG_FILE, WEIGHT_FILE)
TAIL_BYTES = 65_536  # of the output that is searched for the cause of a crash
MESSAGE_CHARACTERS = 400
FINISH_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
OUT_OF_MEMORY_SIGNS = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
# torch prefixes a rank's traceback with [rank0]:; torchrun's own ChildFailedError only says that a rank failed.
ERROR_LINE = re.compile(r"^(?:\[rank\d+\]:\s*)?((?!.*ChildFailedError)[\w.]+(?:Error|Exception|Interrupt)\b.*)$", re.M)
# A rank's own failure can end the run before rank 0 has written its result.
KIND_OF_ERROR = {
    "OutOfMemoryError": FailureKind.OUT_OF_MEMORY,
    "ConfigError": FailureKind.CONFIG,
    "DataError": FailureKind.DATA,
    "DivergedError": FailureKind.DIVERGED,
    "ArtifactError": FailureKind.ARTIFACT,
}
PROGRESS_FIELDS = {
    "PhaseEntered": ("phase",),
    "TrainStep": ("step", "progress", "train_loss", "tokens_per_second"),
}
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How often the launcher looks and how long it waits.

    Attributes:
        poll_seconds: between two looks at the events, and two heartbeats.
        lease_seconds: a run without heartbeat for this long is lost.
        teardown_seconds: how long a trainer may live on after it wrote its result.
    """

    poll_seconds: float = 1.0
    lease_seconds: float = LEASE_SECONDS
    teardown_seconds: float = 60.0


TIMING = Timing()


def execute_on_worker(run: Run, timing: Timing = TIMING) -> Finished:
    """As execute, in a process of Ray's, which has set its variables: the GPUs of this run, the Python path.

    Raises:
        StoreError: as execute.
    """
    return execute(run, os.environ, timing)


def execute(run: Run, inherited: Mapping[str, str], timing: Timing = TIMING, report: Report | None = None) -> Finished:
    """Run the packed trainer of a queued run to its end, and record how it ended in the ledger.

    Every way to end is an outcome, never an exception: a crash or a folder this host does not see is a Failure, and
    Ctrl-C is a Failure of kind CANCELLED. Whatever happens, no process of the trainer is left when it returns.

    Args:
        inherited: variables of this process.
        report: called with the latest progress whenever it changed.

    Raises:
        StoreError: the storage does not answer at the start, or does not know the run.
    """
    ledger = Ledger.open(run.storage_url)
    try:
        started_at = time.time()
        host, gpus = socket.gethostname(), inherited.get("CUDA_VISIBLE_DEVICES", "")
        if not ledger.start(run.run_id, host, os.getpid(), _device(run), started_at, timing.lease_seconds, gpus):
            return _given_up(ledger, run)
        try:
            outcome = _outcome(run, inherited, _Contact(ledger, run.run_id, timing, report))
        except KeyboardInterrupt:
            outcome = Failure(kind=FailureKind.CANCELLED, message="cancelled from the keyboard")
        return _record(ledger, run, outcome, started_at)
    finally:
        ledger.close()


class EventTail:
    """Follows an events.jsonl that is being written; a last line without its newline waits for the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.progress: dict[str, Any] = {}

    def read(self) -> bool:
        """Take in what was written since the last call; True where the progress changed."""
        before = dict(self.progress)
        for line in self._new_lines():
            with suppress(ValueError):  # a line torn by a full disk is no reason to end a run
                self._take(json.loads(line))
        return self.progress != before

    def _new_lines(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._offset += len(whole) + len(newline)
        return whole.splitlines()

    def _take(self, event: Any) -> None:
        if isinstance(event, dict):
            names = PROGRESS_FIELDS.get(str(event.get("event")), ())
            self.progress |= {name: event[name] for name in names if name in event}


def _outcome(run: Run, inherited: Mapping[str, str], contact: "_Contact") -> Measurement | Failure:
    """Start the trainer, wait for its end, and read what it left."""
    refusal = _refusal(run.folder)
    if refusal is not None:
        return Failure(kind=FailureKind.MACHINE, message=refusal)
    tail = EventTail(run.folder / EVENTS_FILE)
    with process_tree(run, inherited) as process:
        verdict = _watch(process, run, tail, contact)
    result = _result(run.folder)
    return result or verdict or _crash(run.folder, process.returncode, str(tail.progress.get("phase", "")))


def _refusal(folder: Path) -> str | None:
    if not (folder / CODE_FILE).is_file():
        return f"{folder / CODE_FILE}: expected the packed trainer, got no file; does this host see the runs folder?"
    stale = [name for name in OUTPUTS if (folder / name).exists()]
    if stale:
        return f"{folder}: expected no outputs before the run, got {', '.join(stale)} of an earlier one"
    return None


@dataclass(frozen=True, slots=True)
class _Contact:
    """Whom the launcher tells how the run goes."""

    ledger: Ledger
    run_id: str
    timing: Timing
    report: Report | None

    def beat(self, progress: Mapping[str, Any]) -> bool:
        """Renew the lease; False where the run was cancelled or given up meanwhile."""
        try:
            return self.ledger.beat(self.run_id, progress, time.time(), self.timing.lease_seconds)
        except StoreError:
            return True  # a database that restarts must not cost a run; the lease says how long that may take


def _watch(process: subprocess.Popen[bytes], run: Run, tail: EventTail, contact: _Contact) -> Failure | None:
    """Why the trainer has to be killed; None when it ended by itself or has left its result."""
    started = time.monotonic()
    result_since: float | None = None
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(contact.timing.poll_seconds)
        if tail.read() and contact.report is not None:
            contact.report(tail.progress)
        if process.returncode is not None:
            return None
        now = time.monotonic()
        if (run.folder / RESULT_FILE).exists():
            result_since = result_since or now
            if now - result_since > contact.timing.teardown_seconds:
                return None
        if now - started > run.deadline_seconds:
            message = f"still running after {run.deadline_seconds:g} s, start-up included"
            return Failure(kind=FailureKind.DEADLINE, message=message, phase=tail.progress.get("phase", ""))
        if not contact.beat(tail.progress):
            return Failure(kind=FailureKind.CANCELLED, message="cancelled or given up by the driver")


def _result(folder: Path) -> Measurement | Failure | None:
    """What the trainer left; None where it left nothing."""
    try:
        return read_outcome(folder)
    except ValueError as error:
        message = f"{folder / RESULT_FILE}: expected a trainer's result, got {error}"
        return Failure(kind=FailureKind.BUG, message=_line(message))


def _crash(folder: Path, exit_code: int, phase: str) -> Failure:
    """A Failure from the exit code and the output of a trainer that left no result."""
    output = _last_output(folder / OUTPUT_FILE)
    errors: list[str] = ERROR_LINE.findall(output)
    named = [line for line in errors if _error_name(line) in KIND_OF_ERROR]
    cause = (named or errors or [" | ".join(output.split("\n")[-3:])])[-1]
    kind = KIND_OF_ERROR.get(_error_name(cause), FailureKind.MACHINE)
    if any(sign in output for sign in OUT_OF_MEMORY_SIGNS):
        kind = FailureKind.OUT_OF_MEMORY
    ended = f"exit code {exit_code}" if exit_code >= 0 else f"killed by signal {-exit_code}"
    message = _line(f"{CODE_FILE} ended without a result, {ended}: {cause or 'no output'}")
    return Failure(kind=kind, message=message, phase=phase)


def _error_name(line: str) -> str:
    return line.partition(":")[0].rpartition(".")[2]


def _last_output(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def _record(ledger: Ledger, run: Run, outcome: Measurement | Failure, started_at: float) -> Finished:
    """Finish the run in the ledger, with its log's hash. Where someone did before, theirs is the outcome."""
    log_sha256, now = _log_sha256(run.folder), time.time()
    gpu_seconds = max(now - started_at, 0.0) * (run.num_gpus or run.world_size)  # where the ledger cannot tell better
    for delay in (*FINISH_RETRY_SECONDS, None):
        try:
            gpu_seconds = ledger.held_seconds(run.run_id, now)
            if not ledger.finish(run.run_id, outcome, gpu_seconds, time.time(), log_sha256):
                return _given_up(ledger, run)
            break
        except StoreError:
            if delay is None:
                break  # whoever called has it from the return value
            time.sleep(delay)
    return Finished(run_id=run.run_id, outcome=outcome, gpu_seconds=gpu_seconds)


def _log_sha256(folder: Path) -> str:
    """The hash of the log that a run has left, "" where it left none: what is exported later must be this log."""
    try:
        return hashlib.sha256((folder / LOG_FILE).read_bytes()).hexdigest()
    except OSError:
        return ""


def _given_up(ledger: Ledger, run: Run) -> Finished:
    record = ledger.get(run.run_id)
    outcome = record.outcome
    if outcome is None:
        outcome = Failure(kind=FailureKind.MACHINE, message=f"already running on {record.host}, process {record.pid}")
    return Finished(run_id=run.run_id, outcome=outcome, gpu_seconds=record.gpu_seconds)


def _device(run: Run) -> str:
    return run.accelerator or ("gpu" if run.num_gpus else "cpu")


def _line(text: str) -> str:
    return " ".join(text.split())[:MESSAGE_CHARACTERS]
