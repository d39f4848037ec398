"""The entropy coder against the entropy of its tables, and its statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.entropy import pack_matrices, unpack_matrices
from trainer.errors import ArtifactError
from trainer.levels import fit_levels, from_bytes, level_range, mirror, tables_of, to_bytes, to_freq
from trainer.rans import PRECISION, lanes_of, rans_decode, rans_encode


def gaussian_codes(shape: tuple[int, int], spread: float, seed: int) -> np.ndarray:
    """Codes whose columns differ in spread."""
    random = np.random.default_rng(seed)
    columns_C = spread * np.exp(0.4 * random.normal(size=shape[1]))
    return (random.normal(size=shape) * columns_C).round().clip(-31, 31).astype(np.int8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=300), st.integers(0, 2**31))
def test_symbols_come_back_and_leave_nothing(pairs: list[tuple[int, int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    freq_KA = to_freq(random.integers(1, 1000, (3, 6)) ** 2)
    tables_N = np.array([table for table, _ in pairs], np.uint8)
    symbols_N = np.array([symbol for _, symbol in pairs], np.uint8)
    data = rans_encode(symbols_N, tables_N, freq_KA)
    assert np.array_equal(rans_decode(data, tables_N, freq_KA), symbols_N)
    with pytest.raises(ArtifactError):
        rans_decode(data + b"\0\0", tables_N, freq_KA)
    with pytest.raises(ArtifactError):
        rans_decode(data[:-1], tables_N, freq_KA)


def test_a_table_of_one_symbol_costs_nothing() -> None:
    freq_KA = to_freq(np.array([[0, 7, 0]]))
    assert freq_KA.tolist() == [[0, 1 << PRECISION, 0]]
    symbols_N = np.ones(5000, np.uint8)
    data = rans_encode(symbols_N, np.zeros(5000, np.uint8), freq_KA)
    assert len(data) == 4 * lanes_of(5000)
    assert np.array_equal(rans_decode(data, np.zeros(5000, np.uint8), freq_KA), symbols_N)


def test_a_large_tensor_takes_its_entropy() -> None:
    random = np.random.default_rng(0)
    num, spreads = 400_000, np.array([0.3, 1.0, 2.5, 8.0])
    tables_N = random.integers(0, 4, num).astype(np.uint8)
    symbols_N = (random.normal(size=num) * spreads[tables_N]).round().clip(-60, 60).astype(np.int8).view(np.uint8)
    count_KA = np.bincount(tables_N * np.int64(256) + symbols_N, minlength=1024).reshape(4, 256)
    share_KA = count_KA / count_KA.sum(axis=1, keepdims=True)
    entropy = -(count_KA * np.log2(share_KA, where=count_KA > 0, out=np.zeros((4, 256)))).sum() / 8
    data = rans_encode(symbols_N, tables_N, to_freq(count_KA.copy()))
    assert entropy < len(data) < 1.003 * entropy + 4 * lanes_of(num)


def test_matrices_take_the_entropy_of_their_levels() -> None:
    codes = [gaussian_codes((512, 256), 2.4, 0), gaussian_codes((256, 512), 3.0, 1)]
    families = [("mlp", 6), ("mlp", 6)]
    data = pack_matrices(codes, families, b"")
    levels = [fit_levels(codes_RC) for codes_RC in codes]
    first, num = level_range(levels)
    count_KA = np.zeros((num, 256))
    for pair, codes_RC in zip(levels, codes, strict=True):
        np.add.at(count_KA, (tables_of(pair, first, num), codes_RC.view(np.uint8)), 1)
    share_KA = count_KA / count_KA.sum(axis=1, keepdims=True).clip(1)
    entropy = -(count_KA * np.log2(share_KA, where=count_KA > 0, out=np.zeros(count_KA.shape))).sum() / 8
    flat = np.concatenate([codes_RC.ravel() for codes_RC in codes]).view(np.uint8)
    share_A = np.bincount(flat, minlength=256) / len(flat)
    without_levels = -len(flat) * (share_A[share_A > 0] * np.log2(share_A[share_A > 0])).sum() / 8
    assert entropy < 0.97 * without_levels
    sides = 1536 * 0.5 + 1500  # levels and tables
    assert entropy < len(data) < 1.01 * entropy + sides


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 10**7), min_size=5, max_size=5), min_size=1, max_size=4))
def test_tables_keep_every_symbol_and_sum_up(rows: list[list[int]]) -> None:
    counts_KM = np.array(rows, np.int64)
    stored = to_bytes(counts_KM)
    assert ((stored > 0) == (counts_KM > 0)).all()
    freq_KA = to_freq(mirror(from_bytes(stored), 3))
    assert (freq_KA.sum(axis=1) == 1 << PRECISION).all()
    for counts_M, freq_A in zip(counts_KM, freq_KA, strict=True):
        if counts_M.sum():
            seen = [counts_M[abs(code)] > 0 for code in range(-4, 4)]
            assert [*(freq_A[:8] > 0)] == seen or not any(seen)
            assert freq_A[8:].sum() == 0 or not any(seen)


def test_stored_tables_are_within_a_twentieth() -> None:
    random = np.random.default_rng(1)
    counts_KM = random.integers(1, 10**6, (20, 33))
    values_KM = from_bytes(to_bytes(counts_KM)).astype(float)
    ratio_KM = values_KM / counts_KM / (values_KM.sum(axis=1) / counts_KM.sum(axis=1))[:, None]
    large = counts_KM > 0.002 * counts_KM.sum(axis=1, keepdims=True)
    assert np.abs(ratio_KM[large] - 1).max() < 0.06


def test_levels_find_rows_times_columns() -> None:
    random = np.random.default_rng(0)
    rows_R, columns_C = 2.0 ** random.integers(0, 3, 200), 2.0 ** random.integers(0, 3, 300)
    codes_RC = (
        (random.normal(size=(200, 300)) * rows_R[:, None] * columns_C * 2).round().clip(-127, 127).astype(np.int8)
    )
    row_level_R, column_level_C = fit_levels(codes_RC)
    assert np.abs((row_level_R - row_level_R.mean()) / 4 - (np.log2(rows_R) - np.log2(rows_R).mean())).max() < 0.4
    assert (
        np.abs((column_level_C - column_level_C.mean()) / 4 - (np.log2(columns_C) - np.log2(columns_C).mean())).max()
        < 0.4
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(4, 8)), max_size=4),
    st.binary(max_size=40),
    st.integers(0, 99),
)
def test_matrices_and_the_rest_come_back(sizes: list[tuple[int, int, int]], rest: bytes, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = [
        random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (rows, columns)).astype(np.int8)
        for rows, columns, bits in sizes
    ]
    families = [("role", bits) for _, _, bits in sizes]
    data = pack_matrices(codes, families, rest)
    read, read_rest = unpack_matrices(data, [(rows, columns) for rows, columns, _ in sizes], families, 40)
    assert read_rest == rest
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(read, codes, strict=True))
