"""A database for tests to copy."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from search.ledger import Ledger
from search.store import open_storage


@cache
def empty_database() -> Path:
    """A database with every table and no row, made once: making one takes half a second."""
    path = Path(tempfile.mkdtemp(prefix="caddie-tests-")) / "empty.db"
    atexit.register(shutil.rmtree, path.parent)
    ledger = Ledger.open(f"sqlite:///{path}")
    open_storage(f"sqlite:///{path}").engine.dispose()
    ledger.close()
    return path
