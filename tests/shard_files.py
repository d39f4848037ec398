"""Shards of made-up tokens, written from the format's description."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.shards import MAGIC, VERSION

VOCAB_SIZE = 1000


def write_shard(
    path: Path, ids: np.ndarray, magic: int = MAGIC, version: int = VERSION, count: int | None = None
) -> None:
    """One shard; magic, version and count are what its header claims."""
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + ids.astype("<u2").tobytes())


def write_shards(folder: Path, split: str, sizes: Sequence[int], stream: np.ndarray | None = None) -> list[int]:
    """Shards of the given sizes; returns their tokens: the stream's, or 0, 1, 2, ... modulo VOCAB_SIZE."""
    total = sum(sizes)
    tokens = np.arange(total) % VOCAB_SIZE if stream is None else stream[:total]
    start = 0
    for index, size in enumerate(sizes):
        write_shard(folder / f"fineweb_{split}_{index:06d}.bin", tokens[start : start + size])
        start += size
    return tokens.tolist()
