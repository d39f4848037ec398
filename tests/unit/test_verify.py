"""Verification: a valid folder passes, and every rule has a folder that breaks it."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import log_of, make_claim, make_run, measurement_of, packed_code

from search.bundle import bundle, pack
from search.errors import SubmissionError
from search.export.folder import export
from search.spec_parts import Limits
from search.verify.check import verify
from search.verify.finding import Finding, Severity, is_valid
from search.verify.log import EXPECTED, NEEDED, read_log
from search.verify.rerun import Rerun, logged_dataset, run_of
from trainer.config import Budget, Recipe


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid submission of three seeds."""
    folder = tmp_path_factory.mktemp("exported")
    return export(make_claim(folder), folder / "out", with_weights=True)


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(exported, tmp_path / "out"))


def edit_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "submission.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=2))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rules(findings: list[Finding], severity: Severity) -> list[str]:
    return sorted({finding.rule for finding in findings if finding.severity is severity})


def refused_by(folder: Path) -> list[str]:
    findings = verify(folder)
    assert not is_valid(findings)
    assert all(finding.message for finding in findings)
    return rules(findings, Severity.REFUSE)


def problems(folder: Path, rerun: Rerun | None = None) -> list[Finding]:
    """Findings but for the note on where the bytes were taken from, which every folder gets."""
    return [finding for finding in verify(folder, rerun) if finding.rule != "bytes"]


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


# ---- code


def with_code(folder: Path, code: str, *, is_packed: bool = True) -> Path:
    """A valid submission of a made-up program."""
    packed = pack(code)
    out = export(make_claim(folder, *(make_run(folder / f"run{n}", n, packed) for n in (1, 2, 3))), folder / "out")
    if not is_packed:
        plain = code.encode().ljust(len(packed), b"\n")
        assert len(plain) == len(packed)
        (out / "train_gpt.py").write_bytes(plain)
    return out


def broken_code(folder: Path, code: str, *, is_packed: bool = True) -> list[Finding]:
    """Findings on a folder whose code is swapped for another of the same size."""
    out = with_code(folder, "x = 1\n")
    packed = pack(code) if is_packed else code.encode()
    for log in out.glob("train_seed*.log"):
        text = log.read_text()
        shipped = len(pack("x = 1\n"))
        text = text.replace(f"Code size: {shipped} ", f"Code size: {len(packed)} ")
        log.write_text(text.replace(f"zlib: {shipped + 23} ", f"zlib: {len(packed) + 23} "))
    (out / "train_gpt.py").write_bytes(packed)
    (out / "train_gpt_readable.py").unlink()

    def count(values: dict[str, Any]) -> None:
        values.update(bytes_code=len(packed), bytes_total=len(packed) + 23)
        for result in values["seed_results"].values():
            result["artifact_bytes"] = len(packed) + 23

    edit_json(out, count)
    return problems(out)


NETWORK = [
    "import socket\n",
    "import urllib.request\n",
    "from urllib import request\n",
    "import requests\n",
    "def f():\n    import http.client\n",
    "try:\n    from huggingface_hub import snapshot_download\nexcept ImportError:\n    pass\n",
    "import torch\ntorch.hub.load('a', 'b')\n",
    "from torch import hub\n",
]
PROCESSES = [
    "import subprocess\nsubprocess.run(['ls'])\n",
    "from subprocess import run\nrun('ls')\n",
    "import os\nos.system('ls')\n",
    "from os import popen\n",
    "import os\nos.execv('a', ['a'])\n",
]
OPAQUE = ["eval('1')\n", "__import__('math')\n", "import importlib\n", "import pickle\n", "import ctypes\n"]


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize(("code", "rule"), [(c, "network") for c in NETWORK] + [(c, "process") for c in PROCESSES])
def test_no_network_and_no_other_programs(tmp_path: Path, code: str, rule: str, is_packed: bool) -> None:
    findings = broken_code(tmp_path, f"x = 1\n{code}", is_packed=is_packed)
    assert rules(findings, Severity.REFUSE) == [rule]
    assert findings[0].line is not None and findings[0].line >= 2
    assert ("unpacked" in findings[0].file) == is_packed


@pytest.mark.parametrize("code", OPAQUE)
def test_code_that_hides_from_checks_is_reviewed(tmp_path: Path, code: str) -> None:
    findings = broken_code(tmp_path, code)
    assert rules(findings, Severity.REVIEW) == ["opaque"]
    assert is_valid(findings)


def test_names_that_only_look_like_it_pass(tmp_path: Path) -> None:
    code = "import os\nmodel = nn.Linear(1, 1)\nmodel.eval()\nsocket = requests = 1\nsocket.real\nos.path.join('a')\n"
    assert broken_code(tmp_path, code) == []


def test_another_wrapper_is_read_as_it_lies_there(tmp_path: Path) -> None:
    code = "import base64, zlib\nexec(zlib.decompress(base64.b85decode('abc')))\n"
    assert rules(broken_code(tmp_path, code, is_packed=False), Severity.REFUSE) == ["opaque"]


@pytest.mark.parametrize("is_packed", [True, False])
def test_code_that_is_not_python(tmp_path: Path, is_packed: bool) -> None:
    findings = broken_code(tmp_path, "def f(:\n", is_packed=is_packed)
    assert rules(findings, Severity.REFUSE) == ["opaque" if is_packed else "code"]


@pytest.mark.parametrize("name", ["helper.py", "helper.so", "helper/__init__.py"])
def test_import_of_code_beside_it(tmp_path: Path, name: str) -> None:
    out = with_code(tmp_path, "from helper import trick\n")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("trick = 1\n")
    findings = verify(out)
    assert rules(findings, Severity.REFUSE) == ["single-file"]
    assert findings[0].line == 1


def test_import_that_a_file_beside_it_would_shadow(tmp_path: Path) -> None:
    out = with_code(tmp_path, "import json\n")
    (out / "json.py").write_text("trick = 1\n")
    assert rules(verify(out), Severity.REFUSE) == ["single-file"]


@pytest.mark.parametrize("name", ["prepare.py", "kernel.cu", "run.sh", "lib/a.cpp"])
def test_more_code_is_reviewed(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x = 1\n")
    assert rules(verify(folder), Severity.REVIEW) == ["single-file"]


def test_readable_copy_of_another_program(folder: Path) -> None:
    edit(folder / "train_gpt_readable.py", "def run():", "def walk():")
    assert refused_by(folder) == ["readable-copy"]


def test_readable_copy_may_have_comments(folder: Path) -> None:
    edit(folder / "train_gpt_readable.py", "def run():", 'def run():  # why\n    """Docs."""')
    assert problems(folder) == []


def test_requirement_left_out_is_reviewed(tmp_path: Path) -> None:
    out = with_code(
        tmp_path,
        "import torch\nimport flash_attn.cute\ntry:\n    import brotli\nexcept ImportError:\n    brotli = None\n",
    )
    assert problems(out) == []
    edit(out / "requirements.txt", "flash-attn\n", "")
    findings = verify(out)
    assert rules(findings, Severity.REVIEW) == ["requirements"]
    (out / "requirements.txt").write_text("# torch\nFlash-Attn>=4  # kernels\n")
    assert [finding.message.split(",")[0] for finding in problems(out)] == ["expected torch"]


def test_real_trainer_passes_the_static_checks(tmp_path: Path) -> None:
    made = bundle(Recipe(), Budget(train_seconds=600.0, world_size=8))
    runs = [make_run(tmp_path / f"run{seed}", seed, made.packed) for seed in (1, 2, 3)]
    assert problems(export(make_claim(tmp_path, *runs, source=made.source), tmp_path / "out")) == []


# ---- running it again


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
