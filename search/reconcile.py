"""Taking a study over: one driver at a time, and what became of the runs of the driver before."""

import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from search.errors import RunnerError
from search.ledger import LEASE_SECONDS, Driver, Ledger
from search.run import read_outcome
from search.run_record import RunRecord, RunState
from search.trials import TrialRow, TrialStatus
from trainer.result import Failure, FailureKind, Measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOver:
    """RUNNING trials of an earlier driver, by what is to be done with them.

    Attributes:
        settled: their run has ended; to be told.
        watched: their worker is alive, or was a moment ago; to be waited for.
        never_started: no worker has begun; to be started now, as the same trial.
    """

    settled: tuple[RunRecord, ...]
    watched: tuple[RunRecord, ...]
    never_started: tuple[int, ...]


def this_process() -> Driver:
    """A driver's identity for this start of this process."""
    return Driver(owner=uuid.uuid4().hex, host=socket.gethostname(), pid=os.getpid())


def is_gone(host: str, pid: int) -> bool:
    """True where the process was on this host and is no more; another host's processes are only known by leases."""
    return host == socket.gethostname() and not psutil.pid_exists(pid)


def claim_study(ledger: Ledger, study: str, driver: Driver, now: float) -> None:
    """Become, or stay, the one driver of a study.

    Raises:
        RunnerError: another driver is alive, or was less than a lease ago.
    """
    holder = ledger.claim(study, driver, now)
    if holder is not None and is_gone(holder.host, holder.pid):
        ledger.release(study, holder.owner)
        holder = ledger.claim(study, driver, now)
    if holder is not None:
        raise RunnerError(
            f"study {study}: expected no other driver, got process {holder.pid} on {holder.host};"
            f" stop it, or wait {LEASE_SECONDS:.0f} s if it is dead"
        )


def left_over(ledger: Ledger, study: str, rung: str, rows: Sequence[TrialRow], now: float) -> LeftOver:
    """Sort the RUNNING trials of a rung that this process has just taken over; lost runs are ended on the way."""
    latest = {record.trial_number: record for record in ledger.runs(study) if record.rung == rung}
    settled: list[RunRecord] = []
    watched: list[RunRecord] = []
    never_started: list[int] = []
    for number in (row.number for row in rows if row.status is TrialStatus.RUNNING):
        record = latest.get(number)
        if record is not None and record.state is RunState.QUEUED:
            record = _revoke(ledger, record, now)
        if record is None or _was_revoked(record):
            never_started.append(number)
        elif record.state.is_final:
            settled.append(record)
        elif record.lease_expires_at < now or is_gone(record.host, record.pid):
            settled.append(end_lost(ledger, record, now))
        else:
            watched.append(record)
    return LeftOver(settled=tuple(settled), watched=tuple(watched), never_started=tuple(never_started))


def end_lost(ledger: Ledger, record: RunRecord, now: float) -> RunRecord:
    """End a run whose worker is not heard of any more.

    Returns:
        The record as it stands then: with the result the trainer left in its folder if it came that far, with the
        worker's own word if that arrived just now, else with a failure of the machine.
    """
    last_sign = min(record.lease_expires_at - LEASE_SECONDS, now)
    where = f" on {record.host}" if record.host else ""
    lost = Failure(kind=FailureKind.MACHINE, message=f"no sign of life from its worker{where}")
    held = ledger.held_seconds(record.run_id, last_sign)
    ledger.finish(record.run_id, _left_result(Path(record.folder)) or lost, held, now)
    return ledger.get(record.run_id)


def _revoke(ledger: Ledger, record: RunRecord, now: float) -> RunRecord:
    """Bar a queued run from starting late: its driver is gone, and whoever would execute it asks the ledger first."""
    ledger.finish(record.run_id, Failure(kind=FailureKind.CANCELLED, message=_REVOKED), 0.0, now)
    return ledger.get(record.run_id)


_REVOKED = "its driver was gone before it started"


def _was_revoked(record: RunRecord) -> bool:
    """True also where the driver died between revoking the run and starting the trial again."""
    return isinstance(record.outcome, Failure) and record.outcome.message == _REVOKED


def _left_result(folder: Path) -> Measurement | Failure | None:
    """result.json of a run whose launcher died before it could record it; the trainer writes it whole or not at all."""
    try:
        return read_outcome(folder)
    except ValueError:
        return None
