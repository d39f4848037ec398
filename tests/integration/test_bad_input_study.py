"""Study files that are wrong and data that is broken, given to the real command: noticed before anything starts."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from refused_commands import STUDY, assert_matches, caddie, early_refusal, refusal

from search.preflight import SAMPLE_TOKENS
from search.shards import HEADER_BYTES


def edit_study(work: Path, old: str, new: str) -> None:
    assert old in STUDY
    (work / "study.yaml").write_text(STUDY.replace(old, new), encoding="utf-8")


# Study files

H100 = "trials: 2\n    accelerator: H100"
STUDY_FILES = {
    "misspelt key": ("name: tiny", "nmae: tiny", ":1: nmae: must be one of name, .*did you mean name.*got nmae"),
    "unknown key": ("name: tiny", "name: tiny\nowner: me", ":2: owner: must be one of name, .* got owner"),
    "rung": ("trials:", "trails:", r":19: rungs\[0\]\.trails: must be one of .*did you mean trials"),
    "budget": ("{train_tokens", "{train_token", r":18: rungs\[0\]\.budget\.train_token: .*did you mean train_tokens"),
    "param": ("optim.matrix_lr", "optim.matrx_lr", r":12: space\.params\.optim\.matrx_lr: must be a field of Recipe"),
    "vocabulary": ("optim.matrix_lr", "model.vocab_size", r":12: space\.params\.model\.vocab_size: must be left out"),
    "set": (
        "num_kv_heads: 1",
        "num_kv_heads: 3",
        r": set\.model\.num_heads: must be a multiple of num_kv_heads 3, got 2",
    ),
    "queue": (
        "space:",
        "queue: [set: {model.num_heads: 3}]\nspace:",
        r":10: queue\[0\]\.set\.model\.model_dim: must be",
    ),
    "type": ("num_layers: 2", "num_layers: two", r":3: set\.model\.num_layers: must be a whole number, got 'two'"),
    "world size": ("eval_tokens: 512", "world_size: 3", r":18: rungs\[0\]\.budget\.world_size: must divide 8, got 3"),
    "yaml": ("name: tiny", "name: [tiny", ":2: must be valid YAML, got: "),
    "machine": ("trials: 2", H100, " rung proxy: expected 1 GPU of kind H100 on one node, got this machine with "),
    "machine, processes": (
        "eval_tokens",
        "world_size: 8, eval_tokens",
        " expected 8 CPUs on one node, got this machine",
    ),
}


@pytest.mark.parametrize("case", STUDY_FILES)
def test_a_wrong_study_file_costs_nothing(work: Path, case: str) -> None:
    if case == "machine, processes" and (os.cpu_count() or 1) >= 8:
        pytest.skip("this machine holds 8 processes")
    old, new, expected = STUDY_FILES[case]
    edit_study(work, old, new)
    line = early_refusal(work, "run", "study.yaml") if "machine" not in case else refusal(work, "run", "study.yaml")
    assert_matches(expected, line)
    assert ("study.yaml" in line) != ("machine" in case)
    if "machine" in case:  # the study was not made: it may still change
        assert "No study yet" in caddie(work, "status").stdout


def test_a_study_file_that_is_missing(work: Path) -> None:
    assert "nosuch.yaml: must be a file that can be read, got No such file" in early_refusal(work, "run", "nosuch.yaml")


def test_another_definition_leaves_the_study_alone(work: Path, sim: None) -> None:
    edit_study(work, "name: tiny", "name: sim")
    line = early_refusal(work, "run", "study.yaml")
    assert_matches(r"study sim: expected the definition it was started with, but recipe\.model\.num_layers was 9", line)
    assert line.endswith("give the new one another name")


# Data


def cut_short(data: Path) -> None:
    path = data / "fineweb_train_000000.bin"
    path.write_bytes(path.read_bytes()[:-2])


def remove_shard_between(data: Path) -> None:
    for index in (1, 3):
        shutil.copyfile(data / "fineweb_train_000000.bin", data / f"fineweb_train_{index:06d}.bin")


def change(data: Path, split: str, edit: Callable[[Any], None]) -> None:
    path = data / f"fineweb_{split}_000000.bin"
    ids = np.memmap(path, dtype="<u2", mode="r+", offset=HEADER_BYTES)
    edit(ids)
    ids.flush()


def put_large_id(data: Path) -> None:
    def edit(ids: Any) -> None:
        ids[5] = 60_000

    change(data, "val", edit)


def shuffle_pieces(data: Path) -> None:
    """Ids in range that stand for other pieces, as of another tokenizer of the same size."""

    def edit(ids: Any) -> None:
        ids[:] = np.where(ids > 300, 1023 - (ids - 301), ids)

    change(data, "val", edit)


def rename_space_piece(data: Path) -> None:
    space, other = (b"\x0a\x03" + piece.encode() + b"\x15" for piece in "▁▂")  # a protobuf string field, then its score
    path = data / "tokenizer.model"
    path.write_bytes(path.read_bytes().replace(space, other))


BROKEN_DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (shutil.rmtree, r"/data: expected a folder of shards, got none; see caddie data build --help"),
    "split": (lambda data: (data / "fineweb_val_000000.bin").unlink(), r"/data: expected fineweb_val_\*\.bin, got no"),
    "shard": (remove_shard_between, r"train_000002\.bin: expected a shard before train shard 3, got no such file"),
    "truncated": (cut_short, r"train_000000\.bin: length in bytes: expected \d+, got \d+"),
    "ids": (put_large_id, r"val_000000\.bin: shard of another vocabulary: expected ids below 1024, got 60000"),
    "pieces": (shuffle_pieces, r"val_000000\.bin: shard of another vocabulary: .* same tokens, got 0 such of "),
    "space piece": (rename_space_piece, r"tokenizer\.model: expected a stand-alone space piece, got none"),
    "tokenizer": (
        lambda data: (data / "tokenizer.model").unlink(),
        r"tokenizer\.model: expected a SentencePiece model",
    ),
}


@pytest.mark.parametrize("case", BROKEN_DATA)
def test_broken_data_is_noticed_before_anything_starts(work: Path, case: str) -> None:
    damage, expected = BROKEN_DATA[case]
    damage(work / "data")
    assert_matches(expected, early_refusal(work, "run", "study.yaml"))


@pytest.mark.parametrize("case", ["folder", "space piece"])
def test_broken_data_makes_no_run_folder(work: Path, case: str) -> None:
    damage, expected = BROKEN_DATA[case]
    damage(work / "data")
    assert_matches(expected.removeprefix("/"), early_refusal(work, "train", "naive_baseline", "--data", "data"))


def test_broken_data_stops_a_promotion(work: Path, sim: None) -> None:
    cut_short(work / "data")
    assert_matches(BROKEN_DATA["truncated"][1], early_refusal(work, "promote", "sim", "--trial", "3"))


def test_a_tokenizer_of_another_size(work: Path) -> None:
    edit_study(work, "set:", "set:\n  model.vocab_size: 2048")
    line = early_refusal(work, "run", "study.yaml")
    assert line.endswith("data/tokenizer.model: expected a vocabulary of model.vocab_size 2048, got 1024")


@pytest.mark.timeout(300)
def test_a_study_goes_on_when_its_data_is_repaired(work: Path) -> None:
    """The damage lies beyond what is looked at beforehand: the first trial finds it, on a real Ray."""
    study = STUDY.replace("train_batch_tokens: 512", "train_batch_tokens: 2048").replace("trials: 2", "trials: 1")
    (work / "study.yaml").write_text(study.replace("train_tokens: 1024", "train_tokens: 18_432"), encoding="utf-8")
    whole = (work / "data" / "fineweb_train_000000.bin").read_bytes()

    def edit(ids: Any) -> None:
        ids[SAMPLE_TOKENS + 1000] = 60_000

    change(work / "data", "train", edit)
    line = refusal(work, "run", "study.yaml")
    assert_matches(r"proxy: .*train_000000\.bin: shard of another vocabulary: expected ids below 1024, got 60000", line)
    (work / "data" / "fineweb_train_000000.bin").write_bytes(whole)
    done = caddie(work, "run", "study.yaml")
    assert done.returncode == 0, done.stderr
    assert "Finished." in done.stdout
    trials = optuna.load_study(study_name="tiny/proxy", storage=f"sqlite:///{work}/caddie.db").get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]  # the first recipe, and it again
    assert trials[0].user_attrs["recipe_hash"] == trials[1].user_attrs["recipe_hash"]
    again = caddie(work, "run", "study.yaml")
    assert again.returncode == 0
    assert "Ray" not in again.stdout  # nothing is left to run
