"""Export: what the folder holds, and that it is the runs' own."""

import hashlib
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import WEIGHTS, make_claim, make_run, measurement_of, packed_code

from search.bundle import bundle, unpack
from search.export.claim import RECORD_TRACK, Claim, Entry, SeedRun
from search.export.folder import export, readable
from search.export.shipped import CHALLENGE_DATASET, CHALLENGE_TOKENIZER
from search.export.submission_json import compliance, needed_packages, requirements
from search.verify.check import verify
from search.verify.finding import Severity
from trainer.config import Budget, Recipe
from trainer.store_config import Compressor

JSON_KEYS = [
    *("author", "github_id", "name", "blurb", "date", "track", "val_loss", "val_bpb", "val_loss_std", "val_bpb_std"),
    *("seeds", "seed_results", "bytes_total", "bytes_code", "hardware", "pytorch_version", "technique_summary"),
    *("compliance", "base_pr"),
]
COMPLIANCE = [
    *("train_under_600s", "artifact_under_16mb", "eval_under_600s", "three_seeds", "no_slot", "no_pre_quant_ttt"),
    *("no_etlb", "no_ngram_cache", "score_first_ttt"),
]


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(("run", "data")))


def test_folder_holds_the_runs_own_files(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    folder = export(claim, tmp_path / "out")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
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
    assert list(values["compliance"]) == COMPLIANCE
    assert values["date"] == "2026-04-01"
    assert all(values["compliance"].values())


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1))
    values = json.loads((export(claim, tmp_path / "out") / "submission.json").read_text())
    assert values["val_bpb_std"] is None
    assert values["val_loss_std"] is None
    assert not values["compliance"]["three_seeds"]


@given(st.lists(st.floats(0.5, 5.0), min_size=1, max_size=6, unique=True), st.floats(1.0, 3.0))
@settings(max_examples=12, deadline=None)
def test_means_and_deviations_of_the_json_are_those_of_its_own_logs(scores: list[float], ratio: float) -> None:
    with tempfile.TemporaryDirectory() as place:
        runs = [
            make_run(Path(place) / f"run{seed}", seed, None, val_bpb=score, val_loss=ratio * score)
            for seed, score in enumerate(scores)
        ]
        folder = export(make_claim(Path(place), *runs), Path(place) / "out")
        values = json.loads((folder / "submission.json").read_text())
        texts = [(folder / f"train_seed{seed}.log").read_text() for seed in values["seeds"]]
    for name, pattern in (("val_loss", r"_exact val_loss:(\S+)"), ("val_bpb", r"_exact val_loss:\S+ val_bpb:(\S+)")):
        logged = [float(re.findall(pattern, text)[-1]) for text in texts]
        assert values[name] == pytest.approx(fmean(logged), abs=1e-8)
        spread = stdev(logged) if len(logged) > 1 else None
        assert values[f"{name}_std"] == (spread if spread is None else pytest.approx(spread, abs=1e-8))
        assert values[name] == fmean(values["seed_results"][str(seed)][name] for seed in values["seeds"])


def test_compliance_says_what_the_runs_say() -> None:
    slow = measurement_of(1, b"", train_seconds=600.1, eval_seconds=600.2, artifact_bytes=16_000_001)
    assert [name for name, is_so in compliance([slow]).items() if not is_so] == COMPLIANCE[:4]
    assert all(compliance([measurement_of(seed, b"") for seed in (1, 2, 3)]).values())


def test_readable_copy_is_decoded_from_the_shipped_file(tmp_path: Path) -> None:
    folder = export(make_claim(tmp_path), tmp_path / "out")
    text = (folder / "train_gpt_readable.py").read_text()
    assert text.endswith(unpack((folder / "train_gpt.py").read_bytes()))
    assert "not executed" in text.splitlines()[0]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Claim, Path]:
    """A claim of the real trainer's code, and its export."""
    folder, made = tmp_path_factory.mktemp("real"), bundle(Recipe(), Budget(train_tokens=1))
    claim = make_claim(folder, make_run(folder / "run1", 1, made.packed), source=made.source)
    return claim, export(claim, folder / "out")


def test_readable_copy_has_comments_if_it_is_provably_the_same_code(real: tuple[Claim, Path]) -> None:
    claim, folder = real
    assert (folder / "train_gpt_readable.py").read_text() == claim.origin.source


@pytest.mark.parametrize("source", ["def broken(:", "print('something else')\n"])
def test_other_source_is_not_shipped(source: str) -> None:
    text = readable("class Recipe:\n    pass\n", source)
    assert source not in text
    assert text.endswith("class Recipe:\n    pass\n")


def test_requirements_are_written_where_the_challenge_s_environment_is_not_enough(real: tuple[Claim, Path]) -> None:
    claim, folder = real
    code = unpack((folder / "train_gpt.py").read_bytes())
    assert needed_packages(claim, code) == ("numpy", "sentencepiece", "torch==2.11.0")
    assert requirements(claim, code) == ""
    zstd = with_compressor(claim, Compressor.ZSTD, "0.25.0")
    assert requirements(zstd, code).splitlines()[1:] == ["numpy", "sentencepiece", "torch==2.11.0", "zstandard==0.25.0"]
    best = with_compressor(claim, Compressor.BEST, "zlib 3.12.3, lzma 3.12.3, zstd 0.25.0, brotli 1.2.0, rans 1")
    assert {"brotli==1.2.0", "zstandard==0.25.0"} < set(requirements(best, code).splitlines())
    assert requirements(with_compressor(claim, Compressor.BEST, "zlib 3.12.3, lzma 3.12.3, rans 1"), code) == ""
    assert not (folder / "requirements.txt").exists()
    assert "pip install numpy sentencepiece torch==2.11.0\n" in (folder / "README.md").read_text()


def test_requirements_are_in_the_folder_where_they_are_needed(tmp_path: Path) -> None:
    claim = with_compressor(make_claim(tmp_path, make_run(tmp_path / "run1", 1)), Compressor.BROTLI, "1.2.0")
    folder = export(claim, tmp_path / "out")
    assert (folder / "requirements.txt").read_text().splitlines()[1:] == ["brotli==1.2.0"]
    assert "pip install -r requirements.txt\n" in (folder / "README.md").read_text()


def with_compressor(claim: Claim, compressor: Compressor, version: str) -> Claim:
    run = claim.runs[0]
    return replace(
        claim,
        origin=replace(claim.origin, recipe=Recipe(compressor=compressor)),
        runs=[replace(run, measurement=replace(run.measurement, compressor_version=version))],
    )


def test_the_challenge_s_own_tokenizer_is_not_shipped(tmp_path: Path) -> None:
    names = {"data_path": Path(CHALLENGE_DATASET), "tokenizer_path": Path(CHALLENGE_TOKENIZER)}
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1), **names)
    folder = export(claim, tmp_path / "out")
    assert not (folder / "tokenizers").exists()
    text = (folder / "README.md").read_text()
    assert "cached_challenge_fineweb.py --variant sp1024" in text
    assert f"TOKENIZER=/path/to/{CHALLENGE_TOKENIZER}" in text
    assert hashlib.sha256(b"tokenizer").hexdigest() in text


@pytest.mark.parametrize("names", [{"tokenizer_path": CHALLENGE_TOKENIZER}, {"data_path": CHALLENGE_DATASET}])
def test_a_tokenizer_that_shares_a_name_only_is_shipped(tmp_path: Path, names: dict[str, str]) -> None:
    (tmp_path / CHALLENGE_TOKENIZER).write_bytes(b"tokenizer")
    changes = {key: tmp_path / name for key, name in names.items()}
    claim = make_claim(tmp_path, make_run(tmp_path / "run1", 1), **changes)
    assert len([*(export(claim, tmp_path / "out") / "tokenizers").glob("*.model")]) == 1


def test_weights_are_shipped_on_request(tmp_path: Path) -> None:
    folder = export(make_claim(tmp_path), tmp_path / "out", with_weights=True)
    assert [(folder / f"weights_seed{seed}.bin").read_bytes() for seed in (7, 42, 1337)] == [WEIGHTS] * 3


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (export(make_claim(tmp_path), tmp_path / "out") / "README.md").is_file()


def test_says_that_a_log_of_an_older_run_has_no_hash(tmp_path: Path) -> None:
    run = replace(make_run(tmp_path / "run1", 1), log_sha256="")
    text = (export(make_claim(tmp_path, run), tmp_path / "out") / "README.md").read_text()
    assert "No hash of the log was recorded as the runs of seeds 1 ended" in text


def test_exported_folder_verifies(tmp_path: Path) -> None:
    findings = verify(export(make_claim(tmp_path), tmp_path / "out"))
    assert [finding for finding in findings if finding.severity is not Severity.NOTE] == []


def test_name_is_the_entry_s_own(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    assert claim.name == "ladder trial 12"
    entry = Entry(author="a", github_id="b", date="2026-01-01", name="Mine")
    assert replace(claim, entry=entry).name == "Mine"


def test_seed_run_hash_is_of_the_file(tmp_path: Path) -> None:
    run: SeedRun = make_run(tmp_path / "run1", 1)
    assert run.code_sha256 == hashlib.sha256((run.folder / "train_gpt.py").read_bytes()).hexdigest()
