"""What the entropy coder knows of matrices of codes: how large they are by row and column, and how often each size is.

Weights are close to Gaussian with a spread that is a row's times a column's: rows lose theirs where each has a scale,
columns keep it. So a code's table is chosen by its row's level plus its column's, in quarters of an octave of the
mean magnitude. Tables are counted over all matrices of a family, and are the same for a code and its negative.
Frequencies are stored as one byte each, with a step of 3 to 6 %.

Shapes: R rows, C columns, K tables, M magnitudes, A codes.
"""

import numpy as np
from numpy.typing import NDArray

from trainer.rans import PRECISION

Codes = NDArray[np.int8]
Symbols = NDArray[np.uint8]
STEPS_AN_OCTAVE = 4  # of levels; finer ones cost more for the columns than they save
MOST_LEVELS = 32  # that a family tells apart: 8 octaves
RARE = 1 / 256  # levels at either end that so small a share of the codes has are one


def fit_levels(codes_RC: Codes) -> tuple[Codes, Codes]:
    """Levels of rows (R,), about 0, and of columns (C,), whose sums tell the mean magnitude of a code."""
    magnitude_RC = np.abs(codes_RC.astype(np.float32)) + 0.02  # so that zeros have a logarithm
    row_R = np.ones(len(codes_RC), np.float32)
    column_C = magnitude_RC.mean(axis=0)
    for _ in range(3):
        row_R = (magnitude_RC / column_C).mean(axis=1)
        column_C = (magnitude_RC / row_R[:, None]).mean(axis=0)
    middle = np.log2(row_R).mean()
    rows_R = np.rint(STEPS_AN_OCTAVE * (np.log2(row_R) - middle))
    columns_C = np.rint(STEPS_AN_OCTAVE * (np.log2(column_C) + middle))
    return rows_R.clip(-60, 60).astype(np.int8), columns_C.clip(-60, 60).astype(np.int8)


def level_range(levels: list[tuple[Codes, Codes]]) -> tuple[int, int]:
    """The first level of a family of matrices that gets its own table, and how many do."""
    count = np.zeros(256, np.int64)
    for rows_R, columns_C in levels:
        by_row, by_column = (np.bincount(part.astype(np.int64) + 64, minlength=128) for part in (rows_R, columns_C))
        count += np.convolve(by_row, np.append(by_column, 0))
    share = np.cumsum(count) / count.sum()
    first, last = np.searchsorted(share, RARE), np.searchsorted(share, 1 - RARE)
    return int(first) - 128, int(min(last - first + 1, MOST_LEVELS))


def tables_of(levels: tuple[Codes, Codes], first_level: int, num_levels: int) -> Symbols:
    """Which of its family's tables each code (R, C) takes."""
    sums_RC = levels[0][:, None] + levels[1]  # int8 holds the sum of two levels
    return (sums_RC.clip(first_level, first_level + num_levels - 1) - first_level).astype(np.uint8)


def to_bytes(counts_KM: NDArray[np.int64]) -> Symbols:
    """Counts as bytes: a mantissa of 4 bits and an exponent of 4, relative to the table's sum; 0 only for none."""
    total_K = np.maximum(counts_KM.sum(axis=1, keepdims=True), 1)
    values = from_bytes(np.arange(256, dtype=np.uint8))
    places_KM = np.searchsorted((values[1:] + values[:-1]) / 2, counts_KM * values[-1] / total_K)
    return np.where(counts_KM > 0, places_KM.clip(1), 0).astype(np.uint8)


def from_bytes(data: Symbols) -> NDArray[np.int64]:
    """What a byte of to_bytes stands for, up to a factor."""
    return np.where(data > 0, (16 + (data & 15).astype(np.int64)) << (data >> 4), 0)


def to_freq(weights_KA: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Frequencies that sum to 2 ** PRECISION, above 0 wherever weights are; a table of zeros knows its first symbol."""
    weights_KA[:, 0] += weights_KA.sum(axis=1) == 0
    is_used_KA = weights_KA > 0
    free_K1 = (1 << PRECISION) - is_used_KA.sum(axis=1, keepdims=True)
    freq_KA = is_used_KA + weights_KA * free_K1 // weights_KA.sum(axis=1, keepdims=True)
    freq_KA[np.arange(len(freq_KA)), freq_KA.argmax(axis=1)] += (1 << PRECISION) - freq_KA.sum(axis=1)
    return freq_KA.astype(np.uint32)


def mirror(weights_KM: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Weights of 256 symbols, a code plus 2 ** (bits - 1) each, from those of magnitudes 0 to 2 ** (bits - 1)."""
    half = 1 << (bits - 1)
    weights_KA = np.zeros((len(weights_KM), 256), np.int64)
    weights_KA[:, : 2 * half] = weights_KM[:, np.abs(np.arange(-half, half))]
    weights_KA[:, half] *= 2  # zero has no negative
    return weights_KA
