"""The ledger: first finish wins, leases, one driver, several processes at once, errors of one line."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_record
from simulation import failure, measurement

from search.database import shown
from search.errors import StoreError
from search.ledger import Driver, Ledger
from search.run_record import RunRecord, RunState
from search.store import open_storage
from trainer.result import Failure, FailureKind


def record(run_id: str = "run-1", **changes: Any) -> RunRecord:
    times = {"queued_at": 1_762_000_000.123456, "lease_expires_at": 1_762_000_600.0}
    return made_record(run_id, **{"trial_number": 3, "world_size": 8, **times, **changes})


def test_a_record_reads_back_as_it_was_written(ledger: Ledger) -> None:
    written = record(progress={"step": 3}, outcome=measurement(), state=RunState.FINISHED, started_at=1.5)
    ledger.insert(written)
    assert ledger.get("run-1") == written
    assert ledger.runs("study") == ledger.runs() == [written]
    assert ledger.runs("another") == []


def test_an_unknown_run_is_one_line(ledger: Ledger) -> None:
    with pytest.raises(StoreError, match="expected a run run-9, got none"):
        ledger.get("run-9")


def test_a_run_is_started_once(ledger: Ledger) -> None:
    ledger.insert(record())
    assert ledger.start("run-1", "host", 17, "H100", 100.0, 60.0)
    assert not ledger.start("run-1", "elsewhere", 18, "H100", 101.0, 60.0)
    run = ledger.get("run-1")
    assert (run.state, run.host, run.pid, run.device) == (RunState.RUNNING, "host", 17, "H100")
    assert (run.started_at, run.lease_expires_at) == (100.0, 160.0)


def test_a_cancelled_run_never_starts_and_never_beats(ledger: Ledger) -> None:
    ledger.insert(record())
    assert ledger.finish("run-1", failure(FailureKind.CANCELLED), 0.0, 10.0)
    assert not ledger.start("run-1", "host", 17, "H100", 11.0)
    assert not ledger.beat("run-1", {"step": 1}, 12.0)
    assert ledger.get("run-1").state is RunState.CANCELLED


def test_the_first_finish_wins(ledger: Ledger) -> None:
    ledger.insert(record())
    ledger.start("run-1", "host", 17, "H100", 100.0)
    assert ledger.finish("run-1", measurement(val_bpb=1.25), 240.0, 400.0)
    assert not ledger.finish("run-1", failure(FailureKind.MACHINE), 999.0, 500.0)
    run = ledger.get("run-1")
    assert (run.state, run.outcome) == (RunState.FINISHED, measurement(val_bpb=1.25))
    assert (run.gpu_seconds, run.finished_at) == (240.0, 400.0)


def test_heartbeats_move_the_lease_on(ledger: Ledger) -> None:
    ledger.insert(record())
    ledger.start("run-1", "host", 17, "H100", 100.0, 60.0)
    assert ledger.get("run-1").lease_expires_at == 160.0
    assert ledger.beat("run-1", {"phase": "train", "step": 7}, 150.0, 60.0)
    assert ledger.get("run-1").lease_expires_at == 210.0
    assert ledger.get("run-1").progress == {"phase": "train", "step": 7}


def test_what_databases_choke_on_is_kept(ledger: Ledger) -> None:
    ledger.insert(record())
    ledger.start("run-1", "host", 17, "H100", 1.0)
    ledger.beat("run-1", {"train_loss": float("inf")}, 2.0)
    assert ledger.get("run-1").progress == {"train_loss": float("inf")}
    ledger.finish("run-1", failure(FailureKind.BUG, "a zero \x00 and \u20ac"), 1.0, 3.0)
    assert ledger.get("run-1").outcome == failure(FailureKind.BUG, "a zero \x00 and \u20ac")


ONE, TWO = (Driver(owner=name, host="host", pid=pid) for name, pid in (("one", 1), ("two", 2)))


def test_one_driver_a_study_until_its_lease_ends(ledger: Ledger) -> None:
    assert ledger.claim("study", ONE, 0.0, 60.0) is None
    assert ledger.claim("study", ONE, 50.0, 60.0) is None
    assert ledger.claim("study", TWO, 100.0, 60.0) == ONE
    assert ledger.claim("another", TWO, 100.0, 60.0) is None
    assert ledger.claim("study", TWO, 111.0, 60.0) is None
    assert ledger.claim("study", ONE, 112.0, 60.0) == TWO


def test_only_its_driver_releases_a_study(ledger: Ledger) -> None:
    ledger.claim("study", ONE, 0.0)
    ledger.release("study", "two")
    assert ledger.claim("study", TWO, 1.0) == ONE
    ledger.release("study", "one")
    assert ledger.claim("study", TWO, 1.0) is None


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["start", "beat", "done", "lost", "cancel"]), st.integers(0, 5)), max_size=12
    )
)
def test_whatever_happens_one_end_is_kept(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path_factory.mktemp('db') / 'caddie.db'}")
    ledger.insert(record())
    outcomes = {
        "done": measurement(),
        "lost": failure(FailureKind.MACHINE),
        "cancel": failure(FailureKind.CANCELLED),
    }
    won: list[str] = []
    for now, (name, seconds) in enumerate(steps):
        if name == "start":
            ledger.start("run-1", "host", 1, "cpu", float(now))
        elif name == "beat":
            ledger.beat("run-1", {}, float(now))
        elif ledger.finish("run-1", outcomes[name], float(seconds), float(now)):
            won.append(name)
    assert len(won) == any(name in outcomes for name, _ in steps)
    assert ledger.get("run-1").outcome == (outcomes[won[0]] if won else None)
    ledger.close()


WRITER = """
import sys
from search.ledger import Ledger
from trainer.result import Failure, FailureKind
url, name = sys.argv[1:]
ledger = Ledger.open(url)
wins = 0
for number in range(25):
    run_id = f"run-{number}"
    ledger.start(run_id, name, 1, "cpu", float(number))
    ledger.beat(run_id, {"step": number}, float(number))
    wins += ledger.finish(run_id, Failure(kind=FailureKind.BUG, message=name), 1.0, float(number))
print(wins)
"""


def test_processes_that_write_at_once_agree_on_who_was_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'caddie.db'}"
    ledger = Ledger.open(url)
    for number in range(25):
        ledger.insert(record(f"run-{number}"))
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, f"process {index}"], stdout=subprocess.PIPE, text=True)
        for index in range(3)
    ]
    wins = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(wins) == 25
    winners = [run.outcome.message for run in ledger.runs() if isinstance(run.outcome, Failure)]
    assert [winners.count(f"process {index}") for index in range(3)] == wins


def test_processes_that_open_a_new_database_at_once_all_get_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'caddie.db'}"
    opening = "import sys; from search.ledger import Ledger; Ledger.open(sys.argv[1]).runs()"
    processes = [subprocess.Popen([sys.executable, "-c", opening, url], stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=120)[1] for process in processes] == [b"", b"", b""]


def test_the_ledger_and_optuna_share_a_database_in_any_order(tmp_path: Path) -> None:
    for first, second in ((Ledger.open, open_storage), (open_storage, Ledger.open)):
        url = f"sqlite:///{tmp_path / first.__name__}.db"
        first(url)
        second(url)
        first(url)


def test_another_folder_opens_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = Ledger.open("sqlite:///caddie.db")
    ledger.insert(record())
    monkeypatch.chdir("/")
    assert Ledger.open(ledger.url).get("run-1") == record()


BAD_URLS = {
    "sqlite:////no/such/folder/caddie.db": "unable to open database file: there is no folder /no/such/folder",
    "sqlite://": "expected an SQLite file",
    "sqlite:///:memory:": "expected an SQLite file",
    "foo://somewhere": "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME, got foo",
    "mysql://caddie:secret@somewhere/caddie": "got mysql",
    "not a url": "expected a URL such as sqlite:///caddie.db, got not a url",
    "caddie:secret@somewhere": "got something else",
    "postgresql+psycopg://caddie:secret@no-such-host.invalid/caddie": "resolve",
    "postgresql+psycopg://caddie:secret@127.0.0.1:1/caddie": "refused",
    "postgresql://caddie:secret@127.0.0.1:not-a-port/caddie": "expected a URL such as",
}


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("opens", [Ledger.open, open_storage])
def test_a_url_that_does_not_answer_is_one_line_without_its_password(url: str, opens: Any) -> None:
    with pytest.raises(StoreError) as caught:
        opens(url)
    message = str(caught.value)
    assert BAD_URLS[url] in message
    assert message.startswith("storage") and "\n" not in message and "secret" not in message


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "caddie.db"
    path.write_text("not a database, but long enough to be told from an empty one " * 20)
    with pytest.raises(StoreError, match="file is not a database"):
        Ledger.open(f"sqlite:///{path}")


def test_tables_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "caddie.db"
    Ledger.open(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE caddie_alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="9999"):
        Ledger.open(f"sqlite:///{path}")


def test_runs_of_an_older_version_are_kept_without_what_it_did_not_know(tmp_path: Path) -> None:
    path = tmp_path / "caddie.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    ledger.insert(record())
    ledger.close()
    with sqlite3.connect(path) as connection:
        for column in ("log_sha256", "num_gpus", "gpus"):
            connection.execute(f"ALTER TABLE caddie_runs DROP COLUMN {column}")
        connection.execute("UPDATE caddie_alembic_version SET version_num = '0001'")
    again = Ledger.open(f"sqlite:///{path}")
    assert again.get("run-1") == record(log_sha256="", num_gpus=0.0, gpus="")
    again.start("run-1", "host", 17, "H100", 100.0)
    assert again.finish("run-1", measurement(), 240.0, 400.0, "a" * 64)
    assert again.get("run-1").log_sha256 == "a" * 64


def test_shown_hides_the_password() -> None:
    assert shown("postgresql+psycopg://caddie:secret@host/db") == "postgresql+psycopg://caddie:***@host/db"
