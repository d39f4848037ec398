"""The order in which the training stream is read, and the batches cut from it.

An order says where the rows of each global batch start, as positions in the stream, whatever the number of ranks; rank
r of N then reads the r-th part of them. So what a step trains on does not depend on N.

Shapes: G rows of a global batch, B rows of this rank, T tokens a row, S shards.
"""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor

from trainer.data import TokenStream, check_vocabulary
from trainer.errors import DataError
from trainer.layers import BOS_ID
from trainer.train_config import Loader

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]


def sequential_starts(num_rows: int, seq_len: int) -> Iterator[Positions]:
    """(G,) a batch: batch k is the stream's tokens from k * G * T on.

    Source: openai/parameter-golf, train_gpt.py (DistributedTokenLoader).
    """
    for batch in itertools.count():
        yield (batch * num_rows + np.arange(num_rows)) * seq_len


def document_starts(stream: TokenStream, num_rows: int, seq_len: int) -> Iterator[Positions]:
    """(G,) a batch: the stream in order, each batch from the first BOS at or after the end of the one before.

    Raises:
        DataError: no shard holds a BOS.

    Source: openai/parameter-golf PR 1530, where each rank has such a span of its own.
    """
    start = 0
    while True:
        found = stream.find(BOS_ID, start)
        if found is None:
            raise DataError(f"{stream.paths[0]}: expected a BOS (id {BOS_ID}) here or in a later shard, got none")
        yield found + np.arange(num_rows) * seq_len
        start = found + num_rows * seq_len


def blocks_of_shards(stream: TokenStream, seq_len: int, generator: np.random.Generator) -> list[Positions]:
    """Starts of the blocks of T + 1 tokens of each shard that holds one, in order, from a random phase below T on.

    Neighbouring blocks share a token: the last target of one is the first input of the next.

    Raises:
        DataError: no shard holds a block.
    """
    blocks: list[Positions] = []
    for first, size in zip(stream.firsts_S, stream.sizes_S, strict=True):
        if size > seq_len:
            phase = generator.integers(min(seq_len, size - seq_len))
            blocks.append(first + np.arange(phase, size - seq_len, seq_len))
    if not blocks:
        largest = int(stream.sizes_S.max())
        raise DataError(f"{stream.paths[0].parent}: expected a training shard of over {seq_len} tokens, got {largest}")
    return blocks


def shuffled_starts(stream: TokenStream, num_rows: int, seq_len: int, seed: int) -> Iterator[Positions]:
    """(G,) a batch: every block once in random order, then every block of other phases in another, and so on.

    The record draws a shard by the number of its blocks that are left, then one of them: the same distribution.

    Source: openai/parameter-golf PR 1394.
    """
    generator = generator_of(seed)
    left = np.empty(0, dtype=np.int64)
    while True:
        while left.size < num_rows:
            blocks = np.concatenate(blocks_of_shards(stream, seq_len, generator))
            left = np.concatenate((left, generator.permutation(blocks)))
        yield left[:num_rows]
        left = left[num_rows:]


def coprime_starts(stream: TokenStream, num_rows: int, seq_len: int, seed: int) -> Iterator[Positions]:
    """(G,) a batch: rows of many shards, each shard's blocks by a stride coprime to their number, every block once.

    A row's shard is drawn with probability proportional to the square root of its blocks that are left. The record
    starts with the power 0.9 and few shards, and comes to 0.5 and up to 64 of them over its first 1,800 batches; here
    0.5 and all shards hold from the start, so that a proxy differs from a full run in length alone.

    Source: openai/parameter-golf PR 1060.
    """
    generator = generator_of(seed)
    queues = list[Positions]()
    while True:
        parts, missing = list[Positions](), num_rows
        while missing:
            left_S = np.array([queue.size for queue in queues], dtype=np.int64)
            if left_S.sum() == 0:
                queues = [by_stride(blocks, generator) for blocks in blocks_of_shards(stream, seq_len, generator)]
                continue
            weights_S = np.sqrt(left_S)
            counts_S = np.minimum(generator.multinomial(missing, weights_S / weights_S.sum()), left_S)
            drawn = np.concatenate([queue[:count] for queue, count in zip(queues, counts_S, strict=True)])
            queues = [queue[count:] for queue, count in zip(queues, counts_S, strict=True)]
            parts.append(generator.permutation(drawn))
            missing -= drawn.size
        yield np.concatenate(parts)


def by_stride(blocks: Positions, generator: np.random.Generator) -> Positions:
    """All of them, from a random one on, by a random stride coprime to their number."""
    count = blocks.size
    stride = int(generator.integers(1, count + 1))
    while math.gcd(stride, count) > 1:
        stride = int(generator.integers(1, count + 1))
    return blocks[(int(generator.integers(count)) + stride * np.arange(count)) % count]


def generator_of(seed: int) -> np.random.Generator:
    """Random numbers of a seed; NumPy takes none below 0."""
    return np.random.default_rng(seed % 2**64)


class BatchLoader:
    """Reads this rank's rows of each global batch.

    Args:
        seq_len: T.
        vocab_size: ids must be below it.
        device: where batches go; to a CUDA device they are copied from pinned memory, without waiting.

    Raises:
        DataError: no shard is there, one is damaged, or they do not suffice for the order.
    """

    def __init__(
        self,
        kind: Loader,
        stream: TokenStream,
        num_rows: int,
        rows_of_rank: slice,
        seq_len: int,
        vocab_size: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self._kind, self._stream, self._num_rows, self._rows_of_rank = kind, stream, num_rows, rows_of_rank
        self._seq_len, self._vocab_size, self._device, self._seed = seq_len, vocab_size, device, seed
        self.reset()

    @property
    def num_tokens(self) -> int:
        """Tokens of the training shards."""
        return self._stream.num_tokens

    def reset(self) -> None:
        """Start over at the first batch."""
        starts = self._open_order()
        # The first is taken at once: shuffling billions of tokens' blocks belongs before a run's clock starts.
        self._starts = itertools.chain([next(starts)], starts)

    def _open_order(self) -> Iterator[Positions]:
        match self._kind:
            case Loader.SEQUENTIAL:
                return sequential_starts(self._num_rows, self._seq_len)
            case Loader.COPRIME_STRIDE:
                return coprime_starts(self._stream, self._num_rows, self._seq_len, self._seed)
            case Loader.SHUFFLED:
                return shuffled_starts(self._stream, self._num_rows, self._seq_len, self._seed)
            case Loader.DOCUMENTS:
                return document_starts(self._stream, self._num_rows, self._seq_len)
            case _:
                assert_never(self._kind)

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """(x_BT, y_BT), int64: this rank's rows of the next global batch, and the token after each.

        Raises:
            DataError: a shard holds ids of another vocabulary.
        """
        starts_B = next(self._starts)[self._rows_of_rank]
        ids_BT = np.empty((starts_B.size, self._seq_len + 1), dtype=np.int32)
        for ids_T, start in zip(ids_BT, starts_B.tolist(), strict=True):
            self._stream.read_into(ids_T, start)
        self._check(ids_BT, starts_B)
        tokens_BT = torch.from_numpy(ids_BT)
        if self._device.type == "cuda":
            tokens_BT = tokens_BT.pin_memory().to(self._device, non_blocking=True)
        return tokens_BT[:, :-1].long(), tokens_BT[:, 1:].long()

    def _check(self, ids_BT: np.ndarray[Any, np.dtype[np.int32]], starts_B: Positions) -> None:
        """Refuse ids of another vocabulary.

        Done for each batch, not for each shard: reading 200 MB of one would run on the clock.
        """
        row, column = divmod(int(ids_BT.argmax()), self._seq_len + 1)
        path = self._stream.path_at(int(starts_B[row]) + column)
        check_vocabulary(ids_BT[row, column : column + 1], self._vocab_size, path)


def open_loader(
    kind: Loader,
    folder: Path,
    batch_tokens: int,
    seq_len: int,
    vocab_size: int,
    rank: int,
    world_size: int,
    device: torch.device,
    seed: int,
) -> BatchLoader:
    """The training batches of one rank, endlessly.

    Args:
        folder: holds the training shards.
        batch_tokens: tokens a step over all ranks.
        seq_len: tokens a row.
        seed: of the random orders; they depend on it and on the shards' sizes in the order of their names.

    Raises:
        DataError: no shard is there, one is damaged, or they do not suffice for the order.
    """
    assert batch_tokens % (seq_len * world_size) == 0, "trainer.config.check_fits holds this"
    num_rows = batch_tokens // seq_len
    rows_of_rank = slice(num_rows // world_size * rank, num_rows // world_size * (rank + 1))
    return BatchLoader(kind, TokenStream(folder), num_rows, rows_of_rank, seq_len, vocab_size, device, seed)
