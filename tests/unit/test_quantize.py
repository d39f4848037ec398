"""Quantization and the weight file: error bounds, exact round trips, and damage that is noticed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.codec import decode, encode
from trainer.errors import ArtifactError
from trainer.model import new_model
from trainer.model_config import ModelConfig
from trainer.quantize import dequantize, quantize, quantize_rows
from trainer.store_config import ClipRule, Compressor, QuantConfig

CONFIGS = st.builds(
    QuantConfig,
    matrix_bits=st.integers(4, 8),
    embed_bits=st.sampled_from([4, 5, 6, 7, 8, 16]),
    clip=st.sampled_from(ClipRule),
    scale_is_floored=st.booleans(),
    passthrough_numel=st.sampled_from([0, 600, 10**6]),
)
SHAPES = {
    "tok_emb": (32, 16),
    "blocks.0.attn.c_q.weight": (16, 16),
    "blocks.0.mlp.fc.weight": (40, 16),
    "blocks.0.resid_mix": (2, 16),
    "blocks.0.attn.q_gain": (4,),
    "skip_weights": (1, 16),
}


def random_weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in SHAPES.items()}


@settings(max_examples=60, deadline=None)
@given(CONFIGS, st.sampled_from(Compressor), st.integers(0, 2**31))
def test_the_weight_file_reads_back_exactly(config: QuantConfig, compressor: Compressor, seed: int) -> None:
    stored = quantize(random_weights(seed), config, 1, None)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    read = decode(encode(stored, config, 1, compressor), shapes, config, 1, compressor)
    for name, tensor in stored.items():
        assert torch.equal(read[name].values, tensor.values), name
        assert read[name].values.dtype == tensor.values.dtype
        assert torch.equal(read[name].scale_R, tensor.scale_R), name


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_rounding_error_is_at_most_half_a_step(bits: int) -> None:
    weight = torch.randn(12, 300, generator=torch.Generator().manual_seed(0))
    stored = quantize_rows(weight, bits, QuantConfig(clip=ClipRule.ROW_MAX, scale_is_floored=False))
    error = (stored.values * stored.scale_R.float()[:, None] - weight).abs()
    # fp16 rounds the scale down by up to 2**-11 of itself, which the row's largest weight feels q_max times.
    assert (error <= stored.scale_R.float()[:, None] * (0.5 + 2 ** (bits - 1) * 2**-11)).all()
    assert stored.values.abs().max() == 2 ** (bits - 1) - 1


def test_quantile_clip_cuts_an_outlier_and_row_max_keeps_it() -> None:
    weight = torch.randn(1, 50_000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    weight[0, 7] = 100.0
    quantile = quantize_rows(weight, 8, QuantConfig(clip=ClipRule.QUANTILE, scale_is_floored=False))
    row_max = quantize_rows(weight, 8, QuantConfig(clip=ClipRule.ROW_MAX, scale_is_floored=False))
    assert quantile.scale_R < row_max.scale_R


def test_scale_floor_makes_the_step_of_small_rows_constant() -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.01], [0.05], [0.1], [9]])
    scale = quantize_rows(weight, 8, QuantConfig(scale_is_floored=True)).scale_R
    assert scale[:3].tolist() == [torch.tensor(1 / 127).half().item()] * 3
    assert scale[3] > scale[0]


def test_control_tensors_stay_float32_and_an_fp16_embedding_loses_only_fp16() -> None:
    weights = random_weights(3)
    read = dequantize(quantize(weights, QuantConfig(embed_bits=16, passthrough_numel=0), 1, None))
    assert torch.equal(read["blocks.0.resid_mix"], weights["blocks.0.resid_mix"])
    assert torch.equal(read["tok_emb"], weights["tok_emb"].half().float())


def test_fewer_bits_make_a_smaller_file() -> None:
    model = new_model(
        ModelConfig(vocab_size=256, num_layers=2, model_dim=128, num_heads=2, num_kv_heads=1), torch.float32, 0
    )
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    sizes = [
        len(encode(quantize(weights, config, 1, None), config, 1, Compressor.LZMA))
        for bits in (8, 6, 4)
        if (config := QuantConfig(matrix_bits=bits, embed_bits=bits, scale_is_floored=False, passthrough_numel=0))
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("compressor", list(Compressor))
def test_damage_to_the_weight_file_is_noticed(compressor: Compressor) -> None:
    config = QuantConfig(passthrough_numel=0)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    data = encode(quantize(random_weights(0), config, 1, None), config, 1, compressor)
    for position in range(0, len(data), 97):
        damaged = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        try:
            read = decode(damaged, shapes, config, 1, compressor)
        except ArtifactError:
            continue
        assert encode(read, config, 1, compressor) == data  # a bit that the format does not use
    for cut in (0, 3, len(data) // 2):
        with pytest.raises(ArtifactError):
            decode(data[:cut], shapes, config, 1, compressor)


def test_a_weight_file_of_another_recipe_is_refused() -> None:
    config = QuantConfig(passthrough_numel=0)
    data = encode(quantize(random_weights(0), config, 1, None), config, 1, Compressor.ZLIB)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()} | {"tok_emb": torch.Size((33, 16))}
    with pytest.raises(ArtifactError, match=r"expected .* payload bytes"):
        decode(data, shapes, config, 1, Compressor.ZLIB)
