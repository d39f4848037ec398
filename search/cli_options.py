"""Options that several caddie commands share."""

from pathlib import Path
from typing import Annotated

import typer

from search.errors import StoreError

Storage = Annotated[
    str,
    typer.Option(
        envvar="CADDIE_STORAGE",
        help="Database of studies and runs: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.",
    ),
]
Runs = Annotated[Path, typer.Option(help="Folder for the files of runs; on a cluster, every host must see it here.")]
Address = Annotated[
    str,
    typer.Option(envvar="CADDIE_ADDRESS", help="local starts a Ray on this machine; HOST:PORT joins a Ray cluster."),
]
STORAGE = "sqlite:///caddie.db"
RUNS = Path("runs")
LOCAL = "local"


def existing(storage: str) -> str:
    """The storage, which must be there already: reading makes no database.

    Raises:
        StoreError: it is an SQLite file that does not exist.
    """
    path = storage.removeprefix("sqlite:///")
    if path != storage and not Path(path).is_file():
        raise StoreError(f"storage {storage}: expected an existing database, got none; caddie run makes one")
    return storage
