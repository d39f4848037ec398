"""A real run, exported and executed again elsewhere: the same score to the last digit, and nearly so on two ranks."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import brotli
import pytest

from search.bundle import Bundle, bundle
from search.child import process_tree
from search.export.claim import Claim, Entry, Origin, SeedRun
from search.export.folder import export
from search.run import Run, read_outcome
from search.spec_parts import Limits
from search.verify.check import verify
from search.verify.finding import Finding, is_valid
from search.verify.rerun import Rerun
from trainer.config import Budget, Recipe
from trainer.eval_config import EvalConfig
from trainer.model_config import ModelConfig
from trainer.result import Measurement
from trainer.store_config import Compressor, QuantConfig
from trainer.train_config import ScheduleConfig

RECIPE = Recipe(
    model=ModelConfig(num_layers=2, model_dim=32, num_heads=2, num_kv_heads=1),
    schedule=ScheduleConfig(train_batch_tokens=1024, train_seq_len=128),
    quant=QuantConfig(matrix_bits=6, passthrough_numel=512),
    compressor=Compressor.BROTLI,
    evaluation=EvalConfig(stride=32),
)
BUDGET = Budget(train_tokens=8192, eval_tokens=2048)


def run_seed(made: Bundle, folder: Path, data: Path, seed: int) -> SeedRun:
    folder.mkdir()
    (folder / "train_gpt.py").write_bytes(made.packed)
    run = Run(
        run_id=f"seed{seed}",
        folder=folder,
        world_size=1,
        num_gpus=0,
        accelerator=None,
        environment={
            "DATA_PATH": str(data),
            "TOKENIZER_PATH": str(data / "tokenizer.model"),
            "SEED": str(seed),
            "RUN_ID": f"seed{seed}",
        },
        deadline_seconds=120,
        storage_url="",
    )
    with process_tree(run, os.environ) as process:
        process.wait(timeout=120)
    outcome = read_outcome(folder)
    assert isinstance(outcome, Measurement), outcome
    log_sha256 = hashlib.sha256((folder / "train.log").read_bytes()).hexdigest()
    return SeedRun(folder=folder, measurement=outcome, code_sha256=made.sha256, log_sha256=log_sha256)


@pytest.fixture(scope="module")
def exported(quickstart_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs, exported."""
    folder = tmp_path_factory.mktemp("real")
    made = bundle(RECIPE, BUDGET)
    runs = [run_seed(made, folder / f"run{seed}", quickstart_data, seed) for seed in (1, 2)]
    origin = Origin(
        study="tiny",
        rung="proxy",
        trial_number=3,
        recipe=RECIPE,
        budget=BUDGET,
        limits=Limits(),
        num_trials=4,
        gpu_hours=0.01,
        data_path=quickstart_data,
        tokenizer_path=quickstart_data / "tokenizer.model",
        source=made.source,
    )
    claim = Claim(entry=Entry(author="A", github_id="a", date="2026-04-01"), origin=origin, runs=runs)
    return export(claim, folder / "out", with_weights=True)


@pytest.fixture(scope="module")
def verified(exported: Path) -> list[Finding]:
    """What there is to say about the folder as it was exported."""
    return verify(exported)


def test_real_run_verifies(verified: list[Finding]) -> None:
    assert is_valid(verified)
    # Honest remarks only: two seeds, and not the challenge's validation split.
    assert {finding.rule for finding in verified} == {"bytes", "seeds", "validation-split"}


def test_requirements_name_the_compressor(exported: Path) -> None:
    assert f"brotli=={brotli.__version__}" in (exported / "requirements.txt").read_text().splitlines()


def test_moved_folder_gives_its_own_digits_and_bytes(exported: Path, quickstart_data: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(exported, tmp_path / "elsewhere"))
    findings = verify(moved, Rerun(inherited=os.environ, data_path=quickstart_data))
    assert is_valid(findings), findings
    notes = [finding.message for finding in findings if finding.rule == "rerun"]
    assert len(notes) == 1
    assert "the same digits" in notes[0]


def test_the_readme_s_own_commands_give_the_same_digits(
    exported: Path, verified: list[Finding], quickstart_data: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(exported, tmp_path / "elsewhere"))
    (tmp_path / "scratch").mkdir()
    commands = re.findall(r"```bash\n(.*?)```", (moved / "README.md").read_text(), re.S)[0]
    assert "pip install -r requirements.txt\n" in commands
    commands = commands.replace("pip install", "true").replace(f"/path/to/{quickstart_data.name}", str(quickstart_data))
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path / "scratch"),
    }
    subprocess.run(["bash", "-euc", commands], cwd=moved, env=variables, check=True, capture_output=True, timeout=240)
    results = json.loads((moved / "submission.json").read_text())["seed_results"]
    for seed, result in results.items():
        (path,) = (tmp_path / "scratch").glob(f"*/seed{seed}/result.json")
        again = json.loads(path.read_text())
        for name in ("val_bpb", "val_loss", "artifact_bytes", "steps"):
            assert again[name] == result[name]
    assert verify(moved) == verified, "nothing was written into the folder"


def test_two_ranks_reproduce_it_nearly(exported: Path, quickstart_data: Path) -> None:
    findings = verify(
        exported, Rerun(inherited=os.environ, data_path=quickstart_data, seeds=[2], world_size=2, tolerance=1e-4)
    )
    assert is_valid(findings), findings


def test_shipped_weights_are_the_measured_ones(exported: Path) -> None:
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in exported.glob("weights_seed*.bin")}
    assert len(digests) == 2
