"""Optuna's side of the database: how it is opened, and one study a rung, holding the definition it was made from."""

import json
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from pydantic import ValidationError
from sqlalchemy import event, text

from search.database import answering, engine_options, open_engine, resolve_url, shown
from search.errors import RunnerError, SpecError, StoreError
from search.spec import RungSpec, StudySpec, definition_differences

ArtifactStore = FileSystemArtifactStore
Storage = RDBStorage

DEFINITION = "definition"  # study attribute: canonical JSON of the study file
SPEC = "spec"  # study attribute: JSON of the study file itself
BUDGET = "budget"  # study attribute: JSON of the rung's budget
_LOCK = 0xCADD1E + 1  # any number that no other program locks in this database, the ledger's next


def open_storage(url: str) -> RDBStorage:
    """Optuna's storage in the database at url, its tables created where they are missing.

    Raises:
        StoreError: the URL is malformed or does not answer, or another version of Optuna wrote its tables.
    """
    url = resolve_url(url)
    engine = open_engine(url)  # one clear line where nothing answers, and write-ahead logging on SQLite
    with answering(url), optuna_answering(url), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Optuna looks for its tables, then makes them: processes that open a new database together take turns.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        try:
            storage = RDBStorage(url, engine_kwargs=engine_options(url))
        except RuntimeError as error:
            raise StoreError(f"storage {shown(url)}: expected tables of this Optuna, got {error}") from error
        if storage.engine.dialect.name == "sqlite":
            event.listen(storage.engine, "connect", _sync_less)
            storage.engine.dispose()  # the connections made so far
    engine.dispose()
    return storage


def _sync_less(connection: Any, _: object) -> None:
    """Let SQLite sync at checkpoints only: a trial is some 50 commits.

    After a power cut the last of them may be missing, whole ones and from the end; the ledger's are always synced, and
    the loop tells again what the ledger knows.
    """
    connection.execute("PRAGMA synchronous=NORMAL")


def quiet_optuna() -> None:
    """Let Optuna log warnings only, in this whole process; for whoever owns the terminal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def optuna_answering(url: str) -> Generator[None]:
    """Turn Optuna's storage errors into one StoreError line."""
    try:
        yield
    except StorageInternalError as error:
        cause = " ".join(str(error.__cause__ or error).split("\n")[0].split())
        raise StoreError(f"storage {shown(url)}: expected a database that answers, got {cause}") from error


def open_artifacts(runs_folder: Path) -> ArtifactStore:
    """Where files of finished trials are kept for the dashboard.

    Raises:
        RunnerError: the runs folder cannot be made.
    """
    folder = runs_folder / "artifacts"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunnerError(
            f"runs folder {runs_folder}: must be a folder that can be written, got {error.strerror}"
        ) from error
    return ArtifactStore(str(folder))


def rung_study_name(study: str, rung: str) -> str:
    """The name of the Optuna study that holds a rung."""
    return f"{study}/{rung}"


def study_names(storage: RDBStorage) -> list[str]:
    """Names of all studies of ours, in alphabetical order."""
    names = (study.study_name for study in storage.get_all_studies() if DEFINITION in study.user_attrs)
    return sorted({name.rpartition("/")[0] for name in names})


def stored_definition(storage: RDBStorage, study: str) -> dict[str, Any]:
    """The definition a study was last run with.

    Raises:
        StoreError: there is no such study; the message lists those there are.
    """
    return json.loads(_study_attributes(storage, study)[DEFINITION])


def _study_attributes(storage: RDBStorage, study: str) -> Mapping[str, Any]:
    for frozen in storage.get_all_studies():
        if frozen.study_name.rpartition("/")[0] == study and DEFINITION in frozen.user_attrs:
            return frozen.user_attrs
    names = study_names(storage)
    known = f"only: {', '.join(names)}" if names else "no study yet"
    raise StoreError(f"storage {shown(storage.url)}: expected a study {study}, got {known}")


def load_rungs(storage: RDBStorage, study: str) -> dict[str, optuna.Study]:
    """The Optuna studies of a study's rungs, by rung name and in their order, for reading.

    Raises:
        StoreError: there is no such study.
    """
    rungs = [rung["name"] for rung in stored_definition(storage, study)["rungs"]]
    return {rung: optuna.load_study(study_name=rung_study_name(study, rung), storage=storage) for rung in rungs}


def stored_spec(storage: RDBStorage, study: str) -> StudySpec:
    """The study file that a study was last run with.

    Raises:
        StoreError: there is no such study, or this version cannot read its definition.
    """
    try:
        return StudySpec.model_validate_json(_study_attributes(storage, study)[SPEC])
    except ValidationError as error:
        raise StoreError(f"study {study}: expected a definition this version can read, got {error}") from error


def check_definition(storage: RDBStorage, spec: StudySpec) -> None:
    """Refuse a definition that would mix results that do not compare.

    Raises:
        SpecError: the study exists with another definition; the message names the keys that differ.
    """
    if spec.name not in study_names(storage):
        return
    # By way of JSON, as the stored one went: tuples become lists.
    differing = definition_differences(stored_definition(storage, spec.name), json.loads(json.dumps(spec.definition())))
    if differing:
        raise SpecError(
            f"study {spec.name}: expected the definition it was started with, but {', '.join(differing)};"
            " give the new one another name"
        )


def define_rung(study: optuna.Study, spec: StudySpec, rung: RungSpec) -> None:
    """Record in a rung's study what it was made from. The definition comes last: with it, the study counts as there."""
    study.set_user_attr(BUDGET, json.dumps(asdict(rung.to_budget())))
    study.set_user_attr(SPEC, spec.to_json())
    study.set_user_attr(DEFINITION, json.dumps(spec.definition()))


def open_rung(storage: RDBStorage, name: str, objectives: Sequence[str]) -> optuna.Study:
    """Create or load the Optuna study of a rung; every objective is minimised."""
    opened = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[optuna.study.StudyDirection.MINIMIZE] * len(objectives),
        load_if_exists=True,
    )
    if opened.metric_names != list(objectives):
        with warnings.catch_warnings():  # Optuna calls metric names experimental since 3.4
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            opened.set_metric_names(list(objectives))
    return opened
