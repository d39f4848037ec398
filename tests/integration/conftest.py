"""A real PostgreSQL server for the tests that ask for one, and working folders for bad input."""

import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from postgres_server import (
    ACCOUNT,
    PostgresServer,
    find_account,
    find_binaries,
    free_port,
    start,
    wait_until_it_answers,
)
from psycopg import sql
from refused_commands import STUDY, finished

DATABASES = count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server in a temporary folder, or a skipped test that says what is missing."""
    binaries, account = find_binaries(), find_account()
    if binaries is None:
        pytest.skip("no PostgreSQL server on this machine (initdb and postgres; Debian: apt-get install postgresql)")
    if account is None:
        pytest.skip(f"PostgreSQL refuses to run as root, and there is no user {ACCOUNT} to run it as")
    server = PostgresServer(port=free_port(), password=secrets.token_hex(8))
    # Not pytest's own folder: the server's user may not enter what belongs to root.
    folder = Path(tempfile.mkdtemp(prefix="caddie-postgres-"))
    try:
        process = start(binaries, folder, account, server)
        try:
            wait_until_it_answers(server, process, folder / "server.log")
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # ends connections and shuts down in order
            process.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """Storage URL of an empty database on a real PostgreSQL server."""
    name = f"caddie_{next(DATABASES)}"
    with postgres_server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return postgres_server.url(name)


@pytest.fixture
def work(tmp_path: Path, quickstart_data: Path) -> Path:
    """A working folder with a dataset that may be damaged, and a study file that is right."""
    folder = tmp_path / "work"
    shutil.copytree(quickstart_data, folder / "data")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def sim_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two rungs, named sim; its runs were simulated."""
    return finished(tmp_path_factory.mktemp("sim")).folder / "caddie.db"


@pytest.fixture
def sim(work: Path, sim_database: Path) -> None:
    """That study in the working folder's database, with a runs folder as it would have left it."""
    (work / "runs" / "artifacts").mkdir(parents=True)
    shutil.copyfile(sim_database, work / "caddie.db")
