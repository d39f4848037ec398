"""The table of runs: leases, heartbeats, GPU-seconds and durable results, in the same database as the studies.

Whoever executes a run writes its heartbeats and its result here, so a finished run survives the driver's death. Every
write is one statement whose WHERE clause checks the state it expects: that is what makes it atomic on SQLite and
PostgreSQL alike, with several processes writing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError

from search.database import answering, open_engine, resolve_url, shown
from search.errors import StoreError
from search.run_record import OPEN_STATES, RunRecord, RunState
from trainer.result import Failure, FailureKind, Measurement, outcome_from_dict, outcome_to_dict

LEASE_SECONDS = 120.0  # a run or driver not heard of for this long is lost; also absorbs clocks that differ by seconds
START_SECONDS = 600.0  # a submitted run that has not started by then is lost
MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "caddie_alembic_version"
_LOCK = 0xCADD1E  # any number that no other program locks in this database
_OPEN_VALUES = tuple(state.value for state in OPEN_STATES)  # psycopg would write an enum's name


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The process that drives a study. owner is unique to one start of it."""

    owner: str
    host: str
    pid: int


_runs = sa.table("caddie_runs", *(sa.column(field.name) for field in fields(RunRecord)))
_drivers = sa.table("caddie_drivers", *map(sa.column, ("study", "owner", "host", "pid", "lease_expires_at")))


class Ledger:
    """Reads and writes the table of runs, and who drives a study.

    Every method raises StoreError when the database does not answer.
    """

    def __init__(self, engine: sa.Engine, url: str) -> None:
        self._engine = engine
        self.url = url  # resolved: another process in another folder can open it

    @classmethod
    def open(cls, url: str) -> "Ledger":
        """The ledger in the database at url; its tables are created or brought up to date first.

        Raises:
            StoreError: the URL is malformed or does not answer, or a newer version wrote these tables.
        """
        url = resolve_url(url)
        engine = open_engine(url)
        with answering(url):
            _migrate(engine)
        return cls(engine, url)

    def insert(self, record: RunRecord) -> None:
        """Add a run that is about to be submitted."""
        values = {
            **asdict(record),
            "state": record.state.value,
            "progress": json.dumps(dict(record.progress)),
            "outcome": _dump(record.outcome),
        }
        self._execute(sa.insert(_runs).values(values))

    def start(
        self,
        run_id: str,
        host: str,
        pid: int,
        device: str,
        now: float,
        lease: float = LEASE_SECONDS,
        gpus: str = "",
    ) -> bool:
        """Mark a queued run as running here. False: it was cancelled or given up meanwhile, and must not run."""
        is_queued = (_runs.c.run_id == run_id) & (_runs.c.state == RunState.QUEUED.value)
        return self._execute(
            sa.update(_runs)
            .where(is_queued)
            .values(
                state=RunState.RUNNING.value,
                host=host,
                pid=pid,
                device=device,
                gpus=gpus,
                started_at=now,
                lease_expires_at=now + lease,
            )
        )

    def beat(self, run_id: str, progress: Mapping[str, Any], now: float, lease: float = LEASE_SECONDS) -> bool:
        """Renew a running run's lease. False: it was cancelled or given up meanwhile, and should stop."""
        is_running = (_runs.c.run_id == run_id) & (_runs.c.state == RunState.RUNNING.value)
        return self._execute(
            sa.update(_runs).where(is_running).values(progress=json.dumps(dict(progress)), lease_expires_at=now + lease)
        )

    def finish(
        self, run_id: str, outcome: Measurement | Failure, gpu_seconds: float, now: float, log_sha256: str = ""
    ) -> bool:
        """Record how a run ended. Only the first call for a run counts; later ones change nothing and return False."""
        is_open = (_runs.c.run_id == run_id) & _runs.c.state.in_(_OPEN_VALUES)
        return self._execute(
            sa.update(_runs)
            .where(is_open)
            .values(
                state=_state_of(outcome).value,
                outcome=_dump(outcome),
                gpu_seconds=gpu_seconds,
                finished_at=now,
                log_sha256=log_sha256,
            )
        )

    def get(self, run_id: str) -> RunRecord:
        """One run.

        Raises:
            StoreError: there is no such run.
        """
        rows = self._select(_runs.c.run_id == run_id)
        if not rows:
            raise StoreError(f"storage {shown(self.url)}: expected a run {run_id}, got none of that name")
        return rows[0]

    def held_seconds(self, run_id: str, end: float) -> float:
        """GPU-seconds that a run held from its start to a time, beside all runs that were on its GPU."""
        record = self.get(run_id)
        beside = self._select((_runs.c.host == record.host) & (_runs.c.gpus == record.gpus)) if record.may_share else []
        return record.held_seconds(end, beside)

    def has(self, run_id: str) -> bool:
        """Whether there is such a run."""
        return bool(self._select(_runs.c.run_id == run_id))

    def runs(self, study: str | None = None) -> list[RunRecord]:
        """All runs, or those of one study, oldest first."""
        return self._select(sa.true() if study is None else _runs.c.study == study)

    def claim(self, study: str, driver: Driver, now: float, lease: float = LEASE_SECONDS) -> Driver | None:
        """Become, or stay, the one driver of a study. None when it worked, else who drives it now."""
        is_ours_or_free = (_drivers.c.owner == driver.owner) | (_drivers.c.lease_expires_at < now)
        values = {**asdict(driver), "lease_expires_at": now + lease}
        if self._execute(sa.update(_drivers).where((_drivers.c.study == study) & is_ours_or_free).values(values)):
            return None
        holder = self._holder(study)
        if holder is not None:
            return holder
        try:
            with answering(self.url), self._engine.begin() as connection:
                connection.execute(sa.insert(_drivers).values(study=study, **values))
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):  # another driver inserted its row just now
                return self._holder(study)
            raise
        return None

    def release(self, study: str, owner: str) -> None:
        """Stop driving a study; nothing happens where owner does not drive it."""
        self._execute(sa.delete(_drivers).where((_drivers.c.study == study) & (_drivers.c.owner == owner)))

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _holder(self, study: str) -> Driver | None:
        query = sa.select(_drivers.c.owner, _drivers.c.host, _drivers.c.pid).where(_drivers.c.study == study)
        with answering(self.url), self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else Driver(**row)

    def _execute(self, statement: Any) -> bool:
        with answering(self.url), self._engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def _select(self, condition: sa.ColumnElement[bool]) -> list[RunRecord]:
        query = sa.select(_runs).where(condition).order_by(_runs.c.queued_at, _runs.c.run_id)
        with answering(self.url), self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]


def _migrate(engine: sa.Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        if _revision(connection) == head:
            return
    with engine.begin() as connection:
        # Processes that open a new database together take turns.
        is_sqlite = engine.dialect.name == "sqlite"
        connection.execute(sa.text("BEGIN IMMEDIATE" if is_sqlite else f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if _revision(connection) != head:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _state_of(outcome: Measurement | Failure) -> RunState:
    if isinstance(outcome, Measurement):
        return RunState.FINISHED
    is_ended_by_us = outcome.kind in {FailureKind.CANCELLED, FailureKind.STOPPED}
    return RunState.CANCELLED if is_ended_by_us else RunState.FAILED


def _dump(outcome: Measurement | Failure | None) -> str | None:
    return None if outcome is None else json.dumps(outcome_to_dict(outcome))


def _record(row: Mapping[Any, Any]) -> RunRecord:
    values = dict(row)
    values["state"] = RunState(values["state"])
    values["progress"] = json.loads(values["progress"])
    values["outcome"] = None if values["outcome"] is None else outcome_from_dict(json.loads(values["outcome"]))
    return RunRecord(**values)
