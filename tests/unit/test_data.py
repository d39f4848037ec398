"""Shards: read as a validation split and as a stream, and damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch
from shard_files import VOCAB_SIZE, write_shard, write_shards

from search.shards import ShardWriter
from trainer.data import TokenStream, list_shards, load_validation, read_shard
from trainer.errors import DataError


def test_writer_and_reader_agree_across_shards(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "val", shard_tokens=10)
    ids = np.arange(25, dtype=np.uint16)
    for start in range(0, 25, 4):
        writer.write(ids[start : start + 4])
    writer.close()
    shards = [read_shard(path) for path in list_shards(tmp_path, "val")]
    assert [shard.size for shard in shards] == [10, 10, 5]
    assert np.array_equal(np.concatenate(shards), ids)
    assert (writer.num_shards, writer.num_tokens) == (3, 25)


@pytest.mark.parametrize(("limit", "expected"), [(None, 50), (49, 50), (30, 31), (12, 13), (9, 10), (1000, 50)])
def test_validation_is_the_head_of_all_shards(tmp_path: Path, limit: int | None, expected: int) -> None:
    stream = write_shards(tmp_path, "val", [13, 30, 7])
    tokens_T = load_validation(tmp_path, limit, 8, VOCAB_SIZE)
    assert tokens_T.dtype == torch.uint16
    assert tokens_T.tolist() == stream[:expected]


@pytest.mark.parametrize(("size", "limit"), [(8, None), (100, 7)])
def test_validation_shorter_than_a_window(tmp_path: Path, size: int, limit: int | None) -> None:
    write_shards(tmp_path, "val", [size])
    with pytest.raises(DataError, match="validation: expected at least 9 tokens, got 8"):
        load_validation(tmp_path, limit, 8, VOCAB_SIZE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"magic": 7}, "magic: expected 20240520, got 7"),
        ({"version": 2}, "version: expected 1, got 2"),
        ({"count": 60}, "length in bytes: expected 1144, got 1124"),
    ],
)
def test_damaged_header(tmp_path: Path, damage: dict[str, int], message: str) -> None:
    path = tmp_path / "fineweb_train_000000.bin"
    write_shard(path, np.arange(50), **damage)
    with pytest.raises(DataError, match=f"fineweb_train_000000.bin: {message}"):
        TokenStream(tmp_path)


@pytest.mark.parametrize("keep", [0, 1000, 1024, 1123])
def test_truncated_shard(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "fineweb_train_000000.bin"
    write_shard(path, np.arange(50))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"expected .*, got {keep}"):
        read_shard(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected fineweb_train_\*\.bin, got no such file"):
        TokenStream(tmp_path)
    with pytest.raises(DataError, match=r"expected fineweb_val_\*\.bin, got no such file"):
        load_validation(tmp_path / "nowhere", None, 8, VOCAB_SIZE)
    with pytest.raises(DataError, match="expected a shard, got No such file"):
        read_shard(tmp_path / "fineweb_val_000000.bin")


def test_byte_sidecars_are_not_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, "val", [20])
    write_shard(tmp_path / "fineweb_val_bytes_000000.bin", np.arange(20))
    assert [path.name for path in list_shards(tmp_path, "val")] == ["fineweb_val_000000.bin"]


def test_shard_of_another_vocabulary(tmp_path: Path) -> None:
    write_shard(tmp_path / "fineweb_val_000000.bin", np.array([1, 5, VOCAB_SIZE, 3] * 5))
    message = f"shard of another vocabulary: expected ids below {VOCAB_SIZE}, got {VOCAB_SIZE}"
    with pytest.raises(DataError, match=f"fineweb_val_000000.bin: {message}"):
        load_validation(tmp_path, None, 8, VOCAB_SIZE)
