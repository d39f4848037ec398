"""Checks of a dataset find each planted damage."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from written_documents import sample_texts, without_space_piece, write_documents

from search.data import build_dataset
from search.data_check import check_dataset
from search.errors import DatasetError
from search.shards import HEADER_BYTES, ShardWriter, read_shard


def damage(folder: Path, tokenizer: Path | None = None) -> dict[str, str]:
    """Names and details of the checks that failed."""
    return {check.name: check.detail for check in check_dataset(folder, tokenizer) if not check.ok}


def change(folder: Path, split: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Rewrite the only shard of a split; its manifest goes, since it would notice first."""
    ids = edit(np.array(read_shard(folder / f"fineweb_{split}_000000.bin")))
    (folder / "dataset.json").unlink(missing_ok=True)
    writer = ShardWriter(folder, split, 100_000_000)
    writer.write(ids.astype(np.uint16))
    writer.close()


def test_good_dataset_passes_every_check(quickstart_data: Path) -> None:
    checks = check_dataset(quickstart_data)
    names = ["shard files", "space piece", "token range", "BOS", "manifest", "tokenizer fits", "bytes", "splits"]
    assert [check.name for check in checks] == names
    assert all(check.ok for check in checks)
    assert "bytes/token" in checks[6].detail


def test_published_dataset_has_no_manifest(dataset: Path, tokenizer: Path) -> None:
    (dataset / "dataset.json").unlink()
    (dataset / "tokenizer.model").unlink()
    assert damage(dataset, tokenizer) == {}


@pytest.mark.parametrize("split", ["train", "val"])
def test_finds_truncated_shard(dataset: Path, split: str) -> None:
    path = dataset / f"fineweb_{split}_000000.bin"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    found = damage(dataset)["shard files"]
    assert f"fineweb_{split}_000000.bin: length in bytes: expected {size}, got {size - 2}" in found


@pytest.mark.parametrize(("position", "name"), [(0, "magic"), (4, "version"), (8, "length in bytes")])
def test_finds_bad_header(dataset: Path, position: int, name: str) -> None:
    path = dataset / "fineweb_val_000000.bin"
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    assert f"fineweb_val_000000.bin: {name}: expected " in damage(dataset)["shard files"]


def test_finds_empty_shard(dataset: Path) -> None:
    path = dataset / "fineweb_val_000000.bin"
    path.write_bytes(path.read_bytes()[:HEADER_BYTES])
    assert f"got {HEADER_BYTES} bytes" in damage(dataset)["shard files"]


def test_finds_ids_beyond_the_vocabulary(dataset: Path) -> None:
    def edit(ids: np.ndarray) -> np.ndarray:
        ids[77] = 1024
        return ids

    change(dataset, "train", edit)
    assert damage(dataset) == {"token range": "fineweb_train_000000.bin: expected ids below 1024, got 1024"}


def test_finds_missing_first_bos(dataset: Path) -> None:
    change(dataset, "val", lambda ids: ids[1:])
    assert "fineweb_val_000000.bin: expected BOS (id 1) first, got id" in damage(dataset)["BOS"]


def test_finds_end_of_text_tokens(dataset: Path) -> None:
    change(dataset, "train", lambda ids: np.insert(ids, 9, 2))
    assert damage(dataset) == {"BOS": "fineweb_train_000000.bin: expected BOS only, got </s> at token 9"}


def test_finds_tokenizer_without_space_piece(dataset: Path, tokenizer: Path, tmp_path: Path) -> None:
    assert (
        "expected a stand-alone ▁, got none" in damage(dataset, without_space_piece(tokenizer, tmp_path))["space piece"]
    )


def test_finds_tokenizer_of_the_same_size_from_other_text(dataset: Path, tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", [text[::-1] for text in sample_texts()])
    build_dataset(docs, tmp_path / "other", 1024, 1)
    found = damage(dataset, tmp_path / "other" / "tokenizer.model")
    assert {"manifest", "tokenizer fits"} <= set(found)
    assert "expected" in found["manifest"]


def test_finds_validation_document_in_train(dataset: Path) -> None:
    val = np.array(read_shard(dataset / "fineweb_val_000000.bin"))
    starts = np.flatnonzero(val == 1)
    change(dataset, "train", lambda ids: np.concatenate([ids, val[starts[4] : starts[5]]]))
    assert damage(dataset) == {"splits": "validation document 5 is also train document 44"}


def test_finds_bytes_that_differ_from_the_text(dataset: Path) -> None:
    """Half a character: its bytes count, yet decode to a replacement character of three."""
    change(dataset, "val", lambda ids: np.insert(ids, 5, 4 + 0xF0))
    assert "val document 1: expected its decoded" in damage(dataset)["bytes"]


def test_finds_shards_other_than_the_manifest_says(dataset: Path) -> None:
    manifest = json.loads((dataset / "dataset.json").read_text())
    tokens = manifest["train"]["tokens"]
    manifest["train"]["tokens"] = tokens + 1
    (dataset / "dataset.json").write_text(json.dumps(manifest))
    assert f"dataset.json: train tokens: expected {tokens + 1}, got {tokens}" in damage(dataset)["manifest"]
    (dataset / "dataset.json").write_text("[]")
    assert "expected what caddie data build writes" in damage(dataset)["manifest"]


def test_unusable_dataset(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: expected a folder of shards, got none"):
        check_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="expected a SentencePiece model, got No such file"):
        check_dataset(dataset, tmp_path / "gone.model")
    (dataset / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(DatasetError, match="expected a SentencePiece model, got 8 other bytes"):
        check_dataset(dataset)
    (dataset / "fineweb_val_000000.bin").unlink()
    with pytest.raises(DatasetError, match=r"expected fineweb_val_\*\.bin, got no such file"):
        check_dataset(dataset)
