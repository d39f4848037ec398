"""Token shards and the stream of training batches cut from them.

Shapes: B rows of this rank, T tokens a row.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.errors import DataError

SHARD_MAGIC = 20240520
SHARD_VERSION = 1
SHARD_HEADER_BYTES = 1024  # 256 little-endian int32: magic, version, number of tokens, zeros
TokenIds = np.ndarray[tuple[int], np.dtype[np.uint16]]


def read_shard(path: Path) -> TokenIds:
    """The token ids of a shard, mapped from the file.

    Raises:
        DataError: the file is missing, or its magic, version or length is not what it must be.

    Source: openai/parameter-golf, train_gpt.py (load_data_shard).
    """
    try:
        size = path.stat().st_size
        header = np.fromfile(path, dtype="<i4", count=SHARD_HEADER_BYTES // 4)
    except OSError as error:
        raise DataError(f"{path}: expected a shard, got {error.strerror}") from error
    if size < SHARD_HEADER_BYTES + 2:
        raise DataError(f"{path}: expected a header of {SHARD_HEADER_BYTES} bytes and tokens, got {size} bytes")
    num_tokens = int(header[2])
    for name, expected, got in (
        ("magic", SHARD_MAGIC, int(header[0])),
        ("version", SHARD_VERSION, int(header[1])),
        ("length in bytes", SHARD_HEADER_BYTES + 2 * num_tokens, size),
    ):
        if got != expected:
            raise DataError(f"{path}: {name}: expected {expected}, got {got}")
    return np.memmap(path, dtype="<u2", mode="r", offset=SHARD_HEADER_BYTES, shape=(num_tokens,))


def list_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split (train or val), in order.

    Raises:
        DataError: there are none.
    """
    # Not fineweb_val_*: sidecars named fineweb_val_bytes_* hold byte counts, not tokens.
    paths = sorted(folder.glob(f"fineweb_{split}_[0-9]*.bin"))
    if not paths:
        raise DataError(f"{folder}: expected fineweb_{split}_*.bin, got no such file")
    return paths


def load_validation(folder: Path, limit: int | None, seq_len: int, vocab_size: int) -> Tensor:
    """(T,) uint16 on the CPU: the validation stream, or its first limit + 1 tokens, so that limit tokens are targets.

    Raises:
        DataError: a shard is missing, damaged or of another vocabulary, or the stream is shorter than one window of
            seq_len tokens and its last target.
    """
    parts: list[TokenIds] = []
    num_tokens = 0
    for path in list_shards(folder, "val"):
        part = read_shard(path)[: None if limit is None else limit + 1 - num_tokens]
        check_vocabulary(part, vocab_size, path)
        parts.append(part)
        num_tokens += part.size
    if num_tokens < seq_len + 1:
        raise DataError(f"{folder}: validation: expected at least {seq_len + 1} tokens, got {num_tokens}")
    tokens = np.concatenate(parts).astype(np.uint16)
    return torch.from_numpy(tokens)


def check_vocabulary(ids: TokenIds, vocab_size: int, path: Path) -> None:
    """Refuse ids that the model has no embedding for.

    Raises:
        DataError: an id is vocab_size or more.
    """
    if ids.size and int(ids.max()) >= vocab_size:
        raise DataError(f"{path}: shard of another vocabulary: expected ids below {vocab_size}, got {int(ids.max())}")


class SequentialLoader:
    """Cuts the training stream, endlessly repeated, into batches.

    Global batch k is the tokens [k * batch_tokens, (k + 1) * batch_tokens + 1) of the stream, as rows of seq_len; rank
    r of N takes the r-th part of the rows. So what a step trains on does not depend on N.

    Args:
        batch_tokens: tokens per step over all ranks.
        device: where batches go; to a CUDA device they are copied from pinned memory, without waiting.

    Raises:
        DataError: there is no shard, or one is damaged.
    """

    def __init__(
        self,
        folder: Path,
        batch_tokens: int,
        seq_len: int,
        vocab_size: int,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        assert batch_tokens % (seq_len * world_size) == 0, "trainer.config.check_fits holds this"
        self._paths = list_shards(folder, "train")
        self._shards = [read_shard(path) for path in self._paths]
        self._ends = np.cumsum([shard.size for shard in self._shards])
        self._batch_tokens = batch_tokens
        self._rank_tokens = batch_tokens // world_size
        self._rank_offset = rank * self._rank_tokens
        self._seq_len = seq_len
        self._vocab_size = vocab_size
        self._device = device
        self._batch = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of the training stream before it repeats."""
        return int(self._ends[-1])

    def reset(self) -> None:
        """Start over at the first batch."""
        self._batch = 0

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """(x_BT, y_BT), int64: this rank's rows of the next global batch, and the token after each.

        Raises:
            DataError: a shard holds ids of another vocabulary.
        """
        ids = self._read(self._batch * self._batch_tokens + self._rank_offset, self._rank_tokens + 1)
        self._batch += 1
        tokens = torch.from_numpy(ids)
        if self._device.type == "cuda":
            tokens = tokens.pin_memory().to(self._device, non_blocking=True)
        tokens = tokens.long()
        return tokens[:-1].view(-1, self._seq_len), tokens[1:].view(-1, self._seq_len)

    def _read(self, start: int, length: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Tokens [start, start + length) of the endless stream.

        Ids are checked here, not a shard at a time: that would read 200 MB while the clock runs.
        """
        ids = np.empty(length, dtype=np.int32)
        filled = 0
        while filled < length:
            position = (start + filled) % self.num_tokens
            index = int(np.searchsorted(self._ends, position, side="right"))
            shard = self._shards[index]
            first = position - int(self._ends[index]) + shard.size
            part = shard[first : first + length - filled]
            check_vocabulary(part, self._vocab_size, self._paths[index])
            ids[filled : filled + part.size] = part
            filled += part.size
        return ids
