"""Verification that runs a submission again and compares what it measures."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from broken_folders import edit, problems, rules, with_code
from synthetic_runs import make_claim, make_run, packed_code

from search.errors import SubmissionError
from search.export.folder import export
from search.verify.check import verify
from search.verify.finding import Severity, is_valid
from search.verify.log import read_log
from search.verify.rerun import Rerun, run_of


@pytest.fixture
def rerun(tmp_path: Path) -> Rerun:
    (tmp_path / "shards").mkdir()
    return Rerun(inherited=os.environ, data_path=tmp_path / "shards", world_size=1, deadline_seconds=60.0)


def test_nothing_is_executed_unless_asked(tmp_path: Path) -> None:
    out = with_code(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    verify(out)
    assert not (tmp_path / "ran").exists()


def test_rerun_gives_the_same_digits(folder: Path, rerun: Rerun) -> None:
    findings = problems(folder, rerun)
    assert rules(findings, Severity.NOTE) == ["rerun"]
    assert len(findings) == 1
    assert "the same digits" in findings[0].message
    assert findings[0].file == "train_seed7.log"


def test_rerun_of_a_log_that_is_not_named_after_its_seed(folder: Path, rerun: Rerun) -> None:
    for name in ("train_seed42.log", "train_seed1337.log"):
        (folder / name).unlink()
    (folder / "train_seed7.log").rename(folder / "train.log")
    assert [finding.file for finding in verify(folder, rerun) if finding.rule == "rerun"] == ["train.log"]


def test_rerun_with_nothing_to_compare_with(folder: Path, rerun: Rerun) -> None:
    edit(folder / "train_seed7.log", "final_", "step:1/2 ")
    findings = verify(folder, rerun)
    assert rules(findings, Severity.REFUSE) == ["log-lines"]
    assert "rerun" not in [finding.rule for finding in findings]
    for path in folder.glob("*.log"):
        path.write_text("no seed\n")
        path.rename(folder / "train.log")
    with pytest.raises(SubmissionError, match="expected a log of a seed to run again, got none"):
        verify(folder, rerun)


@pytest.mark.parametrize(("device", "num_gpus"), [("cpu", 0), ("NVIDIA H100 80GB HBM3", 8)])
def test_rerun_stays_on_the_kind_of_device_that_measured(tmp_path: Path, device: str, num_gpus: int) -> None:
    log = read_log(f"python:3.12.3 pytorch:2.13.0 device:{device}\n")
    run = run_of(
        tmp_path, 7, Rerun(inherited=os.environ, data_path=tmp_path, num_gpus=8), log, tmp_path / "tokenizer.model"
    )
    assert run.num_gpus == num_gpus


def test_rerun_leaves_the_folder_alone(folder: Path, rerun: Rerun) -> None:
    before = sorted(folder.rglob("*"))
    verify(folder, rerun)
    assert sorted(folder.rglob("*")) == before


def test_rerun_of_chosen_seeds(folder: Path, rerun: Rerun) -> None:
    findings = problems(folder, Rerun(inherited=os.environ, data_path=rerun.data_path, world_size=1, seeds=[1337, 42]))
    assert [finding.file for finding in findings] == ["train_seed1337.log", "train_seed42.log"]
    with pytest.raises(SubmissionError, match="expected one of"):
        verify(folder, Rerun(inherited=os.environ, data_path=rerun.data_path, seeds=[3]))


def other_score(folder: Path, by: float) -> Path:
    """A folder that claims consistently, but not what its code measures."""
    run = make_run(folder / "run7", 7, val_bpb=1.2 + 7 / 7e5 - by)
    return export(make_claim(folder, run), folder / "out")


def test_rerun_that_scores_worse(tmp_path: Path, rerun: Rerun) -> None:
    out = other_score(tmp_path, 1e-5)
    assert is_valid(verify(out))
    findings = verify(out, replace(rerun, tolerance=0.0))
    assert rules(findings, Severity.REFUSE) == ["rerun"]
    assert "expected val_bpb 1.20000000 again, got 1.20001000" in findings[0].message


def test_runs_repeat_exactly_on_a_cpu_alone(tmp_path: Path, rerun: Rerun) -> None:
    logs = [read_log(f"python:3.12.3 pytorch:2.13.0 device:{device}\n") for device in ("cpu", "NVIDIA H100 80GB HBM3")]
    assert [rerun.tolerance_of(log) for log in logs] == [0.0, 0.005]
    assert [replace(rerun, tolerance=0.1).tolerance_of(log) for log in logs] == [0.1, 0.1]
    said: list[str] = []
    assert is_valid(verify(other_score(tmp_path, 1e-5), replace(rerun, announce=said.append)))
    assert said[0].startswith("rerun-seed7: train_gpt.py runs again; what it prints: ")


def test_rerun_within_a_tolerance(tmp_path: Path, rerun: Rerun) -> None:
    out = other_score(tmp_path, 1e-5)
    assert is_valid(verify(out, Rerun(inherited=os.environ, data_path=rerun.data_path, world_size=1, tolerance=1e-4)))


def test_rerun_with_other_bytes(tmp_path: Path, rerun: Rerun) -> None:
    run = make_run(tmp_path / "run7", 7, weight_bytes=5, artifact_bytes=len(packed_code()) + 5)
    out = export(make_claim(tmp_path, run), tmp_path / "out")
    findings = verify(out, replace(rerun, tolerance=0.0))
    assert rules(findings, Severity.REFUSE) == ["rerun"]
    assert "artifact bytes again" in findings[0].message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no such data')\n", "exit code 1 and no result; its last line: no such data"),
        ("while True:\n    pass\n", "no end within 1 s"),
        (
            "import json\nfrom pathlib import Path\n"
            "failure = {'outcome': 'failure', 'kind': 'data', 'message': 'no shards', 'phase': ''}\n"
            "Path('result.json').write_text(json.dumps(failure))\n",
            "expected a measurement again, got data: no shards",
        ),
    ],
)
def test_rerun_that_fails(tmp_path: Path, rerun: Rerun, code: str, message: str) -> None:
    out = with_code(tmp_path, code)
    findings = verify(
        out,
        Rerun(
            inherited=os.environ,
            data_path=rerun.data_path,
            world_size=1,
            deadline_seconds=1.0 if "while" in code else 60.0,
        ),
    )
    assert rules(findings, Severity.REFUSE) == ["rerun"]
    assert message in findings[0].message


def test_rerun_without_a_tokenizer(folder: Path, rerun: Rerun) -> None:
    (folder / "tokenizers" / "tokenizer.model").unlink()
    with pytest.raises(SubmissionError, match="expected one tokenizer, got 0"):
        verify(folder, rerun)
