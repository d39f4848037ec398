"""Which databases are accepted, how they are opened, and how their errors read: one rule for the ledger and Optuna."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from search.errors import StoreError

SQLITE_TIMEOUT_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 10
DIALECTS = ("sqlite", "postgresql")
USABLE = "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"


def resolve_url(url: str) -> str:
    """The URL with an SQLite path made absolute, so that workers in other folders open the same file.

    Raises:
        StoreError: the URL is malformed, of a database that this version cannot use, or an SQLite database in memory,
            which no worker could see.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        got = "something else" if "@" in url else url  # where a password may be in it, it is not shown
        raise StoreError(f"storage: expected a URL such as sqlite:///caddie.db, got {got}") from error
    if parsed.get_backend_name() not in DIALECTS:
        raise StoreError(f"storage {shown(url)}: expected {USABLE}, got {parsed.drivername}")
    if parsed.get_backend_name() != "sqlite":
        return url
    if not parsed.database or parsed.database == ":memory:":
        raise StoreError(f"storage {url}: expected an SQLite file, such as sqlite:///caddie.db, got none")
    return parsed.set(database=str(Path(parsed.database).absolute())).render_as_string(hide_password=False)


def engine_options(url: str) -> dict[str, Any]:
    """Keyword arguments of create_engine for a database that several processes write to."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": SQLITE_TIMEOUT_SECONDS}}
    # Asks are minutes apart, and a server or firewall drops idle connections in between.
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_TIMEOUT_SECONDS}}


def open_engine(url: str) -> sa.Engine:
    """An engine that has answered once. SQLite is switched to write-ahead logging, where readers never block writers.

    Raises:
        StoreError: the dialect is unknown or the database does not answer.
    """
    with answering(url):
        engine = sa.create_engine(url, **engine_options(url))
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            if engine.dialect.name == "sqlite":
                connection.execute(sa.text("PRAGMA journal_mode=WAL"))
    return engine


@contextmanager
def answering(url: str) -> Generator[None]:
    """Turn database errors into one StoreError line that shows no password."""
    try:
        yield
    except SQLAlchemyError as error:
        cause: object = error.orig if isinstance(error, DBAPIError) else error
        line = " ".join(str(cause).split())
        raise StoreError(
            f"storage {shown(url)}: expected a database that answers, got {line}{_missing_folder(url)}"
        ) from error
    except (ModuleNotFoundError, CommandError) as error:
        raise StoreError(f"storage {shown(url)}: expected a database this version can use, got {error}") from error


def _missing_folder(url: str) -> str:
    """What SQLite does not say: that the folder of its file is not there."""
    parsed = sa.make_url(url)
    folder = Path(parsed.database or "").parent
    is_missing = parsed.get_backend_name() == "sqlite" and not folder.is_dir()
    return f": there is no folder {folder}" if is_missing else ""


def shown(url: str) -> str:
    """The URL as people may see it: without its password."""
    return sa.make_url(url).render_as_string(hide_password=True)
