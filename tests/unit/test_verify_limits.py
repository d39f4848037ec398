"""Limits of the challenge: bytes as they lie there, seconds of training and evaluation."""

from pathlib import Path
from typing import Any

import pytest
from challenge_folders import CODE_BYTES, Numbers, check, early_log, fields, late_log, of, refused, write

from search.verify.finding import Severity

ONE = Numbers(seed=1337, val_bpb="1.13261234", val_loss="1.91234567", weights=15_800_000)

# ---- bytes


def test_compressed_code_is_not_what_lies_there(tmp_path: Path) -> None:
    log = late_log(ONE).replace(
        f"Code size: {CODE_BYTES} bytes",
        f"Code size (uncompressed): {CODE_BYTES} bytes\nCode size (compressed): 500 bytes",
    )
    log = log.replace(f"brotli: {ONE.total} bytes", f"brotli: {ONE.weights + 500} bytes")
    folder = write(tmp_path, fields([ONE], seed_results=None, bytes_total=ONE.weights + 500), {"train.log": log})
    findings = check(folder)
    assert of(findings, Severity.REFUSE) == ["bytes-code"]
    assert "counted it compressed" in findings[[one.rule for one in findings].index("bytes-code")].message


def test_code_that_lies_there_counts_and_not_what_the_log_counted(tmp_path: Path) -> None:
    run = Numbers(seed=1337, weights=16_000_000 - CODE_BYTES, code=CODE_BYTES - 1)
    folder = write(tmp_path, fields([run]), {"train_seed1337.log": early_log(run)})
    assert refused(folder) == ["bytes-code"]
    run = Numbers(seed=1337, weights=16_000_001 - CODE_BYTES, code=CODE_BYTES - 1)
    folder = write(tmp_path, fields([run]), {"train_seed1337.log": early_log(run)})
    assert refused(folder) == ["bytes-code", "bytes-limit"]


@pytest.mark.parametrize("name", ["final_model.int6.ptz", "weights_seed1337.bin", "model.bin", "artifact/model.zst"])
def test_weights_that_lie_there(tmp_path: Path, name: str) -> None:
    run = Numbers(seed=1337, weights=1000)
    folder = write(tmp_path, fields([run]), {"train_seed1337.log": early_log(run)})
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(bytes(1000))
    assert refused(folder) == []
    (folder / name).write_bytes(bytes(1001))
    assert refused(folder) == ["weights"]


def test_tokenizers_and_shards_are_no_weights(tmp_path: Path) -> None:
    folder = write(tmp_path, fields([ONE]), {"train_seed1337.log": early_log(ONE), "fineweb_val_000.bin": "x"})
    (folder / "fineweb_1024_bpe.model").write_bytes(b"x")
    assert refused(folder) == []


# ---- time


def test_training_may_end_with_the_step_that_reaches_the_limit(tmp_path: Path) -> None:
    for milliseconds, rules in ((600_150, []), (600_500, ["time-limit"])):
        run = Numbers(seed=1337, train_ms=milliseconds)
        assert refused(write(tmp_path, fields([run]), {"train_seed1337.log": early_log(run)})) == rules


@pytest.mark.parametrize(
    ("changes", "place", "is_refused"),
    [
        ({"track": "10min_16mb"}, "x", True),
        ({"track": "non-record-unlimited-compute-16mb"}, "x", False),
        ({"track": "track_non_record_16mb"}, "track_10min_16mb", False),
        ({"track": None}, "track_10min_16mb", True),
        ({"track": None}, "track_non_record_16mb", False),
        ({"track": None}, "x", True),
        ({"track": None, "blurb": "Trained for 2 h, unconstrained."}, "x", False),
        ({"track": None, "submission_kind": "non-record"}, "x", False),
    ],
)
def test_limits_are_those_of_the_track(tmp_path: Path, changes: dict[str, Any], place: str, is_refused: bool) -> None:
    run = Numbers(seed=1337, train_ms=7_763_355, eval_ms=768_782)
    folder = write(tmp_path / place / "name", fields([run], **changes), {"train_seed1337.log": early_log(run)})
    assert refused(folder) == (["time-limit"] if is_refused else [])


def test_evaluations_that_together_take_too_long_are_reviewed(tmp_path: Path) -> None:
    lines = (
        "quantized_sliding_window val_loss:1.93000000 val_bpb:1.14100000 eval_time:300000ms\n"
        "ttt_sliding:done val_loss=1.912346 val_bpb=1.132612 elapsed=400.1s\n"
        f"legal_ttt_exact val_loss:{ONE.val_loss} val_bpb:{ONE.val_bpb} eval_time:400200ms"
    )
    run = Numbers(seed=1337, eval_ms=400_200)
    findings = check(write(tmp_path, fields([run]), {"train_seed1337.log": late_log(run, lines)}))
    assert of(findings, Severity.REFUSE) == []
    late = [finding.message for finding in findings if finding.rule == "time-limit" and finding.severity != "note"]
    assert late == ["expected at most 600 s of evaluation, got 724.6 for all scores together"]


def test_total_time_of_evaluation_has_the_limit_and_a_part_of_it_may_be_claimed(tmp_path: Path) -> None:
    for total, rules in ((599.9, []), (600.1, ["time-limit"])):
        lines = f"quantized_ttt val_loss:{ONE.val_loss} val_bpb:{ONE.val_bpb} eval_time:70123ms"
        log = late_log(ONE, f"{lines}\ntotal_eval_time:{total}s")
        assert refused(write(tmp_path, fields([ONE]), {"train_seed1337.log": log})) == rules
