"""Options that several caddie commands share."""

from pathlib import Path
from typing import Annotated

import typer

Storage = Annotated[
    str, typer.Option(envvar="CADDIE_STORAGE", help="Database of studies and runs, as an SQLAlchemy URL.")
]
Runs = Annotated[Path, typer.Option(help="Folder of run folders; on a cluster every host must see it here.")]
Address = Annotated[
    str, typer.Option(envvar="CADDIE_ADDRESS", help="local starts a Ray here; else a Ray cluster, host:port.")
]
STORAGE = "sqlite:///caddie.db"
RUNS = Path("runs")
LOCAL = "local"
