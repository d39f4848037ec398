"""The orders of training batches: against their definitions, over world sizes, and what data they refuse.

Shards hold their positions in the stream as tokens, so a row's first token says where it starts.
"""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_files import VOCAB_SIZE, write_shard, write_shards

from trainer.errors import DataError
from trainer.layers import BOS_ID
from trainer.loaders import BatchLoader, open_loader
from trainer.train_config import Loader

CPU = torch.device("cpu")
BLOCK_ORDERS = (Loader.COPRIME_STRIDE, Loader.SHUFFLED)
SIZES = st.lists(st.integers(1, 70), min_size=1, max_size=4).filter(lambda sizes: max(sizes) > 12)
each_order = pytest.mark.parametrize("kind", Loader)
each_block_order = pytest.mark.parametrize("kind", BLOCK_ORDERS)


def loader(
    folder: Path,
    kind: Loader = Loader.SEQUENTIAL,
    num_rows: int = 2,
    seq_len: int = 8,
    rank: int = 0,
    world_size: int = 1,
    seed: int = 0,
) -> BatchLoader:
    return open_loader(kind, folder, num_rows * seq_len, seq_len, VOCAB_SIZE, rank, world_size, CPU, seed)


def starts_of(stream: BatchLoader) -> Iterator[int]:
    """Where row after row starts, endlessly."""
    while True:
        yield from stream.next_batch()[0][:, 0].tolist()


def some_starts(stream: BatchLoader, count: int) -> list[int]:
    starts = starts_of(stream)
    return [next(starts) for _ in range(count)]


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
    num_rows = rows_per_rank * world_size
    with TemporaryDirectory() as name:
        folder = Path(name)
        stream = write_shards(folder, "train", sizes)
        ranks = [loader(folder, Loader.SEQUENTIAL, num_rows, seq_len, rank, world_size) for rank in range(world_size)]
        for batch in range(4):
            parts = [rank.next_batch() for rank in ranks]
            x_BT, y_BT = (torch.cat(side) for side in zip(*parts, strict=True))
            start = batch * num_rows * seq_len
            span = [stream[i % len(stream)] for i in range(start, start + num_rows * seq_len + 1)]
            assert x_BT.flatten().tolist() == span[:-1]
            assert y_BT.flatten().tolist() == span[1:]
            assert x_BT.shape == y_BT.shape == (num_rows, seq_len)
            assert all(x.shape == (rows_per_rank, seq_len) for x, _ in parts)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(list(Loader)),
    sizes=SIZES,
    rows_per_rank=st.integers(1, 3),
    seq_len=st.integers(8, 12),
    world_size=st.sampled_from([2, 4, 8]),
    seed=st.integers(-3, 3),
)
def test_a_global_batch_is_the_same_for_any_number_of_ranks(
    kind: Loader, sizes: list[int], rows_per_rank: int, seq_len: int, world_size: int, seed: int
) -> None:
    num_rows = rows_per_rank * world_size
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder, "train", sizes)
        alone = loader(folder, kind, num_rows, seq_len, seed=seed)
        ranks = [loader(folder, kind, num_rows, seq_len, rank, world_size, seed) for rank in range(world_size)]
        for _ in range(5):
            parts = [rank.next_batch() for rank in ranks]
            for expected, side in zip(alone.next_batch(), zip(*parts, strict=True), strict=True):
                assert expected.shape == (num_rows, seq_len)
                assert torch.equal(torch.cat(side), expected)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(BLOCK_ORDERS),
    sizes=SIZES,
    num_rows=st.integers(1, 12),
    seq_len=st.integers(8, 12),
    seed=st.integers(0, 9),
)
def test_an_epoch_holds_every_block_of_every_shard_once(
    kind: Loader, sizes: list[int], num_rows: int, seq_len: int, seed: int
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder, "train", sizes)
        stream = loader(folder, kind, num_rows, seq_len, seed=seed)
        batches = [stream.next_batch() for _ in range(sum(sizes) // num_rows + 1)]
    rows = [
        (x.tolist(), y.tolist()) for x_BT, y_BT in batches for x, y in zip(x_BT.unbind(), y_BT.unbind(), strict=True)
    ]
    assert all(y == list(range(x[0] + 1, x[0] + seq_len + 1)) and x[1:] == y[:-1] for x, y in rows)
    starts = [x[0] for x, _ in rows]
    expected = list[int]()
    for first, size in zip(np.cumsum([0, *sizes]).tolist(), sizes, strict=False):
        if size > seq_len:
            start = next(start for start in starts if first <= start < first + size)
            phase = (start - first) % seq_len
            expected += range(first + phase, first + size - seq_len, seq_len)
    epoch = starts[: len(expected)]
    assert sorted(epoch) == sorted(expected)


@each_block_order
def test_blocks_are_cut_and_ordered_anew_in_each_epoch(tmp_path: Path, kind: Loader) -> None:
    write_shards(tmp_path, "train", [800])
    starts = some_starts(loader(tmp_path, kind), 200)
    phases = {start % 8 for start in starts}
    assert len(phases) >= 2
    assert len(set(starts[:99])) == 99  # 99 blocks, or 98 and the first of the next epoch


@each_block_order
def test_seeds_differ_and_one_seed_repeats_anywhere(tmp_path: Path, kind: Loader) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write_shards(tmp_path / name, "train", [300, 500])
    here, there = (some_starts(loader(tmp_path / name, kind, seed=7), 150) for name in ("here", "there"))
    assert here == there
    assert here != some_starts(loader(tmp_path / "here", kind, seed=8), 150)


@each_order
def test_reset_starts_over_and_batches_are_int64(tmp_path: Path, kind: Loader) -> None:
    write_shards(tmp_path, "train", [70, 50])
    stream = loader(tmp_path, kind, num_rows=1)
    first = [stream.next_batch() for _ in range(20)]
    stream.reset()
    again = [stream.next_batch() for _ in range(20)]
    assert all(torch.equal(a, b) for pair in zip(first, again, strict=True) for a, b in zip(*pair, strict=True))
    assert kind is Loader.DOCUMENTS or not torch.equal(first[0][0], first[1][0])
    assert first[0][0].dtype == first[0][1].dtype == torch.int64
    assert first[0][0].is_contiguous()
    assert first[0][1].is_contiguous()
    assert stream.num_tokens == 120


def test_a_shard_s_blocks_follow_by_a_stride_coprime_to_their_number(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", [9 * 8 + 1])  # 9 blocks from phase 0, 8 from any other
    strides = set[int]()
    for seed in range(20):
        starts = some_starts(loader(tmp_path, Loader.COPRIME_STRIDE, num_rows=1, seed=seed), 8)
        count = 9 if starts[0] % 8 == 0 else 8
        blocks = [start // 8 for start in starts]
        steps = {(after - before) % count for before, after in itertools.pairwise(blocks)}
        assert len(steps) == 1
        strides |= steps
        assert all(math.gcd(step, count) == 1 for step in steps)
    assert len(strides) > 2


def test_a_batch_of_the_coprime_order_mixes_shards_by_the_root_of_what_is_left(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", [8 * 90 + 8, 8 * 10 + 8])
    from_second = 0
    for seed in range(200):
        starts = some_starts(loader(tmp_path, Loader.COPRIME_STRIDE, num_rows=4, seed=seed), 4)
        from_second += sum(start >= 728 for start in starts)
    assert from_second / 800 == pytest.approx(1 / (1 + math.sqrt(90 / 10)), abs=0.05)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    starts=st.lists(st.integers(0, 119), min_size=1, max_size=6),
    num_rows=st.integers(1, 3),
)
def test_a_batch_of_documents_starts_at_the_first_bos_after_the_one_before(
    sizes: list[int], starts: list[int], num_rows: int
) -> None:
    tokens = np.arange(sum(sizes)) + 10
    tokens[[start % len(tokens) for start in starts]] = BOS_ID
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder, "train", sizes, tokens)
        stream, position = loader(folder, Loader.DOCUMENTS, num_rows), 0
        for _ in range(6):
            x_BT, y_BT = stream.next_batch()
            while tokens[position % len(tokens)] != BOS_ID:
                position += 1
            span = [int(tokens[i % len(tokens)]) for i in range(position, position + num_rows * 8 + 1)]
            assert x_BT.flatten().tolist() == span[:-1]
            assert y_BT.flatten().tolist() == span[1:]
            position += num_rows * 8


def test_documents_may_be_longer_than_what_is_searched_at_a_time(tmp_path: Path) -> None:
    tokens = np.full(50_000, 5)
    tokens[40_000] = BOS_ID
    write_shards(tmp_path, "train", [30_000, 20_000], tokens)
    x_BT, _ = loader(tmp_path, Loader.DOCUMENTS).next_batch()
    assert x_BT.flatten().tolist() == [BOS_ID] + [5] * 15


def test_a_stream_without_documents_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", [30, 30], np.full(60, 5))
    message = r"fineweb_train_000000\.bin: expected a BOS \(id 1\) here or in a later shard, got none"
    with pytest.raises(DataError, match=message):
        loader(tmp_path, Loader.DOCUMENTS)


@each_block_order
def test_shards_shorter_than_a_block_are_left_out_and_refused_where_nothing_is_left(
    tmp_path: Path, kind: Loader
) -> None:
    write_shards(tmp_path, "train", [8, 9, 3])
    assert some_starts(loader(tmp_path, kind), 6) == [8] * 6
    write_shard(tmp_path / "fineweb_train_000001.bin", np.arange(8))
    with pytest.raises(DataError, match="expected a training shard of over 8 tokens, got 8"):
        loader(tmp_path, kind)


@pytest.mark.parametrize("kind", [Loader.SEQUENTIAL, Loader.DOCUMENTS])
def test_a_stream_shorter_than_a_batch_repeats_within_it(tmp_path: Path, kind: Loader) -> None:
    write_shards(tmp_path, "train", [3])
    x_BT, y_BT = loader(tmp_path, kind).next_batch()
    shift = 0 if kind is Loader.SEQUENTIAL else BOS_ID
    assert x_BT.flatten().tolist() == ([0, 1, 2] * 6)[shift : shift + 16]
    assert y_BT.flatten().tolist() == ([1, 2, 0] * 6)[shift : shift + 16]


@each_order
def test_ids_of_another_vocabulary_are_refused_with_their_shard(tmp_path: Path, kind: Loader) -> None:
    write_shards(tmp_path, "train", [40])
    write_shard(tmp_path / "fineweb_train_000001.bin", np.array([5, VOCAB_SIZE, BOS_ID, 4] * 10))
    message = f"shard of another vocabulary: expected ids below {VOCAB_SIZE}, got {VOCAB_SIZE}"
    with pytest.raises(DataError, match=f"fineweb_train_000001.bin: {message}"):
        some_starts(loader(tmp_path, kind), 20)


def test_a_built_dataset_streams(quickstart_data: Path) -> None:
    stream = open_loader(Loader.SEQUENTIAL, quickstart_data, 2048, 256, 1024, 0, 1, CPU, 0)
    x_BT, _ = stream.next_batch()
    assert int(x_BT[0, 0]) == BOS_ID
    assert stream.num_tokens > 1_000_000
