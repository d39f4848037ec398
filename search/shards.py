"""Token shards: 256 little-endian int32 of header, then uint16 token ids. Needs no torch."""

import re
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from search.errors import DatasetError

MAGIC = 20240520
VERSION = 1
HEADER_BYTES = 1024
_INDEX = re.compile(r"fineweb_[a-z]+_(\d+)\.bin")
Ids = np.ndarray[tuple[int], np.dtype[np.uint16]]


def shard_path(folder: Path, split: str, index: int) -> Path:
    """Where shard number index of a split (train or val) lies."""
    return folder / f"fineweb_{split}_{index:06d}.bin"


def list_shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order.

    Raises:
        DatasetError: there is no such folder, it has none, or one is missing between two others.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of shards, got none; see caddie data build --help")
    # Not fineweb_val_*: sidecars named fineweb_val_bytes_* hold byte counts, not tokens.
    paths = sorted(folder.glob(f"fineweb_{split}_[0-9]*.bin"))
    if not paths:
        raise DatasetError(f"{folder}: expected fineweb_{split}_*.bin, got no such file")
    indices = sorted(int(match[1]) for path in paths if (match := _INDEX.fullmatch(path.name)))
    for before, after in pairwise(indices):
        if after > before + 1:
            missing = shard_path(folder, split, before + 1)
            raise DatasetError(f"{missing}: expected a shard before {split} shard {after}, got no such file")
    return paths


def read_shard(path: Path) -> Ids:
    """The token ids of a shard, mapped from the file.

    Raises:
        DatasetError: it cannot be read, or magic, version or length differ from what they must be.
    """
    try:
        size = path.stat().st_size
        header = np.fromfile(path, dtype="<i4", count=HEADER_BYTES // 4)
    except OSError as error:
        raise DatasetError(f"{path}: expected a shard, got {error.strerror}") from error
    if size < HEADER_BYTES + 2:
        raise DatasetError(f"{path}: expected a header of {HEADER_BYTES} bytes and tokens, got {size} bytes")
    magic, version, count = (int(value) for value in header[:3])
    for name, expected, got in (
        ("magic", MAGIC, magic),
        ("version", VERSION, version),
        ("length in bytes", HEADER_BYTES + 2 * count, size),
    ):
        if got != expected:
            raise DatasetError(f"{path}: {name}: expected {expected}, got {got}")
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES, shape=(count,))


class ShardWriter:
    """Writes a stream of token ids as shards of shard_tokens each; only the last may be shorter.

    A document may continue in the next shard: readers see one stream.
    """

    def __init__(self, folder: Path, split: str, shard_tokens: int) -> None:
        self._folder = folder
        self._split = split
        self._shard_tokens = shard_tokens
        self._file: BinaryIO | None = None
        self._file_tokens = 0
        self.num_shards = 0
        self.num_tokens = 0

    def write(self, ids: Ids) -> None:
        """Append ids to the stream."""
        while ids.size:
            file = self._file or self._open_next()
            part = ids[: self._shard_tokens - self._file_tokens]
            file.write(part.astype("<u2").tobytes())
            self._file_tokens += part.size
            self.num_tokens += part.size
            ids = ids[part.size :]
            if self._file_tokens == self._shard_tokens:
                self.close()

    def close(self) -> None:
        """Finish the shard that is being written, if any."""
        if self._file is not None:
            self._file.seek(0)
            self._file.write(_header(self._file_tokens))
            self._file.close()
            self._file = None

    def _open_next(self) -> BinaryIO:
        self._file = shard_path(self._folder, self._split, self.num_shards).open("wb")
        self._file.write(_header(0))  # length 0 until it is complete
        self._file_tokens = 0
        self.num_shards += 1
        return self._file


def _header(num_tokens: int) -> bytes:
    header = np.zeros(HEADER_BYTES // 4, dtype="<i4")
    header[:3] = MAGIC, VERSION, num_tokens
    return header.tobytes()
