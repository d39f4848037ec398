"""The ledger, the studies and the dashboard on a real PostgreSQL server: what SQLite forgives, it does not."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from commands import caddie, place_quickstart
from made_records import made_record
from postgres_server import PostgresServer
from simulation import Machine, failure, make_spec, measurement

from search.dashboard import ShownStorage, application
from search.errors import SpecError, StoreError
from search.ledger import Driver, Ledger
from search.run_record import RunRecord, RunState
from search.services import Brake
from search.store import check_definition, open_storage, study_names
from search.trials import TrialStatus
from trainer.result import FailureKind


def record(run_id: str) -> RunRecord:
    """A queued run whose every number is at home in a wide column only."""
    return made_record(
        run_id,
        trial_number=3,
        seed=2**31 - 1,
        folder="/runs/" + "long/" * 60 + run_id,
        world_size=8,
        queued_at=1_762_000_000.123456,
        lease_expires_at=1_762_000_600.654321,
    )


def test_a_run_from_queue_to_result(postgres_url: str) -> None:
    ledger = Ledger.open(postgres_url)
    queued = record("run-1")
    ledger.insert(queued)
    assert ledger.get("run-1") == queued
    assert ledger.start("run-1", "host", 4_194_304, "NVIDIA H100", 1_762_000_001.25, 60.0)
    assert not ledger.start("run-1", "another", 1, "cpu", 1_762_000_002.0)
    assert ledger.beat("run-1", {"phase": "train", "train_loss": float("inf"), "note": "\x00 \u20ac"}, 1_762_000_030.0)
    assert ledger.get("run-1").lease_expires_at == 1_762_000_150.0  # LEASE_SECONDS after the beat
    assert ledger.finish("run-1", measurement(val_bpb=1.0 / 3.0), 240.5, 1_762_000_100.5)
    assert not ledger.finish("run-1", failure(FailureKind.MACHINE), 1.0, 1_762_000_200.0)
    run = ledger.get("run-1")
    assert (run.state, run.outcome, run.gpu_seconds) == (RunState.FINISHED, measurement(val_bpb=1.0 / 3.0), 240.5)
    assert (run.started_at, run.finished_at) == (1_762_000_001.25, 1_762_000_100.5)
    assert run.progress["train_loss"] == float("inf")
    ledger.close()


def test_one_driver_a_study(postgres_url: str) -> None:
    ledger = Ledger.open(postgres_url)
    one, two = (Driver(owner=name, host="host", pid=1) for name in ("one", "two"))
    assert ledger.claim("study", one, 1_762_000_000.0, 60.0) is None
    assert ledger.claim("study", two, 1_762_000_030.0, 60.0) == one
    assert ledger.claim("study", two, 1_762_000_061.0, 60.0) is None
    ledger.close()


WRITER = """
import sys
from search.ledger import Ledger
from trainer.result import Failure, FailureKind
ledger = Ledger.open(sys.argv[1])
outcome = Failure(kind=FailureKind.BUG, message="first")
print(sum(ledger.finish(f"run-{number}", outcome, 1.0, 1.0) for number in range(20)))
"""


def test_processes_that_write_at_once_agree_on_who_was_first(postgres_url: str) -> None:
    ledger = Ledger.open(postgres_url)
    for number in range(20):
        ledger.insert(record(f"run-{number}"))
    command = [sys.executable, "-c", WRITER, postgres_url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(process.communicate(timeout=120)[0]) for process in processes) == 20
    ledger.close()


def test_processes_that_open_an_empty_database_at_once_all_get_it(postgres_url: str) -> None:
    opening = (
        "import sys\n"
        "from search.ledger import Ledger\n"
        "from search.store import open_storage\n"
        "Ledger.open(sys.argv[1]).runs()\n"
        "open_storage(sys.argv[1]).get_all_studies()\n"
    )
    command = [sys.executable, "-c", opening, postgres_url]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[1] for process in processes] == ["", "", ""]


@dataclass
class PostgresMachine(Machine):
    """The simulated machine over another database."""

    url: str = ""

    def __post_init__(self) -> None:
        self.ledger = Ledger.open(self.url)
        self.storage = open_storage(self.url)


def test_a_study_runs_stops_and_goes_on(postgres_url: str, tmp_path: Path) -> None:
    machine = PostgresMachine(tmp_path, make_spec(), url=postgres_url)
    machine.run(Brake(trials_left=2))
    assert len(machine.rows("proxy")) == 2
    result = machine.run()
    assert result.settled == ("proxy", "full")
    proxy, full = machine.rows("proxy"), machine.rows("full")
    assert [row.status for row in proxy] == [TrialStatus.FEASIBLE] * 4
    best = sorted(proxy, key=lambda row: row.val_bpb or 9.0)[:2]
    assert [row.recipe for row in full] == [row.recipe for row in best]
    assert study_names(machine.storage) == ["sim"]
    check_definition(machine.storage, machine.spec)
    with pytest.raises(SpecError, match="expected the definition it was started with"):
        check_definition(machine.storage, make_spec(objectives=["val_bpb"]))


def test_plain_optuna_sees_values_and_constraints(postgres_url: str, tmp_path: Path) -> None:
    machine = PostgresMachine(tmp_path, make_spec(limits={"artifact_bytes": 700_000}), url=postgres_url)
    machine.run()
    study = optuna.load_study(study_name="sim/proxy", storage=postgres_url)
    over = [trial for trial in study.trials if trial.constraints["artifact_bytes"] > 0]
    assert over
    assert all(trial.state is optuna.trial.TrialState.PRUNED for trial in over)
    assert all(len(trial.values) == 2 for trial in study.trials if trial not in over)
    shown = ShownStorage(postgres_url).get_all_trials(shown_id(postgres_url))
    assert [trial.values is None for trial in shown] == [False] * len(shown)


def shown_id(url: str) -> int:
    return open_storage(url).get_study_id_from_name("sim/proxy")


def test_the_dashboard_reads_and_its_connection_refuses_to_write(postgres_url: str, tmp_path: Path) -> None:
    optuna.create_study(storage=open_storage(postgres_url), study_name="one")
    app = application(postgres_url, tmp_path)
    answers: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "SERVER_NAME": "x", "SERVER_PORT": "80"}
    environ |= {"wsgi.url_scheme": "http", "SERVER_PROTOCOL": "HTTP/1.0"}
    body = b"".join(app(environ, lambda status, headers, exc_info=None: answers.append(status) or print))
    assert answers == ["200 OK"]
    assert [study["study_name"] for study in json.loads(body)["study_summaries"]] == ["one"]
    with pytest.raises(optuna.exceptions.StorageInternalError) as error:
        ShownStorage(postgres_url).delete_study(1)
    assert "read-only transaction" in str(error.value.__cause__)


def test_connections_that_the_server_dropped_are_opened_again(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    ledger, storage = Ledger.open(postgres_url), open_storage(postgres_url)
    ledger.insert(record("run-1"))
    assert storage.get_all_studies() == []
    with postgres_server.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'caddie%'")
    assert ledger.get("run-1").run_id == "run-1"
    assert storage.get_all_studies() == []
    ledger.close()


def test_a_refusal_is_one_line_without_the_password(postgres_url: str) -> None:
    wrong = sa.make_url(postgres_url).set(password="a-secret").render_as_string(hide_password=False)
    for opening in (Ledger.open, open_storage):
        with pytest.raises(StoreError, match="password authentication failed") as error:
            opening(wrong)
        assert "a-secret" not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.timeout(300)
def test_the_quickstarts_first_rung_runs_on_it(postgres_url: str, quickstart_data: Path, tmp_path: Path) -> None:
    """The real command, real Ray workers and a real server; the workers report through it too."""
    place_quickstart(tmp_path, quickstart_data, trials=2)
    caddie(tmp_path, "run", "quickstart.yaml", "--storage", postgres_url, "--max-trials", "2")
    proxy, full = json.loads(caddie(tmp_path, "status", "quickstart", "--json", "--storage", postgres_url))["rungs"]
    assert sum(proxy["trials"].values()) == 2
    assert proxy["best"]["val_bpb"] < 4.5
    assert full["trials"] == {}, "what goes on is decided when it may start"
    assert not (tmp_path / "caddie.db").exists()
