"""Token shards: reading them, as a validation split and as one endless stream."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.errors import DataError

SHARD_MAGIC = 20240520
SHARD_VERSION = 1
SHARD_HEADER_BYTES = 1024  # 256 little-endian int32: magic, version, number of tokens, zeros
SEARCHED_TOKENS = 16_384  # looked through at a time; a document has about a thousand tokens
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


def check_vocabulary(ids: np.ndarray[Any, Any], vocab_size: int, path: Path) -> None:
    """Refuse ids that the model has no embedding for.

    Raises:
        DataError: an id is vocab_size or more.
    """
    if ids.size and int(ids.max()) >= vocab_size:
        raise DataError(f"{path}: shard of another vocabulary: expected ids below {vocab_size}, got {int(ids.max())}")


class TokenStream:
    """The training shards of a folder end to end, in the order of their names, endlessly repeated.

    Attributes:
        paths: the shards.
        sizes_S: (S,) tokens of each shard.
        firsts_S: (S,) position of each shard's first token.

    Raises:
        DataError: there is no shard, or one is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = list_shards(folder, "train")
        # Plain arrays over the maps: slicing an np.memmap costs several times as much.
        self._shards = [np.asarray(read_shard(path)) for path in self.paths]
        self.sizes_S = np.array([shard.size for shard in self._shards], dtype=np.int64)
        self._ends_S = np.cumsum(self.sizes_S)
        self.firsts_S = self._ends_S - self.sizes_S
        self.num_tokens = int(self._ends_S[-1])

    def read_into(self, ids_T: np.ndarray[Any, np.dtype[np.int32]], start: int) -> None:
        """Fill ids_T with the tokens from a position on. Only these are read, not their whole shard."""
        filled = 0
        while filled < ids_T.size:
            shard, first = self._locate(start + filled)
            part = self._shards[shard][first : first + ids_T.size - filled]
            ids_T[filled : filled + part.size] = part
            filled += part.size

    def path_at(self, position: int) -> Path:
        """The shard that holds a position."""
        return self.paths[self._locate(position)[0]]

    def find(self, token: int, start: int) -> int | None:
        """The first position at or after start that holds token; None where no shard holds it."""
        position = start
        while position < start + self.num_tokens:
            shard, first = self._locate(position)
            part = self._shards[shard][first : first + SEARCHED_TOKENS]
            found = np.flatnonzero(part == token)
            if found.size:
                return position + int(found[0])
            position += part.size
        return None

    def _locate(self, position: int) -> tuple[int, int]:
        """The shard that holds a position, and the token's index in it."""
        wrapped = position % self.num_tokens
        shard = int(np.searchsorted(self._ends_S, wrapped, side="right"))
        return shard, wrapped - int(self.firsts_S[shard])
