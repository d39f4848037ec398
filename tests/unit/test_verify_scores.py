"""Verification of seeds, logs, scores, bytes and times: what the JSON claims is what the logs say."""

from pathlib import Path

import pytest
from broken_folders import edit, edit_json, problems, refused_by, rules
from synthetic_runs import log_of, make_claim, make_run, measurement_of, packed_code

from search.bundle import pack
from search.errors import SubmissionError
from search.export.folder import export
from search.spec_parts import Limits
from search.verify.check import verify
from search.verify.finding import Severity, is_valid
from search.verify.log import EXPECTED, NEEDED, read_log

# ---- seeds and logs


def test_seed_twice(folder: Path) -> None:
    edit_json(folder, lambda values: values.update(seeds=[7, 7, 42, 1337]))
    assert refused_by(folder) == ["seeds"]


def test_no_seeds(folder: Path) -> None:
    edit_json(folder, lambda values: values.update(seeds=[], seed_results={}))
    assert refused_by(folder) == ["seeds"]


def test_seed_without_result(folder: Path) -> None:
    edit_json(folder, lambda values: values["seed_results"].pop("7"))
    assert refused_by(folder) == ["seeds"]


def test_seed_without_log(folder: Path) -> None:
    (folder / "train_seed7.log").unlink()
    assert refused_by(folder) == ["logs"]


def test_log_without_seed_is_reviewed(folder: Path) -> None:
    one = measurement_of(99, packed_code())
    (folder / "train_seed99.log").write_text(log_of(one))
    assert "logs" in rules(verify(folder), Severity.REVIEW)


def test_log_of_another_seed(folder: Path) -> None:
    edit(folder / "train_seed7.log", "seed:7\n", "seed:8\n")
    assert refused_by(folder) == ["logs"]


def test_fewer_than_three_seeds_of_a_record_are_reviewed(tmp_path: Path) -> None:
    out = export(make_claim(tmp_path, make_run(tmp_path / "run1", 1)), tmp_path / "out")
    edit_json(out, lambda values: values.update(track="10min_16mb"))
    assert rules(verify(out), Severity.REVIEW) == ["seeds"]
    edit_json(out, lambda values: values.update(track="non-record-16mb"))
    assert rules(verify(out), Severity.REVIEW) == []


# The line, or lines, that say something; without weights in the log, those of the file beside it count.
SAMPLE_LINES = {
    "seed": ("seed:",),
    "weight_bytes": ("Serialized model", "Total submission size"),
    "code_bytes": ("Code size",),
    "total_bytes": ("Total submission size",),
    "train_shards": ("train_loader",),
    "val_tokens": ("val_loader",),
    "train_loss": ("step:1/",),
    "steps": ("stopping_early", "step:"),
    "train_ms": ("stopping_early", "step:"),
    "peak_memory_mib": ("peak memory",),
    "val_bpb": ("final_",),
    "roundtrip_bpb": ("final_int8_zlib_roundtrip",),
}


@pytest.mark.parametrize("name", [*NEEDED, *EXPECTED])
def test_log_lines(folder: Path, name: str) -> None:
    path = folder / "train_seed7.log"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(SAMPLE_LINES[name])))
    assert name in read_log(path.read_text()).missing((*NEEDED, *EXPECTED))
    findings = verify(folder)
    expected = Severity.REFUSE if name in NEEDED else Severity.REVIEW
    assert "log-lines" in rules(findings, expected)
    if name not in {"steps", "val_bpb"}:
        assert is_valid(findings) == (name not in NEEDED)


def test_time_that_is_not_logged_is_reviewed_in_the_open_track(folder: Path) -> None:
    path = folder / "train_seed7.log"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(SAMPLE_LINES["train_ms"])))
    edit_json(folder, lambda values: values.update(track="non-record-16mb"))
    assert is_valid(verify(folder))
    assert rules(verify(folder), Severity.REVIEW) == ["log-lines"]


def test_score_that_is_not_a_number_is_missing(folder: Path) -> None:
    edit(
        folder / "train_seed7.log",
        "final_sliding_window_exact val_loss:2.00001000 val_bpb:1.",
        "final_sliding_window_exact val_loss:nan val_bpb:nan ",
    )
    assert refused_by(folder) == ["log-lines"]


# ---- scores


@pytest.mark.parametrize("key", ["val_bpb", "val_loss", "val_bpb_std", "val_loss_std"])
def test_totals_are_those_of_the_seeds(folder: Path, key: str) -> None:
    edit_json(folder, lambda values: values.update({key: values[key] - 1e-6}))
    findings = verify(folder)
    assert rules(findings, Severity.REFUSE) == ["score"]
    assert findings[0].message.startswith(f"{key}: expected")


def test_deviation_is_null_for_one_seed(tmp_path: Path) -> None:
    out = export(make_claim(tmp_path, make_run(tmp_path / "run1", 1)), tmp_path / "out")
    edit_json(out, lambda values: values.update(val_bpb_std=0.0))
    assert refused_by(out) == ["score"]


@pytest.mark.parametrize("key", ["val_bpb", "val_loss"])
def test_seed_results_are_those_of_the_logs(folder: Path, key: str) -> None:
    edit_json(folder, lambda values: values["seed_results"]["7"].update({key: values["seed_results"]["7"][key] - 1e-7}))
    findings = verify(folder)
    assert "score" in rules(findings, Severity.REFUSE)
    assert "train_seed7.log" in findings[0].message


def test_readme_without_the_score_is_reviewed(folder: Path) -> None:
    edit(folder / "README.md", "1.20", "1.19")
    assert rules(verify(folder), Severity.REVIEW) == ["readme"]


def test_another_validation_split_is_reviewed(folder: Path) -> None:
    edit(folder / "train_seed7.log", "tokens:62021845", "tokens:1000000")
    findings = verify(folder)
    assert rules(findings, Severity.REVIEW) == ["validation-split"]
    assert findings[0].line == 4


# ---- bytes


def test_log_that_counted_other_code(folder: Path) -> None:
    (folder / "train_gpt.py").write_bytes(pack("x = 1\n"))
    (folder / "train_gpt_readable.py").unlink()
    assert refused_by(folder) == ["bytes-code"]


def test_code_count_of_the_json(folder: Path) -> None:
    edit_json(folder, lambda values: values.update(bytes_code=values["bytes_code"] - 1))
    assert refused_by(folder) == ["bytes-code"]


def test_total_of_the_log(folder: Path) -> None:
    total = len(packed_code()) + 23
    edit(folder / "train_seed7.log", f"Total submission size int8+zlib: {total}", "Total submission size int8+zlib: 1")
    assert refused_by(folder) == ["bytes-total"]


def test_total_of_the_json(folder: Path) -> None:
    edit_json(folder, lambda values: values.update(bytes_total=values["bytes_total"] - 1))
    assert refused_by(folder) == ["bytes-total"]


def test_total_of_a_seed(folder: Path) -> None:
    edit_json(folder, lambda values: values["seed_results"]["7"].update(artifact_bytes=1))
    assert refused_by(folder) == ["bytes-total"]


def oversize(folder: Path, extra: int) -> Path:
    """A submission whose artifact is extra bytes over the limit, exported under a laxer limit."""
    weight_bytes = 16_000_000 - len(packed_code()) + extra
    run = make_run(folder / "run1", 1, weight_bytes=weight_bytes, artifact_bytes=16_000_000 + extra)
    return export(make_claim(folder, run, limits=Limits(artifact_bytes=10**9)), folder / "out")


def test_sixteen_million_bytes_and_not_one_more(tmp_path: Path) -> None:
    assert is_valid(verify(oversize(tmp_path, 0)))
    with pytest.raises(SubmissionError, match=r"expected at most 16000000 .*bytes.*, got 16000001"):
        (tmp_path / "more").mkdir()
        oversize(tmp_path / "more", 1)


def test_shipped_weights_are_those_counted(folder: Path) -> None:
    (folder / "weights_seed7.bin").write_bytes(b"more than was counted, much more")
    assert refused_by(folder) == ["weights"]


# ---- time and compliance


@pytest.mark.parametrize("key", ["train_time_s", "eval_time_s"])
def test_times_are_not_below_those_of_the_log(folder: Path, key: str) -> None:
    edit_json(folder, lambda values: values["seed_results"]["7"].update({key: 1.0}))
    assert refused_by(folder) == ["time"]


@pytest.mark.parametrize("key", ["train_time_s", "eval_time_s"])
def test_time_limit_of_the_record_track(folder: Path, key: str) -> None:
    edit_json(folder, lambda values: values["seed_results"]["7"].update({key: 600.1}))
    assert refused_by(folder) == ["compliance", "time-limit"]
    edit_json(folder, lambda values: values.update(track="non-record-16mb", compliance={}))
    assert rules(problems(folder), Severity.NOTE) == ["time-limit"]
    assert is_valid(verify(folder))


def test_compliance_that_is_not_so(tmp_path: Path) -> None:
    out = export(make_claim(tmp_path, make_run(tmp_path / "run1", 1)), tmp_path / "out")
    edit_json(out, lambda values: values["compliance"].update(three_seeds=True))
    assert refused_by(out) == ["compliance"]


def test_admitted_violation_is_reviewed(folder: Path) -> None:
    edit_json(folder, lambda values: values["compliance"].update(no_slot=False))
    assert rules(verify(folder), Severity.REVIEW) == ["compliance"]
