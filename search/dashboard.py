"""Optuna Dashboard, served for reading only, showing our constraints, and never an infeasible trial as best.

The stock dashboard has no login and no read-only switch: whoever reaches it can delete studies. Nor does it know
constraints as Optuna 5 stores them. So a filter lets only reading requests through, the database connections
themselves refuse to write, and the dashboard sees the studies through an adapter.
"""

import socket
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import sqlalchemy as sa
from bottle import HTTPError
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import wsgi
from sqlalchemy import event

from search.database import answering, engine_options, resolve_url
from search.errors import RunnerError, StoreError
from search.store import open_storage, optuna_answering

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST, PORT = "127.0.0.1", 8080
METHODS = ("GET", "HEAD")
REFUSAL = b'{"reason": "this dashboard is for reading only; studies change through the caddie command"}\n'
LEGACY_CONSTRAINTS = "constraints"  # the list that the dashboard reads; Optuna 5 keeps a "constraints:NAME" each
METRIC_NAMES = "study:metric_names"  # where Optuna keeps the names of a study's objectives
READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}


class ShownStorage(RDBStorage):
    """Studies as the dashboard is to see them; cannot write, so the page's own buttons for that only say they failed.

    An infeasible trial shows as PRUNED, with its constraints and, where it was measured, its values: plots then draw it
    in grey, and neither the best trial nor the Pareto front, which the dashboard finds without a look at constraints,
    can hold it.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, engine_kwargs=engine_options(url), skip_table_creation=True)
        event.listen(self.engine, "connect", self._refuse_writes)
        self.engine.dispose()  # the connections made so far can write

    def _refuse_writes(self, connection: Any, _: object) -> None:
        if statement := READ_ONLY.get(self.engine.dialect.name):
            connection.cursor().execute(statement)
            connection.commit()

    def _build_frozen_trial_from_trial_model(self, trial: Any) -> FrozenTrial:
        return show_reason(show_constraints(super()._build_frozen_trial_from_trial_model(trial)))

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        # By the states shown, not those stored.
        trials = super()._get_trials(study_id, None, included_trial_ids, trial_id_greater_than)
        objectives = self.get_study_system_attrs(study_id).get(METRIC_NAMES, ())
        return [show_measured(trial, objectives) for trial in trials if states is None or trial.state in states]

    def _get_best_trial_id(self, study_id: int, direction: StudyDirection) -> int:
        feasible = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        if not feasible:
            # Some trial, for callers that take none for an error; the dashboard does not ask in this case.
            return super()._get_best_trial_id(study_id, direction)
        sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
        best = min(feasible, key=lambda trial: sign * cast("float", trial.value))
        return best._trial_id  # pyright: ignore[reportPrivateUsage] (Optuna has no public name for it)


class Artifacts(FileSystemArtifactStore):
    """Files of finished trials; one that is not in the folder is the reader's 404 and not the server's crash."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The opened file of an artifact."""
        try:
            return super().open_reader(artifact_id)
        except ArtifactNotFound as error:
            advice = "start the dashboard with the runs folder that the study was run with"
            raise HTTPError(404, f"{self._folder}: expected the artifact's file, got none; {advice}") from error


class Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own; none of them holds up the end."""

    daemon_threads = True

    def __init__(self, app: "WSGIApplication", host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _QuietHandler)
        self.set_app(app)

    @property
    def address(self) -> str:
        """What a browser on this machine opens."""
        host, port = self.server_address[:2]
        return f"http://[{host}]:{port}/" if ":" in str(host) else f"http://{host}:{port}/"


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Only the command line prints."""


def serve(
    url: str, runs: Path, host: str = HOST, port: int = PORT, announce: Callable[[str], None] | None = None
) -> None:
    """Serve the dashboard until Ctrl-C.

    Args:
        runs: the runs folder; its artifacts can be downloaded.
        host: where to listen. There is no login: whoever reaches another than a loopback address can read everything.
        port: 0 takes a free one.
        announce: called with the address to open, once it answers.

    Raises:
        RunnerError: the host and port cannot be listened on.
        StoreError: the storage is missing or does not answer.
    """
    app = application(url, runs / "artifacts")
    try:
        server = Server(app, host, port)
    except (OSError, OverflowError) as error:
        raise RunnerError(f"dashboard {host}:{port}: expected a free address of this machine, got {error}") from error
    with server, suppress(KeyboardInterrupt):
        if announce is not None:
            announce(server.address)
        server.serve_forever()


def application(url: str, artifacts: Path) -> "WSGIApplication":
    """The dashboard of the studies at url, for reading only.

    Raises:
        StoreError: the storage is missing or does not answer.
    """
    url = resolve_url(url)
    database = sa.make_url(url).database
    if url.startswith("sqlite") and not Path(database or "").is_file():
        raise StoreError(f"storage {url}: expected an existing database, got none; caddie run makes one")
    open_storage(url).engine.dispose()  # tables of this Optuna, or one clear line
    with answering(url), optuna_answering(url):
        return reading_only(wsgi(ShownStorage(url), artifact_store=Artifacts(artifacts)))


def reading_only(app: "WSGIApplication") -> "WSGIApplication":
    """The application, with every request that could change something refused."""

    def filtered(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in METHODS:
            return app(environ, start_response)
        skip_body(environ)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(REFUSAL)))]
        start_response("405 Method Not Allowed", [*headers, ("Allow", ", ".join(METHODS))])
        return [REFUSAL]

    return filtered


def skip_body(environ: "WSGIEnvironment") -> None:
    """Read a request's body to its end: closing before that resets the connection, and the answer may be lost."""
    length = str(environ.get("CONTENT_LENGTH") or "0")
    left = int(length) if length.isdigit() else 0
    while left > 0 and (part := environ["wsgi.input"].read(min(left, 65_536))):
        left -= len(part)


def show_constraints(trial: FrozenTrial) -> FrozenTrial:
    """The trial with its constraints where the dashboard reads them, and PRUNED where it is infeasible."""
    violations = [violation for _, violation in sorted(trial.constraints.items())]
    if violations:
        trial.system_attrs[LEGACY_CONSTRAINTS] = violations
    if trial.state is TrialState.COMPLETE and any(violation > 0 for violation in violations):
        trial.state = TrialState.PRUNED
    return trial


def show_reason(trial: FrozenTrial) -> FrozenTrial:
    """The trial with the reason why it is not feasible as its first attribute: its page shows six, and scrolls."""
    attributes = trial.user_attrs
    trial.user_attrs = {name: attributes[name] for name in ("reason",) if name in attributes} | attributes
    return trial


def show_measured(trial: FrozenTrial, objectives: Sequence[str]) -> FrozenTrial:
    """The trial; if it was told PRUNED in spite of a measurement, with the measured objectives as its values."""
    measured = [trial.user_attrs[name] for name in objectives if name in trial.user_attrs]
    if trial.state is TrialState.PRUNED and trial.values is None and objectives and len(measured) == len(objectives):
        trial.values = measured
    return trial
