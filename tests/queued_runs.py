"""Queued runs of small programs in the trainer's place, and waiting for what becomes of their processes."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from made_records import made_record

from search.ledger import Ledger
from search.run import Run


def queue(ledger: Ledger, folder: Path, program: str, **changes: Any) -> Run:
    """A queued run whose trainer is the given program."""
    folder.mkdir(parents=True)
    (folder / "train_gpt.py").write_text(program)
    run = Run(
        run_id=folder.name,
        folder=folder,
        world_size=1,
        num_gpus=0,
        accelerator=None,
        environment={"SEED": "7", "RUN_ID": folder.name},
        deadline_seconds=60.0,
        storage_url=ledger.url,
    )
    run = replace(run, **changes)
    ledger.insert(
        made_record(
            run.run_id,
            seed=7,
            folder=str(folder),
            world_size=run.world_size,
            num_gpus=run.num_gpus,
            queued_at=time.time(),
            lease_expires_at=time.time() + 600,
        )
    )
    return run


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
