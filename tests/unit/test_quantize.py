"""Quantization: which format a tensor has, where rows are clipped, error bounds."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_weights import FINE, SHAPES, random_weights, seeded

from trainer.clip import (
    CLIP_QUANTILE,
    MSE_QUANTILES,
    importance_of_rows,
    quantile_of_rows,
    round_to_codes,
    scale_of_rows,
)
from trainer.quantize import dequantize, quantize, storage_of
from trainer.roles import Role
from trainer.store_config import ClipRule, GptqConfig, LayerBitsConfig, QuantConfig


def bits_and_format(name: str, config: QuantConfig, num_layers: int = 2) -> tuple[int | None, torch.dtype]:
    storage = storage_of(name, torch.Size(SHAPES[name]), config, num_layers)
    return storage.bits, storage.dtype


def test_bits_follow_the_role_of_a_tensor() -> None:
    config = QuantConfig(matrix_bits=6, mlp_bits=5, embed_bits=7, passthrough_numel=0)
    assert {name: bits_and_format(name, config) for name in SHAPES} == {
        "tok_emb": (7, torch.int8),
        "bigram.table": (7, torch.int8),
        "bigram.proj.weight": (6, torch.int8),
        "value_embed.layer_scales": (None, torch.float32),
        "smear.gate": (None, torch.float32),
        "blocks.0.attn.c_q.weight": (6, torch.int8),
        "blocks.0.attn.c_k.weight": (6, torch.int8),
        "blocks.0.attn.gate": (None, torch.float16),
        "blocks.0.attn.q_gain": (None, torch.float32),
        "blocks.0.mlp.fc.weight": (5, torch.int8),
        "blocks.0.resid_mix": (None, torch.float32),
        "blocks.1.attn.c_k.weight": (6, torch.int8),
        "blocks.1.mlp.proj.weight": (5, torch.int8),
        "skip_weights": (None, torch.float32),
    }


def test_small_tensors_and_tables_of_16_bits_are_fp16_and_control_tensors_follow_control_bits() -> None:
    small = QuantConfig(passthrough_numel=40 * 16)
    assert {bits_and_format(name, small) for name in SHAPES if name.endswith((".weight", "tok_emb", ".table"))} == {
        (None, torch.float16)
    }
    assert bits_and_format("tok_emb", QuantConfig(embed_bits=16, passthrough_numel=0)) == (None, torch.float16)
    tables = QuantConfig(embed_bits=16, table_bits=6, passthrough_numel=0)
    assert bits_and_format("tok_emb", tables) == (None, torch.float16)
    assert bits_and_format("bigram.table", tables) == (6, torch.int8)
    assert bits_and_format("skip_weights", QuantConfig(control_bits=16)) == (None, torch.float16)
    assert bits_and_format("blocks.0.attn.q_gain", QuantConfig(control_bits=16)) == (None, torch.float16)


def test_gates_are_int8_where_asked_however_small() -> None:
    config = QuantConfig(gate_bits=8, scale_is_floored=True, clip=ClipRule.SIGMA)
    assert bits_and_format("blocks.0.attn.gate", config) == (8, torch.int8)
    weights = random_weights(0)
    stored = quantize(weights, config, 2, None)["blocks.0.attn.gate"]
    gate = weights["blocks.0.attn.gate"]
    assert stored.values.abs().amax(dim=1).tolist() == [127] * 4  # by the row's largest, without the floor
    assert (dequantize({"gate": stored})["gate"] - gate).abs().max() < gate.abs().max() / 127


def test_last_key_matrices_stay_fp16() -> None:
    config = QuantConfig(late_k_layers=1, passthrough_numel=0)
    assert bits_and_format("blocks.0.attn.c_k.weight", config) == (8, torch.int8)
    assert bits_and_format("blocks.1.attn.c_k.weight", config) == (None, torch.float16)
    assert bits_and_format("blocks.1.mlp.proj.weight", config) == (8, torch.int8)
    everything = QuantConfig(late_k_layers=9, passthrough_numel=0)
    assert bits_and_format("blocks.0.attn.c_k.weight", everything) == (None, torch.float16)


def test_a_run_of_layers_has_bits_of_its_own() -> None:
    run = LayerBitsConfig(first_layer=1, last_layer=2, bits=4)
    config = QuantConfig(mlp_bits=5, layer_bits=run, passthrough_numel=0)
    assert bits_and_format("blocks.0.attn.c_k.weight", config)[0] == 8
    assert bits_and_format("blocks.0.mlp.fc.weight", config)[0] == 5
    assert bits_and_format("blocks.1.attn.c_k.weight", config)[0] == 4
    assert bits_and_format("blocks.1.mlp.proj.weight", config)[0] == 4
    assert bits_and_format("tok_emb", config)[0] == 8
    assert bits_and_format("bigram.proj.weight", config)[0] == 8


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_rounding_error_is_at_most_half_a_step(bits: int) -> None:
    weights = {"blocks.0.attn.c_q.weight": torch.randn(12, 300, generator=seeded(0))}
    stored = quantize(weights, dataclasses.replace(FINE, matrix_bits=bits), 1, None)
    (tensor,) = stored.values()
    step = tensor.scale_R.float()[:, None]
    error = (dequantize(stored)["blocks.0.attn.c_q.weight"] - weights["blocks.0.attn.c_q.weight"]).abs()
    # fp16 rounds the scale down by up to 2**-11 of itself, which the row's largest weight feels q_max times.
    assert (error <= step * (0.5 + 2 ** (bits - 1) * 2**-11)).all()
    assert tensor.values.abs().max() == 2 ** (bits - 1) - 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3000), st.integers(1, 5), st.sampled_from([CLIP_QUANTILE, *MSE_QUANTILES, 0.5]), st.integers(0, 99)
)
def test_quantiles_are_bit_for_bit_those_of_torch(columns: int, rows: int, quantile: float, seed: int) -> None:
    magnitude = torch.randn(rows, columns, generator=seeded(seed)).abs().round(decimals=seed % 3)  # with ties
    assert torch.equal(quantile_of_rows(magnitude, quantile), torch.quantile(magnitude, quantile, dim=1))


def test_the_baseline_quantile_lies_between_the_two_largest_up_to_625000_columns() -> None:
    magnitude = torch.rand(2, 700_000, generator=seeded(0))
    for columns in (512, 624_999, 700_000):
        row = magnitude[:, :columns]
        assert torch.equal(quantile_of_rows(row, CLIP_QUANTILE), torch.quantile(row, CLIP_QUANTILE, dim=1))
    top = magnitude[:, :624_999].topk(2).values
    clip = quantile_of_rows(magnitude[:, :624_999], CLIP_QUANTILE)
    assert ((top[:, 1] <= clip) & (clip <= top[:, 0])).all()


def test_quantile_clip_cuts_an_outlier_and_row_max_keeps_it() -> None:
    weight = torch.randn(1, 50_000, generator=seeded(0)).clamp(-3, 3)
    weight[0, 7] = 100.0
    quantile = scale_of_rows(weight, 8, Role.MATRIX, dataclasses.replace(FINE, clip=ClipRule.QUANTILE))
    assert quantile < scale_of_rows(weight, 8, Role.MATRIX, FINE)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("is_floored", [False, True])
def test_the_least_error_clip_is_never_worse_than_the_row_max_and_better_with_outliers(
    bits: int, is_floored: bool
) -> None:
    weight = torch.randn(64, 3000, generator=seeded(0))
    weight[:32, 5] *= 40
    row_max = dataclasses.replace(FINE, scale_is_floored=is_floored)
    errors = [
        (round_to_codes(weight, scale, bits) * scale.float()[:, None] - weight).square().sum(dim=1)
        for config in (dataclasses.replace(row_max, clip=ClipRule.MSE), row_max)
        for scale in [scale_of_rows(weight, bits, Role.MATRIX, config)]
    ]
    assert (errors[0] <= errors[1]).all()
    assert errors[0].sum() < errors[1].sum()


def test_sigma_clips_at_standard_deviations_by_role() -> None:
    config = dataclasses.replace(
        FINE, clip=ClipRule.SIGMA, clip_sigmas=12.85, mlp_clip_sigmas=10.0, embed_clip_sigmas=20.0
    )
    weight = torch.randn(8, 256, generator=seeded(0)) * torch.arange(1, 9)[:, None]
    for role, sigmas in ((Role.MATRIX, 12.85), (Role.MLP, 10.0), (Role.TABLE, 20.0)):
        expected = (sigmas * weight.std(dim=1) / 31).half()
        assert torch.equal(scale_of_rows(weight, 6, role, config), expected)
    alike = dataclasses.replace(config, mlp_clip_sigmas=None, embed_clip_sigmas=None)
    assert torch.equal(scale_of_rows(weight, 6, Role.MLP, alike), scale_of_rows(weight, 6, Role.MATRIX, alike))
    floored = dataclasses.replace(config, scale_is_floored=True)
    assert scale_of_rows(0.001 * weight, 6, Role.MATRIX, floored).tolist() == [torch.tensor(1 / 31).half().item()] * 8
    assert (scale_of_rows(torch.ones(2, 1), 6, Role.MATRIX, config) == 2.0**-24).all()  # one column: no deviation


def test_hessian_sigma_widens_the_clip_of_rows_that_matter_around_a_mean_of_one() -> None:
    config = QuantConfig(
        clip=ClipRule.HESSIAN_SIGMA, clip_sigmas=8.0, hessian_clip=0.5, scale_is_floored=False, gptq=GptqConfig()
    )
    weight = torch.randn(16, 64, generator=seeded(0))
    diagonal = torch.rand(64, generator=seeded(1)) * 100
    importance = importance_of_rows(weight, diagonal)
    by_definition = (weight.abs() * (diagonal / diagonal.mean())).mean(dim=1)
    torch.testing.assert_close(importance, by_definition / by_definition.mean())
    torch.testing.assert_close(importance.mean(), torch.tensor(1.0))
    sigma = dataclasses.replace(config, clip=ClipRule.SIGMA)
    factor = scale_of_rows(weight, 6, Role.MATRIX, config, diagonal) / scale_of_rows(weight, 6, Role.MATRIX, sigma)
    torch.testing.assert_close(factor.float(), 1 + 0.5 * (importance - 1), rtol=2e-3, atol=0)
    plain = scale_of_rows(weight, 6, Role.MATRIX, config)  # without a Hessian
    assert torch.equal(plain, scale_of_rows(weight, 6, Role.MATRIX, sigma))


def test_scale_floor_makes_the_step_of_small_rows_constant() -> None:
    weight = torch.randn(4, 64, generator=seeded(0)) * torch.tensor([[0.01], [0.05], [0.1], [9]])
    scale = scale_of_rows(weight, 8, Role.MATRIX, QuantConfig(scale_is_floored=True))
    assert scale[:3].tolist() == [torch.tensor(1 / 127).half().item()] * 3
    assert scale[3] > scale[0]


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.5, 1.0])
def test_pruning_zeroes_the_smallest_share_of_each_matrix(fraction: float) -> None:
    weights = random_weights(0) | {"blocks.0.attn.gate": torch.full((4, 12), 0.5)}
    stored = quantize(weights, dataclasses.replace(FINE, prune_fraction=fraction, gate_bits=8), 2, None)
    plain = quantize(weights, dataclasses.replace(FINE, gate_bits=8), 2, None)
    for name, tensor in stored.items():
        if tensor.values.dtype == torch.int8 and not name.endswith("gate"):
            count = int(fraction * tensor.values.numel())
            smallest = weights[name].abs().flatten().argsort()[:count]
            assert not tensor.values.flatten()[smallest].any()
            kept = torch.ones(tensor.values.numel(), dtype=torch.bool)
            kept[smallest] = False
            if fraction < 1:
                assert torch.equal(tensor.values.flatten()[kept], plain[name].values.flatten()[kept])
        else:
            assert torch.equal(tensor.values, plain[name].values)


def test_control_tensors_stay_float32_and_an_fp16_embedding_loses_only_fp16() -> None:
    weights = random_weights(3)
    read = dequantize(quantize(weights, QuantConfig(embed_bits=16, passthrough_numel=0), 2, None))
    assert torch.equal(read["blocks.0.resid_mix"], weights["blocks.0.resid_mix"])
    assert torch.equal(read["tok_emb"], weights["tok_emb"].half().float())
    assert list(read) == list(weights)
