"""Matrices of codes and whatever else a weight file holds through the entropy coder, with the tables it needs.

Four parts: the lengths of the two after it; the tables (LZMA); four streams of bytes with a table each, two of them
the matrices' levels; the codes, whose tables those levels choose.
"""

import struct
from collections.abc import Sequence

import numpy as np

from trainer.compress import compress, decompress
from trainer.errors import ArtifactError
from trainer.levels import (
    MOST_LEVELS,
    Codes,
    Symbols,
    fit_levels,
    from_bytes,
    level_range,
    mirror,
    tables_of,
    to_bytes,
    to_freq,
)
from trainer.rans import rans_decode, rans_encode
from trainer.store_config import Compressor

LENGTHS = struct.Struct("<III")
NUM_STREAMS = 4  # levels of rows, levels of columns, even and odd of the other bytes: fp16 numbers come apart
Family = tuple[str, int]  # role and bits: matrices that share tables
Levels = tuple[Codes, Codes]


def join(parts: Sequence[Codes | Symbols]) -> Symbols:
    """Arrays of bytes, signed or not, as one of unsigned ones."""
    return np.concatenate([np.empty(0, np.uint8), *(part.ravel().view(np.uint8) for part in parts)])


def make_head(streams: list[Symbols], codes: list[Codes], levels: list[Levels], families: list[Family]) -> bytes:
    """All tables: those of the streams, then of each family the first level, the number of levels and a table each."""
    head = [to_bytes(np.stack([np.bincount(stream, minlength=256) for stream in streams])).tobytes()]
    for family in sorted(set(families)):
        members = [index for index, other in enumerate(families) if other == family]
        first, num = level_range([levels[index] for index in members])
        counts_KM = np.zeros((num, 129), np.int64)
        for index in members:
            magnitude_RC = np.abs(codes[index].astype(np.int16))
            places_RC = tables_of(levels[index], first, num) * np.int64(129) + magnitude_RC
            counts_KM += np.bincount(places_RC.ravel(), minlength=counts_KM.size).reshape(counts_KM.shape)
        tables_KM = to_bytes(counts_KM[:, : (1 << (family[1] - 1)) + 1])
        head.append(struct.pack("<bB", first, num) + tables_KM.tobytes())
    return b"".join(head)


class Tables:
    """What a head says.

    Args:
        families: of all matrices.

    Raises:
        ArtifactError: the head is damaged.
    """

    def __init__(self, head: bytes, families: list[Family]) -> None:
        self.stream_freq = to_freq(from_bytes(self.cut(head, 0, NUM_STREAMS, 256)))
        self.ranges: dict[Family, tuple[int, int, int]] = {}
        self.code_freq = np.empty((0, 256), np.uint32)
        offset = NUM_STREAMS * 256
        for family in sorted(set(families)):
            first, num = struct.unpack_from("<bB", head.ljust(offset + 2, b"\0"), offset)
            size = (1 << (family[1] - 1)) + 1
            weights_KM = from_bytes(self.cut(head, offset + 2, num, size))
            self.ranges[family] = (first, num, len(self.code_freq))
            self.code_freq = np.concatenate([self.code_freq, to_freq(mirror(weights_KM, family[1]))])
            offset += 2 + num * size
        self.size = offset

    @staticmethod
    def cut(head: bytes, offset: int, num: int, size: int) -> Symbols:
        """Some tables of a head."""
        if len(head) < offset + num * size or not 1 <= num <= MOST_LEVELS:
            raise ArtifactError("weight file: its tables are damaged")
        return np.frombuffer(head, np.uint8, num * size, offset).reshape(num, size)

    def choose(self, levels: list[Levels], families: list[Family]) -> Symbols:
        """The table of every code of all matrices."""
        parts = [np.empty(0, np.uint8)]
        for pair, family in zip(levels, families, strict=True):
            first, num, base = self.ranges[family]
            parts.append(tables_of(pair, first, num).ravel() + np.uint8(base))
        return np.concatenate(parts)


def streams_of(levels: list[Levels], rest: Symbols) -> list[Symbols]:
    """The bytes besides the codes, like beside like."""
    return [join([rows for rows, _ in levels]), join([columns for _, columns in levels]), rest[::2], rest[1::2]]


def pack_matrices(codes: list[Codes], families: list[Family], rest: bytes) -> bytes:
    """Matrices of codes and other bytes in few bytes."""
    levels = [fit_levels(codes_RC) for codes_RC in codes]
    streams = streams_of(levels, np.frombuffer(rest, np.uint8))
    head = make_head(streams, codes, levels, families)
    tables = Tables(head, families)
    stream_tables = np.repeat(np.arange(NUM_STREAMS, dtype=np.uint8), [len(stream) for stream in streams])
    side = rans_encode(np.concatenate(streams), stream_tables, tables.stream_freq)
    moved = [part.view(np.uint8) + np.uint8(1 << (bits - 1)) for part, (_, bits) in zip(codes, families, strict=True)]
    body = rans_encode(join(moved), tables.choose(levels, families), tables.code_freq)
    head = compress(head, Compressor.LZMA)
    return LENGTHS.pack(len(head), len(rest), len(side)) + head + side + body


def unpack_matrices(
    data: bytes, shapes: list[tuple[int, int]], families: list[Family], max_rest: int
) -> tuple[list[Codes], bytes]:
    """The matrices and the other bytes that pack_matrices was given.

    Args:
        max_rest: bytes that the others have at most.

    Raises:
        ArtifactError: the data are damaged, or are not of such matrices.
    """
    head_size, rest_size, side_size = LENGTHS.unpack_from(data.ljust(LENGTHS.size, b"\0"))
    if rest_size > max_rest:
        raise ArtifactError(f"weight file: expected at most {max_rest} bytes besides codes, got {rest_size}")
    first, second = LENGTHS.size + head_size, LENGTHS.size + head_size + side_size
    max_head = NUM_STREAMS * 256 + len(set(families)) * (2 + MOST_LEVELS * 129)
    tables = Tables(decompress(data[LENGTHS.size : first], Compressor.LZMA, max_head), families)
    rows, columns = [size for size, _ in shapes], [size for _, size in shapes]
    sizes = [sum(rows), sum(columns), (rest_size + 1) // 2, rest_size // 2]
    stream_tables = np.repeat(np.arange(NUM_STREAMS, dtype=np.uint8), sizes)
    side = rans_decode(data[first:second], stream_tables, tables.stream_freq)
    by_row, by_column, even, odd = np.split(side, np.cumsum(sizes)[:-1])
    rest = np.empty(rest_size, np.uint8)
    rest[::2], rest[1::2] = even, odd
    levels = list(zip(split(by_row, rows), split(by_column, columns), strict=True))
    symbols = rans_decode(data[second:], tables.choose(levels, families), tables.code_freq)
    parts = split(symbols, [num_rows * num_columns for num_rows, num_columns in shapes])
    codes = [
        (part.view(np.uint8) - np.uint8(1 << (bits - 1))).view(np.int8).reshape(shape)
        for part, shape, (_, bits) in zip(parts, shapes, families, strict=True)
    ]
    return codes, rest.tobytes()


def split(data: Symbols, sizes: list[int]) -> list[Codes]:
    """Signed bytes in pieces."""
    return np.split(data.view(np.int8), np.cumsum(sizes)[:-1]) if sizes else []
