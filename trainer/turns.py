"""Turns of runs on a device that they share, as locks of two files; a lock ends with its process, however that ends."""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def turn_on(path: Path, *, goes_first: bool) -> Generator[None]:
    """Within it, nobody else has a turn.

    A run's last turn goes before other runs' first ones: it takes seconds, and then the run ends and another starts,
    which compiles while the next trains.

    Args:
        path: the device's file; a second one lies beside it.
        goes_first: before those that wait without it.
    """
    with path.open("ab") as device, path.with_suffix(".first").open("ab") as first:
        if goes_first:
            fcntl.flock(first, fcntl.LOCK_SH)
        fcntl.flock(device, fcntl.LOCK_EX)
        while not goes_first and not is_free(first):
            # Whoever holds it waits for the device: let it have that.
            fcntl.flock(device, fcntl.LOCK_UN)
            fcntl.flock(first, fcntl.LOCK_EX)
            fcntl.flock(first, fcntl.LOCK_UN)
            fcntl.flock(device, fcntl.LOCK_EX)
        yield


def is_free(file: BinaryIO) -> bool:
    """Whether nobody else has locked a file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True
