"""Verification: a valid folder passes, and every rule on its files and its JSON has a folder that breaks it."""

import json
from pathlib import Path

import pytest
from broken_folders import edit_json, problems, refused_by, rules

from search.errors import SubmissionError
from search.verify.check import verify
from search.verify.finding import Finding, Severity, is_valid
from search.verify.rerun import logged_dataset


def test_valid_folder_passes(folder: Path) -> None:
    assert problems(folder) == []


def test_bytes_are_those_of_the_weight_file_where_there_is_one(folder: Path) -> None:
    [note] = verify(folder)
    assert (note.rule, note.severity) == ("bytes", Severity.NOTE)
    assert "23 of weights by weights_seed1337.bin" in note.message
    for path in folder.glob("weights_seed*.bin"):
        path.unlink()
    assert "23 of weights by train_seed1337.log" in verify(folder)[0].message


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="expected a submission folder"):
        verify(tmp_path / "nothing")


# ---- files


@pytest.mark.parametrize("name", ["README.md", "submission.json", "train_gpt.py"])
def test_required_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused_by(folder) == ["files"]


def test_a_log_is_required(folder: Path) -> None:
    for path in folder.glob("*.log"):
        path.unlink()
    assert refused_by(folder) == ["files"]


def test_empty_readme(folder: Path) -> None:
    (folder / "README.md").write_text("\n")
    assert refused_by(folder) == ["files"]


def test_link_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    (folder / "tokenizers" / "link").symlink_to(tmp_path / "secret")
    findings = verify(folder)
    assert rules(findings, Severity.REFUSE) == ["links"]
    assert findings[0].file == "tokenizers/link"


def test_link_inside_the_folder_is_fine(folder: Path) -> None:
    (folder / "log").symlink_to("train_seed7.log")
    assert is_valid(verify(folder))


# ---- submission.json


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"val_bpb": NaN}'])
def test_json_must_be_an_object(folder: Path, text: str) -> None:
    (folder / "submission.json").write_text(text)
    assert refused_by(folder) == ["json"]


@pytest.mark.parametrize("key", ["author", "github_id", "name", "date", "val_bpb"])
def test_required_fields(folder: Path, key: str) -> None:
    edit_json(folder, lambda values: values.pop(key))
    assert refused_by(folder) == ["json"]


def test_bytes_are_required_under_some_name(folder: Path) -> None:
    edit_json(folder, lambda values: values.pop("bytes_total"))
    assert rules(problems(folder), Severity.NOTE) == ["json"]
    edit_json(folder, lambda values: [one.pop("artifact_bytes") for one in values["seed_results"].values()])
    assert refused_by(folder) == ["json"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("author", 1),
        ("author", " "),
        ("date", "1 April"),
        ("val_bpb", "1.2"),
        ("val_bpb", None),
        ("val_bpb", True),
        ("bytes_total", 1.5),
        ("bytes_code", "1"),
        ("seeds", "7"),
        ("seeds", ["x"]),
        ("seed_results", [1]),
        ("seed_results", {"7": "1.2"}),
        ("seed_results", {"7": {"val_bpb": "1.2"}}),
        ("seed_results", {"7": {"val_loss": 1.2}}),
        ("compliance", True),
        ("track", 10),
        ("val_loss", "2.0"),
    ],
)
def test_field_types(folder: Path, key: str, value: object) -> None:
    edit_json(folder, lambda values: values.update({key: value}))
    findings = verify(folder)
    assert findings[0].severity is Severity.REFUSE
    assert findings[0].rule == "json"
    assert findings[0].message.startswith(key)
    assert findings[0].line is not None
    assert f'"{key}"' in (folder / "submission.json").read_text().splitlines()[findings[0].line - 1]


@pytest.mark.parametrize(("key", "value"), [("base_pr", "#1"), ("seeds", ["7", "42", "1337"]), ("blurb", 1)])
def test_types_that_hide_nothing_are_reviewed(folder: Path, key: str, value: object) -> None:
    edit_json(folder, lambda values: values.update({key: value}))
    assert [finding.rule for finding in problems(folder)] == ["json"]
    assert is_valid(verify(folder))


def test_optional_fields_may_be_missing(folder: Path) -> None:
    required = {"author", "github_id", "name", "date", "val_bpb", "bytes_total"}
    path = folder / "submission.json"
    values = json.loads(path.read_text())
    mean = sum(round(result["val_bpb"], 8) for result in values["seed_results"].values()) / 3
    path.write_text(json.dumps({key: value for key, value in values.items() if key in required} | {"val_bpb": mean}))
    assert problems(folder) == []


def test_dataset_is_named_by_the_logs(folder: Path) -> None:
    assert logged_dataset(folder) == "fineweb10B_sp1024"
    for path in folder.glob("*.log"):
        path.write_text("seed:1\n")
    with pytest.raises(SubmissionError, match="expected a log that names its dataset"):
        logged_dataset(folder)


def test_findings_read_as_lines() -> None:
    finding = Finding("bytes-code", Severity.REFUSE, "train_seed7.log", 12, "expected 5, got 6")
    assert str(finding) == "refuse: train_seed7.log:12: expected 5, got 6 [bytes-code]"
    assert str(Finding("files", Severity.NOTE, "a", None, "b")) == "note: a: b [files]"
