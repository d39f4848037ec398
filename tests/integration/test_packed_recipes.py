"""Named recipes at tiny sizes as packed files: the package's weights and scores, and nearly the same on two ranks."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import shrink
from tiny_runs import measurement_of

from search.bundle import bundle
from spaces.fields import set_values
from spaces.recipes import named_recipe
from trainer.config import Budget
from trainer.result import Measurement

BUDGET = Budget(train_tokens=8 * 256, eval_tokens=1024)
NOT_COMPARED = {"train_seconds", "eval_seconds", "step_avg_ms", "peak_memory_bytes"}
CODE = {"artifact_bytes", "code_bytes", "code_sha256"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def execute(folder: Path, packed: bytes, *launcher: str) -> dict[str, Any]:
    """The result of a packed file run in a new folder."""
    folder.mkdir()
    (folder / "train_gpt.py").write_bytes(packed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "train_gpt.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("name", ["record_1493", "record_1855"])
def test_the_packed_file_gives_the_package_s_result_and_two_ranks_nearly(
    name: str, tmp_path: Path, short_documents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_PATH", str(short_documents))
    monkeypatch.setenv("TOKENIZER_PATH", str(short_documents / "tokenizer.model"))
    monkeypatch.setenv("SEED", "7")
    recipe = set_values(shrink(named_recipe(name)), {"model.vocab_size": 1024})
    made = bundle(recipe, BUDGET)
    packed = execute(tmp_path / "packed", made.packed)
    assert packed["code_bytes"] == len(made.packed)

    (tmp_path / "package").mkdir()
    monkeypatch.chdir(tmp_path / "package")
    package = measurement_of(Path.cwd(), recipe, BUDGET)
    for field in fields(Measurement):
        if field.name not in NOT_COMPARED | CODE:
            assert getattr(package, field.name) == packed[field.name], field.name

    two = execute(tmp_path / "two", made.packed, *TORCHRUN)
    assert two["world_size"] == 2
    for field_name in ("pre_quant_val_bpb", "post_quant_val_bpb", "sliding_val_bpb", "val_bpb"):
        assert two[field_name] == pytest.approx(packed[field_name], rel=1e-3), field_name
