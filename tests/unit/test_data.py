"""Shards and the training stream: against a slow stream from the definition, over world sizes, and damaged."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search.shards import MAGIC, VERSION, ShardWriter
from trainer.data import list_shards, load_validation, read_shard
from trainer.errors import DataError
from trainer.loaders import BatchLoader, open_loader
from trainer.train_config import Loader

CPU = torch.device("cpu")
VOCAB_SIZE = 1000


def write_shards(folder: Path, split: str, sizes: Sequence[int]) -> list[int]:
    """Shards of the given sizes; returns their tokens: 0, 1, 2, ... modulo the vocabulary."""
    stream = np.arange(sum(sizes)) % VOCAB_SIZE
    start = 0
    for index, size in enumerate(sizes):
        write_shard(folder / f"fineweb_{split}_{index:06d}.bin", stream[start : start + size])
        start += size
    return stream.tolist()


def write_shard(
    path: Path, ids: np.ndarray, magic: int = MAGIC, version: int = VERSION, count: int | None = None
) -> None:
    """A shard, written from the format's description."""
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + ids.astype("<u2").tobytes())


def loader(folder: Path, batch_tokens: int = 16, seq_len: int = 8, rank: int = 0, world_size: int = 1) -> BatchLoader:
    return open_loader(Loader.SEQUENTIAL, folder, batch_tokens, seq_len, VOCAB_SIZE, rank, world_size, CPU, 0)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    rows_per_rank=st.integers(1, 3),
    seq_len=st.integers(8, 12),
    world_size=st.sampled_from([1, 2, 4, 8]),
)
def test_ranks_together_read_the_endless_stream(
    sizes: list[int], rows_per_rank: int, seq_len: int, world_size: int
) -> None:
    batch_tokens = rows_per_rank * world_size * seq_len
    with TemporaryDirectory() as name:
        folder = Path(name)
        stream = write_shards(folder, "train", sizes)
        ranks = [loader(folder, batch_tokens, seq_len, rank, world_size) for rank in range(world_size)]
        for batch in range(4):
            parts = [rank.next_batch() for rank in ranks]
            x_BT, y_BT = (torch.cat(side) for side in zip(*parts, strict=True))
            start = batch * batch_tokens
            span = [stream[i % len(stream)] for i in range(start, start + batch_tokens + 1)]
            assert x_BT.flatten().tolist() == span[:-1]
            assert y_BT.flatten().tolist() == span[1:]
            assert x_BT.shape == y_BT.shape == (rows_per_rank * world_size, seq_len)
            assert all(x.shape == (rows_per_rank, seq_len) for x, _ in parts)


def test_batches_are_int64_and_reset_starts_over(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", [100])
    stream = loader(tmp_path)
    first = stream.next_batch()
    second = stream.next_batch()
    stream.reset()
    assert first[0].dtype == first[1].dtype == torch.int64
    assert not torch.equal(first[0], second[0])
    assert torch.equal(stream.next_batch()[0], first[0])
    assert stream.num_tokens == 100


def test_a_shard_smaller_than_a_batch_repeats(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", [3])
    x_BT, y_BT = loader(tmp_path).next_batch()
    assert x_BT.flatten().tolist() == ([0, 1, 2] * 6)[:16]
    assert y_BT.flatten().tolist() == ([1, 2, 0] * 6)[:16]


def test_built_dataset_streams(quickstart_data: Path) -> None:
    stream = open_loader(Loader.SEQUENTIAL, quickstart_data, 2048, 256, 1024, 0, 1, CPU, 0)
    x_BT, _ = stream.next_batch()
    assert int(x_BT[0, 0]) == 1  # BOS
    assert stream.num_tokens > 1_000_000


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
        loader(tmp_path)


@pytest.mark.parametrize("keep", [0, 1000, 1024, 1123])
def test_truncated_shard(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "fineweb_train_000000.bin"
    write_shard(path, np.arange(50))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"expected .*, got {keep}"):
        read_shard(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected fineweb_train_\*\.bin, got no such file"):
        loader(tmp_path)
    with pytest.raises(DataError, match=r"expected fineweb_val_\*\.bin, got no such file"):
        load_validation(tmp_path / "nowhere", None, 8, VOCAB_SIZE)
    with pytest.raises(DataError, match="expected a shard, got No such file"):
        read_shard(tmp_path / "fineweb_val_000000.bin")


def test_byte_sidecars_are_not_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, "val", [20])
    write_shard(tmp_path / "fineweb_val_bytes_000000.bin", np.arange(20))
    assert [path.name for path in list_shards(tmp_path, "val")] == ["fineweb_val_000000.bin"]


def test_shard_of_another_vocabulary(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_shard(tmp_path / f"fineweb_{split}_000000.bin", np.array([1, 5, VOCAB_SIZE, 3] * 5))
    message = f"shard of another vocabulary: expected ids below {VOCAB_SIZE}, got {VOCAB_SIZE}"
    with pytest.raises(DataError, match=f"fineweb_train_000000.bin: {message}"):
        loader(tmp_path).next_batch()
    with pytest.raises(DataError, match=f"fineweb_val_000000.bin: {message}"):
        load_validation(tmp_path, None, 8, VOCAB_SIZE)
