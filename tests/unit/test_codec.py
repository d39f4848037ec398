"""The weight file: every compressor and layout reads back exactly, damage is noticed, and a target size is met."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.codec import PAIRS, decode, encode, payload_size
from trainer.compress import version_of
from trainer.contents import Plan
from trainer.errors import ArtifactError
from trainer.fit import count_ones, fit_to_target, zero_cheapest
from trainer.layout import pack_bits, similarity_order, unpack_bits
from trainer.quantize import StoredCorrection, StoredTensor, quantize
from trainer.store_config import ClipRule, Compressor, Layout, LqerConfig, QuantConfig

GENERAL = [Compressor.ZLIB, Compressor.LZMA, Compressor.ZSTD, Compressor.BROTLI]
WAYS = [
    *product(GENERAL, Layout),
    (Compressor.RANS, Layout.PLAIN),
    (Compressor.BEST, Layout.PLAIN),
]
Stored = dict[str, StoredTensor]


def random_codes(shape: tuple[int, int], bits: int, kind: str, seed: int) -> Tensor:
    """Codes of some kind in [-2 ** (bits - 1), 2 ** (bits - 1))."""
    half = 2 ** (bits - 1)
    generator = torch.Generator().manual_seed(seed)
    match kind:
        case "zero":
            return torch.zeros(shape, dtype=torch.int8)
        case "constant":
            return torch.full(shape, half - 1, dtype=torch.int8)
        case "extreme":
            return torch.where(torch.rand(shape, generator=generator) < 0.5, -half, half - 1).to(torch.int8)
        case _:
            spread_C = torch.rand(shape[1], generator=generator) * half / 2
            return (torch.randn(shape, generator=generator) * spread_C).round().clamp(-half, half - 1).to(torch.int8)


@st.composite
def stored_tensors(draw: st.DrawFn) -> tuple[Stored, QuantConfig]:
    """Tensors of tiny shapes as the quantizer could have made them, and more extreme ones."""
    config = draw(
        st.builds(
            QuantConfig,
            matrix_bits=st.integers(4, 8),
            mlp_bits=st.none() | st.integers(4, 8),
            embed_bits=st.sampled_from([4, 5, 6, 7, 8, 16]),
            passthrough_numel=st.just(0),
            control_bits=st.sampled_from([16, 32]),
            gate_bits=st.sampled_from([8, 16]),
            lqer=st.none() | st.builds(LqerConfig, rank=st.integers(1, 5), group_size=st.integers(1, 9)),
        )
    )
    names = ["tok_emb", "blocks.10.attn.c_q.weight", "blocks.2.attn.c_q.weight", "blocks.0.mlp.fc.weight"]
    names += ["blocks.0.mlp.proj.weight", "blocks.0.attn.gate", "blocks.0.attn_scale", "skip_weights"]
    side = st.integers(1, 7)
    shapes = {name: torch.Size((draw(side), draw(side))) for name in draw(st.sets(st.sampled_from(names)))}
    plan = Plan(shapes, config, 11)
    stored: Stored = {}
    for name, shape in plan.shapes.items():
        kind = draw(st.sampled_from(["zero", "constant", "extreme", "normal"]))
        codes_RC = random_codes(shape, plan.bits[name], kind, draw(st.integers(0, 99)))
        correction = None
        if config.lqer is not None and draw(st.booleans()):
            rank = min(config.lqer.rank, *shape)
            correction = StoredCorrection(
                a_codes_RK=random_codes((shape[0], rank), 2, "extreme", 0),
                a_scale=torch.tensor(0.5).half(),
                b_codes_KC=random_codes((rank, shape[1]), 4, "extreme", 1),
                b_scales_G=torch.rand(-(-rank * shape[1] // config.lqer.group_size)).half(),
            )
        stored[name] = StoredTensor(values=codes_RC, scale_R=torch.rand(shape[0]).half(), correction=correction)
    for name, (dtype, shape) in plan.floats.items():
        stored[name] = StoredTensor(values=torch.randn(shape).to(dtype), scale_R=torch.empty(0).half())
    return stored, config


def assert_same(read: Stored, stored: Stored) -> None:
    assert sorted(read) == sorted(stored)
    for name, tensor in stored.items():
        assert read[name].values.dtype == tensor.values.dtype
        assert torch.equal(read[name].values, tensor.values), name
        assert torch.equal(read[name].scale_R, tensor.scale_R), name
        ours, theirs = read[name].correction, tensor.correction
        assert (ours is None) == (theirs is None), name
        if ours is not None and theirs is not None:
            for field in ("a_codes_RK", "a_scale", "b_codes_KC", "b_scales_G"):
                assert torch.equal(getattr(ours, field), getattr(theirs, field)), (name, field)


def shapes_of(stored: Stored) -> dict[str, torch.Size]:
    return {name: tensor.values.shape for name, tensor in stored.items()}


def trained_like(columns_vary: float = 0.5, num_rows: int = 256) -> tuple[Stored, QuantConfig]:
    """Three matrices of Gaussian weights whose columns differ in spread, and a vector."""
    config = QuantConfig(
        matrix_bits=6, embed_bits=7, clip=ClipRule.SIGMA, scale_is_floored=False, passthrough_numel=0, lqer=LqerConfig()
    )
    generator = torch.Generator().manual_seed(0)
    shapes = {"tok_emb": (num_rows, 64), "blocks.0.attn.c_q.weight": (64, 64), "blocks.0.mlp.fc.weight": (num_rows, 64)}
    weights = {
        name: torch.randn(shape, generator=generator)
        * (columns_vary * torch.randn(shape[1], generator=generator)).exp()
        for name, shape in shapes.items()
    }
    weights["skip_weights"] = torch.ones(1, 64)
    return quantize(weights, config, 1, None), config


@pytest.mark.parametrize(("compressor", "layout"), WAYS)
@settings(max_examples=15, deadline=None)
@given(stored_tensors())
def test_a_weight_file_reads_back_exactly(
    compressor: Compressor, layout: Layout, example: tuple[Stored, QuantConfig]
) -> None:
    stored, config = example
    data = encode(stored, config, 11, compressor, layout)
    assert_same(decode(data, shapes_of(stored), config, 11, compressor, layout), stored)
    assert encode(dict(reversed(stored.items())), config, 11, compressor, layout) == data


@pytest.mark.parametrize(("compressor", "layout"), WAYS)
def test_an_empty_file_and_a_large_one_read_back(compressor: Compressor, layout: Layout) -> None:
    config = QuantConfig()
    assert decode(encode({}, config, 1, compressor, layout), {}, config, 1, compressor, layout) == {}
    stored, config = trained_like()
    data = encode(stored, config, 1, compressor, layout)
    assert_same(decode(data, shapes_of(stored), config, 1, compressor, layout), stored)
    assert len(data) < payload_size(stored, config, 1)


def test_the_payload_is_codes_scales_floats_and_corrections() -> None:
    stored, config = trained_like()
    codes, scales = 256 * 64 + 64 * 64 + 256 * 64, 2 * (256 + 64 + 256)
    correction = {
        256: 256 * 4 * 2 // 8 + 64 * 4 * 4 // 8 + 2 + 2 * 4,
        64: 64 * 4 * 2 // 8 + 64 * 4 * 4 // 8 + 2 + 2 * 4,
    }
    expected = codes + 2 + 3 * 2 + scales + 64 * 4 + 2 * correction[256] + correction[64]
    assert payload_size(stored, config, 1) == expected


def test_packed_codes_are_two_s_complements_lowest_bit_first() -> None:
    codes = np.array([[1, -1, 31], [-32, 5, 0]], np.int8)
    # 000001 | 111111 | 011111 | 100000 | 000101 | 000000, each from its lowest bit on:
    stream = "100000" + "111111" + "111110" + "000001" + "101000" + "000000"
    expected = [int(stream[start : start + 8][::-1], 2) for start in range(0, 36, 8)]
    assert list(pack_bits(codes, 6)) == expected
    assert (unpack_bits(np.array(expected, np.uint8), (2, 3), 6) == codes).all()


def test_similar_rows_stand_beside_each_other() -> None:
    random = np.random.default_rng(0)
    centers_KC = random.integers(-20, 20, (5, 16))
    which_R = random.integers(0, 5, 60)
    codes_RC = (centers_KC[which_R] + random.integers(-1, 2, (60, 16))).astype(np.int8)
    order_R = similarity_order(codes_RC)
    assert sorted(order_R.tolist()) == list(range(60))
    assert (np.diff(which_R[order_R]) != 0).sum() == len(set(which_R)) - 1
    nearest = ((codes_RC[1:].astype(int) - codes_RC[0]) ** 2).sum(axis=1).argmin() + 1
    assert order_R[:2].tolist() == [0, nearest]


@settings(max_examples=25, deadline=None)
@given(stored_tensors())
def test_best_is_no_larger_than_any(example: tuple[Stored, QuantConfig]) -> None:
    stored, config = example
    sizes = [len(encode(stored, config, 11, *way)) for way in WAYS if way[0] is not Compressor.BEST]
    best = encode(stored, config, 11, Compressor.BEST, Layout.PLAIN)
    assert len(best) == min(sizes) + 1
    assert best[1:] == encode(stored, config, 11, *PAIRS[best[0]])


def test_our_coder_gains_from_columns_that_differ() -> None:
    stored, config = trained_like(columns_vary=0.6, num_rows=2048)
    ways = [(compressor, layout) for compressor in GENERAL for layout in (Layout.PLAIN, Layout.SHUFFLED)]
    best = min(len(encode(stored, config, 1, *way)) for way in ways)
    assert len(encode(stored, config, 1, Compressor.RANS, Layout.PLAIN)) < 0.95 * best


@cache
def example_file(compressor: Compressor, layout: Layout) -> tuple[bytes, Stored, QuantConfig]:
    """A weight file and what it holds."""
    stored, config = trained_like(num_rows=64)
    return encode(stored, config, 1, compressor, layout), stored, config


@pytest.mark.parametrize(("compressor", "layout"), WAYS)
@settings(max_examples=60, deadline=None)
@given(
    st.none() | st.floats(0, 1, exclude_max=True),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_damage_is_noticed(
    compressor: Compressor, layout: Layout, cut: float | None, flips: list[tuple[float, int]]
) -> None:
    whole, stored, config = example_file(compressor, layout)
    data = bytearray(whole)
    if cut is not None:
        del data[int(cut * len(data)) :]
    else:
        for place, mask in flips:
            data[int(place * len(data))] ^= mask
    try:
        read = decode(bytes(data), shapes_of(stored), config, 1, compressor, layout)
    except ArtifactError:
        return
    assert_same(read, stored)  # a byte that the format does not use


@pytest.mark.parametrize(("compressor", "layout"), WAYS)
@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(compressor: Compressor, layout: Layout, data: bytes) -> None:
    _, stored, config = example_file(compressor, layout)
    with pytest.raises(ArtifactError):
        decode(data, shapes_of(stored), config, 1, compressor, layout)


@pytest.mark.parametrize("compressor", GENERAL)
def test_a_file_that_unpacks_to_far_more_is_refused_early(compressor: Compressor) -> None:
    many = {"skip_weights": StoredTensor(values=torch.zeros(1000, 10_000), scale_R=torch.empty(0).half())}
    data = encode(many, QuantConfig(), 1, compressor, Layout.PLAIN)
    with pytest.raises(ArtifactError):
        decode(data, {"skip_weights": torch.Size((10, 10))}, QuantConfig(), 1, compressor, Layout.PLAIN)


def test_versions_name_what_packed_a_file() -> None:
    assert version_of(Compressor.RANS) == "1"
    assert version_of(Compressor.BROTLI) in version_of(Compressor.BEST)
    assert version_of(Compressor.ZSTD) in version_of(Compressor.BEST)


def test_the_cheapest_ones_are_zeroed_first() -> None:
    def tensor(codes: list[list[int]], scales: list[float]) -> StoredTensor:
        return StoredTensor(values=torch.tensor(codes, dtype=torch.int8), scale_R=torch.tensor(scales).half())

    stored = {
        "tok_emb": tensor([[1, 2, -1, 1], [1, 1, 0, 3]], [0.3, 0.1]),
        "blocks.0.attn.c_q.weight": tensor([[-1, 5, 0, 1]], [0.2]),
        "skip_weights": StoredTensor(values=torch.ones(1, 4), scale_R=torch.empty(0).half()),
    }
    assert count_ones(stored) == 7
    rows = [
        (0, [1, 2, -1, 1], [1, 1, 0, 3], [-1, 5, 0, 1]),
        (1, [1, 2, -1, 1], [0, 1, 0, 3], [-1, 5, 0, 1]),
        (3, [1, 2, -1, 1], [0, 0, 0, 3], [0, 5, 0, 1]),
        (5, [0, 2, -1, 1], [0, 0, 0, 3], [0, 5, 0, 0]),
        (7, [0, 2, 0, 0], [0, 0, 0, 3], [0, 5, 0, 0]),
    ]
    for count, *expected in rows:
        pruned = zero_cheapest(stored, count)
        assert [*pruned["tok_emb"].values.tolist(), *pruned["blocks.0.attn.c_q.weight"].values.tolist()] == expected
        assert pruned["skip_weights"].values.sum() == 4
        assert count_ones(pruned) == 7 - count


@pytest.mark.parametrize("compressor", [Compressor.ZLIB, Compressor.RANS, Compressor.BEST])
@pytest.mark.parametrize("share", [0.999, 0.98, 0.9])
def test_a_target_is_met_by_zeroing_ones(compressor: Compressor, share: float) -> None:
    stored, config = trained_like()

    def size(tensors: Stored) -> int:
        return len(encode(tensors, config, 1, compressor, Layout.PLAIN))

    target = int(share * size(stored))
    fitted = fit_to_target(stored, config, 1, compressor, Layout.PLAIN, target)
    assert 0.97 * target <= size(fitted) <= target
    zeroed = count_ones(stored) - count_ones(fitted)
    assert zeroed > 0
    assert_same(fitted, zero_cheapest(stored, zeroed))
    assert fit_to_target(stored, config, 1, compressor, Layout.PLAIN, size(stored)) is stored


def test_a_target_out_of_reach_gives_the_smallest_there_is() -> None:
    stored, config = trained_like()
    fitted = fit_to_target(stored, config, 1, Compressor.RANS, Layout.PLAIN, 100)
    assert count_ones(fitted) == 0
    assert_same(fitted, zero_cheapest(stored, count_ones(stored)))
