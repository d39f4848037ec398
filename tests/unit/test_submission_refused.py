"""What export refuses, and that nothing is left behind then."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_runs import WEIGHTS, make_claim, make_run, packed_code

from search.bundle import pack
from search.errors import SubmissionError
from search.export.claim import Claim, SeedRun
from search.export.folder import export
from search.spec_parts import Limits
from spaces.fields import recipe_to_dict
from spaces.recipes import named_recipe


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(("run", "data")))


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


def test_refuses_one_byte_over_the_challenge_s_cap_whatever_the_study_allows(tmp_path: Path) -> None:
    size = len(packed_code())
    over = make_run(tmp_path / "run1", 1, weight_bytes=16_000_001 - size, artifact_bytes=16_000_001)
    claim = make_claim(tmp_path, over, limits=Limits(artifact_bytes=10**9))
    refused(claim, tmp_path / "out", "seed 1: expected at most 16000000 artifact bytes, got 16000001, 1 over")
    full = make_run(tmp_path / "run2", 1, weight_bytes=16_000_000 - size, artifact_bytes=16_000_000)
    export(make_claim(tmp_path, full, limits=Limits(artifact_bytes=10**9)), tmp_path / "out")


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
    refused(claim, tmp_path / "out", r"tokenizer.model: expected the tokenizer of the logs, sha256 \w{64}, got \w{64}")


def with_log(run: SeedRun, old: str, new: str, *, is_hashed: bool) -> SeedRun:
    """The run with an edited log, whose hash the store has or does not have."""
    path = run.folder / "train.log"
    edited = path.read_text().replace(old, new)
    assert edited != path.read_text()
    path.write_text(edited)
    return replace(run, log_sha256=hashlib.sha256(edited.encode()).hexdigest() if is_hashed else "")


def test_refuses_runs_of_different_tokenizers(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "run1", 1), make_run(tmp_path / "run2", 2)]
    runs[1] = with_log(runs[1], hashlib.sha256(b"tokenizer").hexdigest(), "0" * 64, is_hashed=True)
    refused(make_claim(tmp_path, *runs), tmp_path / "out", "expected one tokenizer in all logs, got 2")


def test_refuses_a_log_of_another_recipe(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run1", 1)
    logged = json.dumps(recipe_to_dict(named_recipe("baseline_ema")))
    run = with_log(run, "seed:1\n", f"seed:1\nrecipe:{logged}\n", is_hashed=True)
    refused(
        make_claim(tmp_path, run), tmp_path / "out", r"train.log: recipe: ema.*: expected None, as the trial has it"
    )
    export(make_claim(tmp_path, run, recipe=named_recipe("baseline_ema")), tmp_path / "out")


@pytest.mark.parametrize("logged", ['{"unknown": 1}', "{not JSON}", '{"model": {"num_layers": -1}}'])
def test_a_logged_recipe_of_another_version_says_nothing(tmp_path: Path, logged: str) -> None:
    run = with_log(make_run(tmp_path / "run1", 1), "seed:1\n", f"seed:1\nrecipe:{logged}\n", is_hashed=True)
    export(make_claim(tmp_path, run), tmp_path / "out")


def test_refuses_code_that_is_not_packed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run1", 1, b"print('plain')\n")
    refused(make_claim(tmp_path, run), tmp_path / "out", "expected a self-extracting file")


def test_refuses_a_log_that_was_edited_after_the_run(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    log = claim.runs[0].folder / "train.log"
    log.write_text(log.read_text() + "\n")
    refused(claim, tmp_path / "out", r"train.log: expected the sha256 of the ledger, \w{64}, got \w{64}")


@pytest.mark.parametrize(
    ("old", "new"),
    [("val_bpb:1.20000", "val_bpb:1.10000"), ("seed:1\n", "seed:2\n"), ("zlib: 23 bytes", "zlib: 22 bytes")],
)
def test_refuses_a_log_without_hash_that_does_not_agree_with_the_measurement(
    tmp_path: Path, old: str, new: str
) -> None:
    run = with_log(make_run(tmp_path / "run1", 1), old, new, is_hashed=False)
    refused(make_claim(tmp_path, run), tmp_path / "out", "expected a folder that verifies, got refuse: ")


def test_code_that_would_make_the_compliance_list_untrue_is_not_exported(tmp_path: Path) -> None:
    code = pack("import socket\n\nsocket.create_connection(('example.org', 80))\n")
    refused(make_claim(tmp_path, make_run(tmp_path / "run1", 1, code)), tmp_path / "out", r"refuse: .*\[network\]")
