"""Folders of the challenge made up in the forms that its files had over time, for tests of verification."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.verify.files import file_findings, read_submission
from search.verify.finding import Finding, Severity
from search.verify.scores import score_findings

CODE = b"print('a script')\n" * 100
CODE_BYTES = len(CODE)
SEPARATOR = "=" * 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """What a made-up run measured."""

    seed: int = 42
    val_loss: str = "1.91234567"
    val_bpb: str = "1.13261234"
    steps: int = 7000
    train_ms: int = 600_030
    eval_ms: int = 70_123
    weights: int = 15_800_000
    code: int = CODE_BYTES

    @property
    def step_ms(self) -> float:
        """Milliseconds a step."""
        return self.train_ms / self.steps

    @property
    def total(self) -> int:
        """Bytes of code and weights."""
        return self.code + self.weights


def early_log(run: Numbers, label: str = "int6+zstd", name: str = "final_int6_sliding_window") -> str:
    """A log as the challenge's first scripts print it."""
    return f"""\
logs/run.txt
val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/fineweb_1024_bpe.model
train_loader:dataset:fineweb10B_sp1024 train_shards:80
val_loader:shards pattern=./data/datasets/fineweb10B_sp1024/fineweb_val_*.bin tokens:62021632
model_params:26829913
world_size:8 grad_accum_steps:1
seed:{run.seed}
step:0/9000 val_loss:6.9310 val_bpb:4.1050 train_time:0ms step_avg:0.01ms
step:1/9000 train_loss:6.9320 train_time:133ms step_avg:133.00ms
step:{run.steps - 1}/9000 train_loss:1.9400 train_time:{run.train_ms - 80}ms step_avg:{run.step_ms:.2f}ms
step:{run.steps}/9000 val_loss:1.9300 val_bpb:1.1430 train_time:{run.train_ms}ms step_avg:{run.step_ms:.2f}ms
stopping_early: wallclock_cap train_time:{run.train_ms}ms step:{run.steps}/9000
peak memory allocated: 20600 MiB reserved: 20658 MiB
DIAGNOSTIC post_ema val_loss:1.9200 val_bpb:1.1371 eval_time:1971ms
Serialized model: 105783807 bytes
Code size: {run.code} bytes
Total submission size: {105783807 + run.code} bytes
Serialized model {label}: {run.weights} bytes (payload:17178912 raw_torch:17224025 payload_ratio:3.91x)
Total submission size {label}: {run.total} bytes
final_int6_roundtrip val_loss:1.9400 val_bpb:1.1490 eval_time:5637ms
final_int6_roundtrip_exact val_loss:1.94000001 val_bpb:1.14900002
{name} val_loss:{run.val_loss[:6]} val_bpb:{run.val_bpb[:6]} stride:64 eval_time:{run.eval_ms}ms
{name}_exact val_loss:{run.val_loss} val_bpb:{run.val_bpb}
"""


def late_log(run: Numbers, score: str | None = None) -> str:
    """A log as the challenge's later scripts print it, with parameters as a list and times in minutes.

    Args:
        score: the lines after those of the rounded weights; None scores with a sliding window.
    """
    score = score or f"quantized_sliding_window val_loss:{run.val_loss} val_bpb:{run.val_bpb} eval_time:{run.eval_ms}ms"
    return f"""\
W0408 16:03:07.705000 33489 torch/distributed/run.py:803] *****************************************
Hyperparameters:
  adam_eps: 1e-08
  datasets_dir: ./data/datasets/fineweb10B_sp8192
  seed: {run.seed}
  world_size: 8
train_shards: 80
val_tokens: 40540160
model_params:35943513
gptq:reserving 12s, effective=588000ms
warmup_step: 1/20
0/20000 val_loss: 9.0090 val_bpb: 3.4877
1/20000 train_loss: 9.0104 train_time: 0.0m tok/s: 8208701
5000/20000 train_loss: 2.8493 train_time: 9.6m tok/s: 6791930
{run.steps}/20000 val_loss: 2.8144 val_bpb: 1.0895
stopping_early: wallclock_cap train_time: {run.train_ms}ms step: {run.steps}/20000
peak memory allocated: 35469 MiB reserved: 35596 MiB
pre-quantization post-ema val_loss:1.90000000 val_bpb:1.12000000 eval_time:5993ms
Serialized model: 135427259 bytes
Code size: {run.code} bytes
Serialized model quantized+brotli: {run.weights} bytes
Total submission size quantized+brotli: {run.total} bytes
quantized val_loss:1.94000001 val_bpb:1.14900002 eval_time:24381ms
{score}
"""


def fields(runs: list[Numbers], **changes: Any) -> dict[str, Any]:
    """A submission.json of several seeds; a change to None leaves the field out."""
    scores = [float(run.val_bpb) for run in runs]
    losses = [float(run.val_loss) for run in runs]
    values: dict[str, Any] = {
        "author": "A. Player",
        "github_id": "player",
        "name": "A submission",
        "date": "2026-04-01",
        "track": "10min_16mb",
        "val_loss": round(sum(losses) / len(losses), 8),
        "val_bpb": round(sum(scores) / len(scores), 8),
        "seeds": [run.seed for run in runs],
        "seed_results": {str(run.seed): result(run) for run in runs},
        "bytes_total": max(run.total for run in runs),
        "bytes_code": CODE_BYTES,
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


def result(run: Numbers) -> dict[str, float | int]:
    """A seed's result."""
    return {
        "val_bpb": float(run.val_bpb),
        "val_loss": float(run.val_loss),
        "artifact_bytes": run.total,
        "steps": run.steps,
        "train_time_s": run.train_ms / 1000,
        "eval_time_s": run.eval_ms / 1000,
    }


def write(folder: Path, values: Mapping[str, Any] | str, logs: Mapping[str, str], code: bytes = CODE) -> Path:
    """A folder of them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = values if isinstance(values, str) else json.dumps(values, indent=2)
    (folder / "submission.json").write_text(text)
    score = "" if isinstance(values, str) else f"{values.get('val_bpb', 0):.4f}"
    (folder / "README.md").write_text(f"# A submission\n\nval_bpb {score}\n")
    (folder / "train_gpt.py").write_bytes(code)
    for name, log in logs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(log)
    return folder


def check(folder: Path) -> list[Finding]:
    """Findings on files and numbers, without the review of code and the note on bytes."""
    findings = file_findings(folder)
    submission = read_submission(folder, findings)
    findings += [] if submission is None else score_findings(submission)
    return [finding for finding in findings if finding.rule != "bytes"]


def of(findings: list[Finding], severity: Severity) -> list[str]:
    """Rules of the findings of a severity."""
    return sorted({finding.rule for finding in findings if finding.severity is severity})


def refused(folder: Path) -> list[str]:
    """Rules that a folder breaks."""
    return of(check(folder), Severity.REFUSE)
