"""Small programs that run isolated."""

import os
import sys
from pathlib import Path

import pytest

from search.child import harmless
from search.verify.isolate import Ended, IsolationError, Job, Way, run_isolated
from search.verify.watch import Limits

LIMITS = Limits(seconds=30.0, memory_bytes=2**30, processes=40)


def job_of(folder: Path, code: str, *arguments: str, limits: Limits = LIMITS, readable: tuple[Path, ...] = ()) -> Job:
    """A Python program in a folder of its own; what it prints goes beside that."""
    work = folder / "work"
    work.mkdir()
    return Job(
        command=[sys.executable, "-I", "-c", code, *arguments],
        folder=work,
        output=folder / "output.txt",
        limits=limits,
        environment=harmless({**os.environ, "SECRET_TOKEN": "hunter2", "LANG": "C.UTF-8"}),
        readable=readable,
    )


def run_or_skip(job: Job, way: Way) -> Ended:
    try:
        return run_isolated(job, [way])
    except IsolationError as error:
        pytest.skip(str(error))
