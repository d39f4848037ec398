"""The low-rank correction: its two factors, its codes, and what it gains."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.lqer import decode_right, encode_left, encode_right, top_singular
from trainer.quantize import StoredTensor, dequantize, quantize
from trainer.store_config import ClipRule, LqerConfig, QuantConfig

PLAIN = QuantConfig(matrix_bits=4, embed_bits=4, clip=ClipRule.ROW_MAX, scale_is_floored=False, passthrough_numel=0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config_of(lqer: LqerConfig) -> QuantConfig:
    return QuantConfig(
        matrix_bits=4, embed_bits=4, clip=ClipRule.ROW_MAX, scale_is_floored=False, passthrough_numel=0, lqer=lqer
    )


def error_of(weight: Tensor, tensor: StoredTensor) -> float:
    return float((dequantize({"w": tensor})["w"] - weight).norm())


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (9, 9), (3, 20), (20, 2), (1, 5)])
def test_the_factors_are_those_of_the_svd(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=seeded(0))
    left, right = top_singular(matrix, 4)
    u, sigma, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    rank = min(4, *shape)
    assert left.shape == (shape[0], rank)
    assert right.shape == (rank, shape[1])
    expected = (u[:, :rank] * sigma[:rank]) @ v[:rank]
    torch.testing.assert_close((left @ right).double(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(right @ right.mT, torch.eye(rank), atol=1e-5, rtol=0)
    assert (left.gather(0, left.abs().argmax(dim=0, keepdim=True)) < 0).all()


def test_a_matrix_of_zeros_has_no_correction() -> None:
    for shape in ((6, 4), (4, 6)):
        left, right = top_singular(torch.zeros(shape), 2)
        assert not (left @ right).any()
        assert (left @ right).isfinite().all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**31), st.sampled_from([1e-9, 1, 30]))
def test_codes_stay_in_range_and_errors_within_a_step(
    rank: int, columns: int, group_size: int, seed: int, size: float
) -> None:
    right = torch.randn(rank, columns, generator=seeded(seed)) * size
    codes, scales = encode_right(right, group_size)
    assert codes.shape == right.shape
    assert codes.dtype == torch.int8
    assert len(scales) == -(-right.numel() // group_size)
    assert codes.min() >= -8
    assert codes.max() <= 7
    # The largest positive number, 7.5 steps, is cut to 7; fp16 rounds the scale by 2**-11 of 7.5 steps.
    step = right.abs().max() / 7.5 + 2.0**-14
    assert (decode_right(codes, scales) - right).abs().max() <= 0.51 * step
    left, scale = encode_left(right.mT)
    assert left.min() >= -2
    assert left.max() <= 1
    assert left.dtype == torch.int8
    assert (left * scale.float() - right.mT).abs().max() <= 0.51 * scale


def test_it_makes_the_error_of_the_chosen_tensors_smaller_and_leaves_the_others() -> None:
    weights = {
        f"blocks.{i}.mlp.fc.weight": torch.randn(64, 48, generator=seeded(i)) * (1 + i % 3) for i in range(6)
    } | {"skip_weights": torch.ones(2, 8)}
    plain = quantize(weights, PLAIN, 6, None)
    corrected = quantize(weights, config_of(LqerConfig(rank=8, num_tensors=2, group_size=16)), 6, None)
    assert list(corrected) == list(weights)
    chosen = {name for name, tensor in corrected.items() if tensor.correction is not None}
    assert chosen == {"blocks.2.mlp.fc.weight", "blocks.5.mlp.fc.weight"}  # the largest weights, so the largest errors
    for name, weight in weights.items():
        assert torch.equal(plain[name].values, corrected[name].values)
        if name in chosen:
            assert error_of(weight, corrected[name]) < 0.95 * error_of(weight, plain[name])


def test_an_error_of_low_rank_is_mostly_undone() -> None:
    # Rows of one shape but of many sizes: rounding at a floored scale of 1/7 cuts what is one direction.
    direction = torch.full((1, 48), 0.06)
    weight = torch.rand(64, 1, generator=seeded(0)) @ direction
    weights = {"blocks.0.mlp.fc.weight": weight}
    config = QuantConfig(matrix_bits=4, passthrough_numel=0, lqer=LqerConfig(rank=1, num_tensors=1))
    corrected = quantize(weights, config, 1, None)["blocks.0.mlp.fc.weight"]
    assert not corrected.values.any()
    assert error_of(weight, corrected) < 0.4 * float(weight.norm())


def test_equal_errors_are_chosen_by_name_and_more_tensors_than_there_are_is_all() -> None:
    weight = torch.randn(16, 8, generator=seeded(0))
    weights = {name: weight.clone() for name in ("blocks.1.attn.c_q.weight", "blocks.0.attn.c_q.weight")}
    stored = quantize(weights, config_of(LqerConfig(num_tensors=1)), 2, None)
    assert [name for name, tensor in stored.items() if tensor.correction] == ["blocks.0.attn.c_q.weight"]
    stored = quantize(weights, config_of(LqerConfig(num_tensors=9)), 2, None)
    assert all(tensor.correction for tensor in stored.values())
    only_floats = {"skip_weights": torch.ones(1, 4)}
    assert quantize(only_floats, config_of(LqerConfig()), 1, None)["skip_weights"].correction is None


def test_it_is_the_same_on_every_run() -> None:
    weights = {"tok_emb": torch.randn(50, 24, generator=seeded(0))}
    config = config_of(LqerConfig())
    first, second = (quantize(weights, config, 1, None)["tok_emb"].correction for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first.a_codes_RK, second.a_codes_RK)
    assert torch.equal(first.b_codes_KC, second.b_codes_KC)
    assert torch.equal(first.b_scales_G, second.b_scales_G)
