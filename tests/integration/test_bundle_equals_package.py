"""The packed file measures what the package measures, bit for bit, and its own bytes."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from search.bundle import Bundle, bundle, trainer_folder
from trainer.config import Budget, Recipe
from trainer.eval_config import EvalConfig
from trainer.model_config import ModelConfig
from trainer.result import Measurement
from trainer.store_config import Compressor, QuantConfig
from trainer.train_config import EmaConfig, ScheduleConfig

RECIPE = Recipe(
    model=ModelConfig(num_layers=2, model_dim=32, num_heads=2, num_kv_heads=1),
    schedule=ScheduleConfig(train_batch_tokens=1024, train_seq_len=128, warmdown_fraction=0.5),
    ema=EmaConfig(half_life_fraction=0.2),
    quant=QuantConfig(matrix_bits=6, passthrough_numel=512),
    compressor=Compressor.LZMA,
    evaluation=EvalConfig(stride=32),
)
BUDGET = Budget(train_tokens=8192, eval_tokens=2048)
CLOCKED = {"train_seconds", "eval_seconds", "step_avg_ms", "peak_memory_bytes"}


def execute(command: list[str], folder: Path, data: Path, **extra: str) -> dict[str, Any]:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "DATA_PATH": str(data),
        "TOKENIZER_PATH": str(data / "tokenizer.model"),
        "SEED": "7",
        "RUN_ID": "equal",
        "OMP_NUM_THREADS": "1",
        **extra,
    }
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def made() -> Bundle:
    return bundle(RECIPE, BUDGET)


@pytest.fixture(scope="module")
def packed_run(made: Bundle, quickstart_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the packed file ran."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "train_gpt.py").write_bytes(made.packed)
    execute([sys.executable, "train_gpt.py"], folder, quickstart_data)
    return folder


def test_package_gives_the_same_weights_and_scores(
    made: Bundle, packed_run: Path, quickstart_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "train_gpt.py").write_bytes(made.packed)
    call = made.source[made.source.index('if __name__ == "__main__":') :]
    modules = ("config", "eval_config", "model_config", "store_config", "train_config")
    imports = ["from pathlib import Path", *(f"from trainer.{module} import *" for module in modules)]
    script = "\n".join([*imports, "from trainer.main import run", call])
    script = script.replace("Path(__file__)", "Path('train_gpt.py')")
    package = execute(
        [sys.executable, "-c", script], tmp_path, quickstart_data, PYTHONPATH=str(trainer_folder().parent)
    )
    packed = json.loads((packed_run / "result.json").read_text())
    assert (tmp_path / "weights.bin").read_bytes() == (packed_run / "weights.bin").read_bytes()
    for field in fields(Measurement):
        if field.name not in CLOCKED:
            assert package[field.name] == packed[field.name], field.name


def test_packed_file_counts_its_own_bytes(made: Bundle, packed_run: Path) -> None:
    packed = json.loads((packed_run / "result.json").read_text())
    assert packed["code_bytes"] == len(made.packed)
    assert packed["code_sha256"] == made.sha256
    assert packed["artifact_bytes"] == len(made.packed) + (packed_run / "weights.bin").stat().st_size


def test_readable_copy_gives_the_same_scores(
    made: Bundle, packed_run: Path, quickstart_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "readable.py").write_text(made.source)
    readable = execute([sys.executable, "readable.py"], tmp_path, quickstart_data)
    packed = json.loads((packed_run / "result.json").read_text())
    assert readable["val_bpb"] == packed["val_bpb"]
    assert readable["weight_sha256"] == packed["weight_sha256"]
