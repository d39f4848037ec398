"""Runs made up from numbers, for tests of export and verification: the files are real, the model is not."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from search.bundle import pack
from search.export.claim import Claim, Entry, Origin, Reference, SeedRun
from search.export.track import Track
from search.spec_parts import Limits
from trainer.config import Budget, Recipe
from trainer.events import Packed, Scored, TrainStep, TrainStopped, Validated, render
from trainer.result import Measurement

# A "trainer" without torch whose result depends on the seed alone.
CODE = """
import json
import os
from pathlib import Path

def run():
    seed = int(os.environ["SEED"])
    tokenizer = Path(os.environ["TOKENIZER_PATH"]).read_bytes()
    assert tokenizer == b"tokenizer"
    read = len(tokenizer) / 9  # 1, as only whoever reads the file can know
    values = json.loads(RESULT)
    code_bytes = Path(__file__).stat().st_size
    values.update(seed=seed, val_bpb=read * (1.2 + seed / 7e5), val_loss=read * (2.0 + seed / 7e5))
    values["code_bytes"] = code_bytes
    values["artifact_bytes"] = code_bytes + values["weight_bytes"]
    Path("weights.bin").write_bytes(bytes(values["weight_bytes"]))
    Path("result.json").write_text(json.dumps(values))

run()
"""
WEIGHTS = b"weights of the artifact"


def measurement_of(seed: int, code: bytes, **changes: object) -> Measurement:
    """What a seed measured."""
    values: dict[str, object] = {
        "val_bpb": 1.2 + seed / 7e5,
        "val_loss": 2.0 + seed / 7e5,
        "pre_quant_val_bpb": 1.21,
        "post_quant_val_bpb": 1.23,
        "artifact_bytes": len(code) + len(WEIGHTS),
        "code_bytes": len(code),
        "weight_bytes": len(WEIGHTS),
        "code_sha256": hashlib.sha256(code).hexdigest(),
        "weight_sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "num_parameters": 17_059_912,
        "steps": 13_780,
        "train_tokens": 7_224_688_640,
        "train_loss": 2.0,
        "train_seconds": 599.5,
        "eval_seconds": 123.4,
        "step_avg_ms": 43.51,
        "peak_memory_bytes": 10_184 * 2**20,
        "seed": seed,
        "world_size": 8,
        "device": "NVIDIA H100 80GB HBM3",
        "torch_version": "2.11.0+cu130",
        "python_version": "3.12.3",
        "compressor_version": "0.25.0",
    }
    return Measurement(**(values | changes))  # pyright: ignore[reportArgumentType]


def log_of(one: Measurement, val_tokens: int = 62_021_845) -> str:
    """The log of a run, with the trainer's own lines for its events."""
    events = [
        TrainStep(
            step=1,
            expected_steps=one.steps,
            progress=0.0,
            train_loss=6.9,
            train_seconds=0.04,
            tokens_per_second=1e7,
            lr_scale=1.0,
        ),
        TrainStopped(
            reason="wallclock_cap",
            step=one.steps,
            train_seconds=one.train_seconds - 0.5,
            peak_memory_bytes=one.peak_memory_bytes,
            reserved_memory_bytes=one.peak_memory_bytes,
        ),
        Validated(step=one.steps, train_seconds=one.train_seconds, val_loss=2.1, val_bpb=one.pre_quant_val_bpb),
        Packed(label="int8+zlib", weight_bytes=one.weight_bytes, code_bytes=one.code_bytes, payload_bytes=99),
        scored("int8_zlib_roundtrip", 2.05, one.post_quant_val_bpb, 1024, 1.5),
        scored("sliding_window", one.val_loss, one.val_bpb, 64, one.eval_seconds - 2.0),
    ]
    header = [
        "run_id:made-up",
        f"python:{one.python_version} pytorch:{one.torch_version} device:{one.device}",
        "train_loader:dataset:fineweb10B_sp1024 train_shards:80",
        f"val_loader:shards pattern=fineweb_val_*.bin tokens:{val_tokens}",
        f"model_params:{one.num_parameters}",
        f"world_size:{one.world_size} compute_dtype:torch.bfloat16",
        f"seed:{one.seed}",
        f"tokenizer_sha256:{hashlib.sha256(b'tokenizer').hexdigest()}",
    ]
    return "\n".join(header + [line for event in events for line in render(event)]) + "\n"


def scored(label: str, val_loss: float, val_bpb: float, stride: int, seconds: float) -> Scored:
    return Scored(
        label=label, val_loss=val_loss, val_bpb=val_bpb, num_tokens=9, num_bytes=20, stride=stride, seconds=seconds
    )


def packed_code() -> bytes:
    """The made-up train_gpt.py."""
    blank = {**asdict(measurement_of(0, b"")), "outcome": "measurement"}
    return pack(f"RESULT = {json.dumps(blank)!r}\n{CODE}")


def make_run(folder: Path, seed: int, code: bytes | None = None, **changes: object) -> SeedRun:
    """A run folder as the trainer leaves it."""
    code = packed_code() if code is None else code
    one = measurement_of(seed, code, **changes)
    folder.mkdir(parents=True)
    (folder / "train_gpt.py").write_bytes(code)
    (folder / "weights.bin").write_bytes(WEIGHTS)
    log = log_of(one).encode()
    (folder / "train.log").write_bytes(log)
    return SeedRun(
        folder=folder,
        measurement=one,
        code_sha256=hashlib.sha256(code).hexdigest(),
        log_sha256=hashlib.sha256(log).hexdigest(),
    )


def make_claim(folder: Path, *runs: SeedRun, **changes: object) -> Claim:
    """A record of three seeds, or a claim of the runs that are given; changes are fields of Origin."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / "tokenizer.model").write_bytes(b"tokenizer")
    origin: dict[str, object] = {
        "study": "ladder",
        "rung": "full",
        "trial_number": 12,
        "recipe": Recipe(),
        "budget": Budget(train_seconds=600.0, world_size=8),
        "limits": Limits(),
        "num_trials": 345,
        "gpu_hours": 67.8,
        "data_path": data,
        "tokenizer_path": data / "tokenizer.model",
    }
    if not runs:
        origin["seeds"] = (1337, 42, 7)
    return Claim(
        entry=Entry(
            author="A. Player",
            github_id="player",
            date="2026-04-01",
            track=Track.NON_RECORD if runs else Track.RECORD,
            reference=None if runs else Reference(loss=2.1),
        ),
        origin=Origin(**(origin | changes)),  # pyright: ignore[reportArgumentType]
        runs=runs or [make_run(folder / f"run{seed}", seed) for seed in (1337, 42, 7)],
    )


def hand_made(folder: Path, code: bytes, **changes: object) -> Path:
    """A small folder with one log, written by hand: no check has looked at its code."""
    one = measurement_of(7, code, **changes)
    (folder / "tokenizers").mkdir(parents=True)
    (folder / "tokenizers" / "tokenizer.model").write_bytes(b"tokenizer")
    (folder / "README.md").write_text(f"A score of {one.val_bpb:.4f}.\n")
    (folder / "train_gpt.py").write_bytes(code)
    (folder / "train_seed7.log").write_text(log_of(one))
    values = {"author": "A", "github_id": "a", "name": "N", "date": "2026-04-01", "val_bpb": one.val_bpb}
    (folder / "submission.json").write_text(json.dumps(values | {"bytes_total": one.artifact_bytes}))
    return folder
