"""The real command where it refuses: the one line that it says, and that nothing in its folder changed."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulation import Machine, World, make_spec

STUDY = """\
name: tiny
set:
  model.num_layers: 2
  model.model_dim: 32
  model.num_heads: 2
  model.num_kv_heads: 1
  schedule.train_seq_len: 64
  schedule.train_batch_tokens: 512
  quant.passthrough_numel: 512
space:
  params:
    optim.matrix_lr: {low: 0.02, high: 0.12, log: true}
data:
  path: data
  tokenizer: data/tokenizer.model
rungs:
  - name: proxy
    budget: {train_tokens: 1024, eval_tokens: 512}
    trials: 2
"""


def finished(work: Path, world: World | None = None, **changes: Any) -> Machine:
    """A study in a folder's database, driven to its end; its connections are closed, so that the file is whole."""
    machine = Machine(work, make_spec(**changes), world or World())
    machine.run()
    machine.ledger.close()
    machine.storage.engine.dispose()
    return machine


def caddie(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CADDIE_")}
    command = [sys.executable, "-m", "search", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def refusal(folder: Path, *arguments: str) -> str:
    """The one line that a command ends with."""
    return line_of(caddie(folder, *arguments))


def early_refusal(folder: Path, *arguments: str) -> str:
    """The same of a command that must not have changed anything in its folder, nor have started Ray."""
    before = contents(folder)
    done = caddie(folder, *arguments)
    line = line_of(done)
    assert "Ray" not in done.stdout
    assert contents(folder) == before
    return line


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("caddie: "), done.stderr
    assert "bug" not in done.stderr and "secret" not in done.stderr
    return done.stderr.rstrip("\n")


def contents(folder: Path) -> Mapping[str, str]:
    """Every file and folder with what it holds; of a database, its rows."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".db":
            with sqlite3.connect(path) as connection:
                found[str(path)] = "\n".join(connection.iterdump())
        elif not path.name.endswith(("-wal", "-shm")):
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def assert_matches(pattern: str, line: str) -> None:
    with pytest.raises(ValueError, match=pattern):  # shows both where they differ
        raise ValueError(line)
