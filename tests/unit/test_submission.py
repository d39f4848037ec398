"""Export: what the folder holds, and what is refused before anything is left behind."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
from synthetic_runs import WEIGHTS, make_claim, make_run, packed_code

from search.bundle import bundle, pack, unpack
from search.claim import OPEN_TRACK, RECORD_TRACK, Claim, Entry, SeedRun
from search.errors import SubmissionError
from search.spec_parts import Limits
from search.submission import export
from search.submission_json import requirements
from search.verify.check import verify
from trainer.config import Budget, Recipe
from trainer.store_config import Compressor

JSON_KEYS = [
    *("author", "github_id", "name", "blurb", "date", "track", "val_loss", "val_bpb", "val_loss_std", "val_bpb_std"),
    *("seeds", "seed_results", "bytes_total", "bytes_code", "hardware", "pytorch_version", "technique_summary"),
    *("compliance", "base_pr"),
]


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(("run", "data")))


def test_folder_holds_the_runs_own_files(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    folder = export(claim, tmp_path / "out")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "requirements.txt",
        "submission.json",
        "tokenizers/tokenizer.model",
        "train_gpt.py",
        "train_gpt_readable.py",
        "train_seed1337.log",
        "train_seed42.log",
        "train_seed7.log",
    ]
    for run in claim.runs:
        assert (folder / "train_gpt.py").read_bytes() == (run.folder / "train_gpt.py").read_bytes()
        log = folder / f"train_seed{run.measurement.seed}.log"
        assert log.read_bytes() == (run.folder / "train.log").read_bytes()
    assert left_behind(tmp_path) == ["out"]
    assert folder.stat().st_mode & 0o077, "others may read it, as any folder of this user"


def test_submission_json_is_what_the_challenge_has(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    values = json.loads((export(claim, tmp_path / "out") / "submission.json").read_text())
    assert list(values) == JSON_KEYS
    scores = [run.measurement.val_bpb for run in claim.runs]
    assert values["val_bpb"] == pytest.approx(fmean(scores), abs=1e-15)
    assert values["val_bpb_std"] == pytest.approx(stdev(scores), abs=1e-15)
    assert values["seeds"] == [7, 42, 1337]
    one = claim.measurements[0]
    assert values["seed_results"]["7"] == {
        "val_bpb": one.val_bpb,
        "val_loss": one.val_loss,
        "artifact_bytes": one.artifact_bytes,
        "steps": one.steps,
        "step_avg_ms": one.step_avg_ms,
        "train_time_s": one.train_seconds,
        "eval_time_s": one.eval_seconds,
    }
    assert values["bytes_code"] == len(packed_code())
    assert values["bytes_total"] == len(packed_code()) + len(WEIGHTS)
    assert values["hardware"] == "8 x NVIDIA H100 80GB HBM3"
    assert values["track"] == RECORD_TRACK
    assert values["date"] == "2026-04-01"
    assert all(values["compliance"].values())


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1))
    values = json.loads((export(claim, tmp_path / "out") / "submission.json").read_text())
    assert values["val_bpb_std"] is None
    assert values["val_loss_std"] is None
    assert not values["compliance"]["three_seeds"]


@pytest.mark.parametrize(
    ("changes", "budget"),
    [
        ({"device": "cpu", "world_size": 1}, Budget(train_tokens=1)),
        ({"world_size": 4}, Budget(train_seconds=600.0, world_size=4)),
        ({"train_seconds": 600.1}, Budget(train_seconds=600.0, world_size=8)),
        ({"eval_seconds": 600.1}, Budget(train_seconds=600.0, world_size=8)),
        ({}, Budget(train_seconds=600.0, world_size=8, eval_tokens=1_000_000)),
    ],
)
def test_other_runs_are_no_records(tmp_path: Path, changes: dict[str, object], budget: Budget) -> None:
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1, None, **changes), budget=budget)
    assert claim.track == OPEN_TRACK
    assert "Not a record run" in (export(claim, tmp_path / "out") / "README.md").read_text()


def test_readme_says_what_a_reviewer_asks(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    manifest = {"docs": {"name": "docs.jsonl", "sha256": "abc"}, "val_docs": None, "val": {"documents": 40}}
    (claim.origin.data_path / "dataset.json").write_text(json.dumps(manifest))
    claim = replace(claim, entry=replace(claim.entry, base_pr=162, blurb="Made for a test."))
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    for expected in (
        f"**val_bpb {claim.val_bpb:.4f}**",
        "Made for a test.",
        "#162",
        "torchrun --standalone --nproc-per-node=8 train_gpt.py",
        "TOKENIZER_PATH=tokenizers/tokenizer.model",
        "for seed in 7 42 1337",
        "--val-documents 40",
        "`model.num_layers` | 9",
        "`quant.clip` | quantile",
        "`ema` | none",
        "Trial 12 of rung `full` in the study `ladder`",
        "345 trials in 67.80 GPU-hours",
        "docs.jsonl",
        "caddie data build",
        "43.51",
        "599.5",
        "123.4",
        "8 x NVIDIA H100 80GB HBM3",
        "17,059,912 parameters",
    ):
        assert expected in text, expected
    assert str(tmp_path) not in text


def test_readable_copy_is_decoded_from_the_shipped_file(tmp_path: Path) -> None:
    folder = export(make_claim(tmp_path), tmp_path / "out")
    text = (folder / "train_gpt_readable.py").read_text()
    assert text.endswith(unpack((folder / "train_gpt.py").read_bytes()))
    assert "not executed" in text.splitlines()[0]


def real_claim(folder: Path, source: str | None) -> Claim:
    packed = bundle(Recipe(), Budget(train_tokens=1)).packed
    return make_claim(folder, make_run(folder / "run1", 1, packed), source=source)


def test_readable_copy_has_comments_if_it_is_provably_the_same_code(tmp_path: Path) -> None:
    source = bundle(Recipe(), Budget(train_tokens=1)).source
    assert (export(real_claim(tmp_path, source), tmp_path / "out") / "train_gpt_readable.py").read_text() == source


@pytest.mark.parametrize("source", ["def broken(:", "print('something else')\n"])
def test_other_source_is_not_shipped(tmp_path: Path, source: str) -> None:
    text = (export(real_claim(tmp_path, source), tmp_path / "out") / "train_gpt_readable.py").read_text()
    assert source not in text
    assert "class Recipe:" in text


def test_requirements_are_what_the_code_imports(tmp_path: Path) -> None:
    claim = real_claim(tmp_path, None)
    code = unpack((claim.runs[0].folder / "train_gpt.py").read_bytes())
    assert requirements(claim, code).splitlines()[1:] == ["numpy", "sentencepiece", "torch==2.11.0"]
    zstd = replace(claim.origin, recipe=Recipe(compressor=Compressor.ZSTD))
    lines = requirements(replace(claim, origin=zstd), code).splitlines()[1:]
    assert lines == ["numpy", "sentencepiece", "torch==2.11.0", "zstandard==0.25.0"]


def test_weights_are_shipped_on_request(tmp_path: Path) -> None:
    folder = export(make_claim(tmp_path), tmp_path / "out", with_weights=True)
    assert [(folder / f"weights_seed{seed}.bin").read_bytes() for seed in (7, 42, 1337)] == [WEIGHTS] * 3


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (export(make_claim(tmp_path), tmp_path / "out") / "README.md").is_file()


# ---- refused, and nothing left behind


def refused(claim: Claim, out: Path, match: str, **options: bool) -> None:
    before = left_behind(out.parent)
    with pytest.raises(SubmissionError, match=match):
        export(claim, out, **options)
    assert left_behind(out.parent) == before


def test_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    refused(make_claim(tmp_path), tmp_path / "out", "expected a new or empty folder")
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"


def test_refuses_a_file_and_a_link_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    claim = make_claim(tmp_path)
    refused(claim, tmp_path / "out", "expected a new or empty folder")
    refused(claim, tmp_path / "link", "expected a new or empty folder")


def test_refuses_a_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SubmissionError, match="expected a folder that can be written"):
        export(make_claim(tmp_path), tmp_path / "file" / "out")


def test_refuses_no_runs(tmp_path: Path) -> None:
    refused(replace(make_claim(tmp_path), runs=[]), tmp_path / "out", "expected at least one measured run")


def test_refuses_a_seed_twice(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "run_a", 5), make_run(tmp_path / "run_b", 5)]
    refused(make_claim(tmp_path, *runs), tmp_path / "out", "expected one run a seed, got several of seed 5")


@pytest.mark.parametrize("name", ["train_gpt.py", "train.log"])
def test_refuses_a_missing_file(tmp_path: Path, name: str) -> None:
    claim = make_claim(tmp_path)
    (claim.runs[1].folder / name).unlink()
    refused(claim, tmp_path / "out", f"{name}: expected the run's file, got none")


def test_refuses_a_missing_tokenizer(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    claim.origin.tokenizer_path.unlink()
    refused(claim, tmp_path / "out", "expected the runs' tokenizer")


def test_refuses_code_that_is_not_what_the_ledger_knows(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run1", 1), code_sha256="0" * 64)
    refused(make_claim(tmp_path, run), tmp_path / "out", "expected the sha256 of the ledger")


def test_refuses_code_that_is_not_what_was_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run1", 1, code_sha256="0" * 64)
    refused(make_claim(tmp_path, run), tmp_path / "out", "expected the sha256 of the measurement")


def test_refuses_runs_of_different_code(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "run1", 1), make_run(tmp_path / "run2", 2, pack("x = 1\n"))]
    refused(make_claim(tmp_path, *runs), tmp_path / "out", "expected the same train_gpt.py in every run, got 2")


def test_refuses_one_byte_over_the_limit(tmp_path: Path) -> None:
    size = len(packed_code()) + len(WEIGHTS)
    run = make_run(tmp_path / "run1", 1)
    refused(
        make_claim(tmp_path, run, limits=Limits(artifact_bytes=size - 1)), tmp_path / "out", "at most .* artifact bytes"
    )
    export(make_claim(tmp_path, run, limits=Limits(artifact_bytes=size)), tmp_path / "out")


def test_refuses_counts_that_do_not_add_up(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run1", 1, artifact_bytes=1000)
    refused(make_claim(tmp_path, run), tmp_path / "out", "expected 1000 bytes of code and weights")


def test_refuses_weights_that_are_not_the_measured_ones(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    (claim.runs[0].folder / "weights.bin").write_bytes(b"other")
    export(claim, tmp_path / "out")
    refused(claim, tmp_path / "out2", "expected the measured sha256", with_weights=True)
    (claim.runs[0].folder / "weights.bin").unlink()
    refused(claim, tmp_path / "out2", "expected the run's weights", with_weights=True)


def test_refuses_another_tokenizer_than_the_runs_had(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    claim.origin.tokenizer_path.write_bytes(b"built anew since")
    refused(claim, tmp_path / "out", r"train_seed1337.log:\d+: tokenizer_sha256: expected \w{64}, got another")


def test_refuses_code_that_is_not_packed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run1", 1, b"print('plain')\n")
    refused(make_claim(tmp_path, run), tmp_path / "out", "expected a self-extracting file")


def test_refuses_a_log_of_other_numbers(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    log = claim.runs[0].folder / "train.log"
    log.write_text(log.read_text().replace("val_bpb:1.201", "val_bpb:1.101"))
    refused(claim, tmp_path / "out", r"expected a folder that verifies, got refuse: submission.json:\d+: .*\[score\]")


def test_exported_folder_verifies(tmp_path: Path) -> None:
    assert verify(export(make_claim(tmp_path), tmp_path / "out")) == []


def test_name_is_the_entry_s_own(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    assert claim.name == "ladder trial 12"
    entry = Entry(author="a", github_id="b", date="2026-01-01", name="Mine")
    assert replace(claim, entry=entry).name == "Mine"


def test_seed_run_hash_is_of_the_file(tmp_path: Path) -> None:
    run: SeedRun = make_run(tmp_path / "run1", 1)
    assert run.code_sha256 == hashlib.sha256((run.folder / "train_gpt.py").read_bytes()).hexdigest()
