"""Every way to store weights goes through the weight file and comes out as the same floats."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.codec import decode, encode
from trainer.errors import ArtifactError
from trainer.quantize import dequantize, quantize
from trainer.store_config import ClipRule, Compressor, GptqConfig, LayerBitsConfig, Layout, LqerConfig, QuantConfig

CONFIGS = st.builds(
    QuantConfig,
    matrix_bits=st.integers(4, 8),
    mlp_bits=st.none() | st.integers(4, 8),
    embed_bits=st.sampled_from([4, 5, 6, 7, 8, 16]),
    clip=st.sampled_from([rule for rule in ClipRule if rule is not ClipRule.HESSIAN_SIGMA]),
    clip_sigmas=st.floats(1, 20),
    scale_is_floored=st.booleans(),
    passthrough_numel=st.sampled_from([0, 200, 10**6]),
    control_bits=st.sampled_from([16, 32]),
    gate_bits=st.sampled_from([8, 16]),
    late_k_layers=st.integers(0, 2),
    layer_bits=st.none() | st.builds(LayerBitsConfig, first_layer=st.just(0), last_layer=st.just(0)),
    prune_fraction=st.sampled_from([0.0, 0.03, 0.5]),
    gptq=st.none() | st.builds(GptqConfig, rounds_embedding=st.booleans()),
) | st.builds(
    QuantConfig,
    clip=st.just(ClipRule.HESSIAN_SIGMA),
    clip_sigmas=st.floats(1, 20),
    passthrough_numel=st.just(0),
    gptq=st.builds(GptqConfig),
)
SHAPES = {
    "tok_emb": (32, 16),
    "bigram.table": (24, 8),
    "blocks.0.attn.c_q.weight": (16, 16),
    "blocks.0.attn.gate": (4, 12),
    "blocks.0.mlp.fc.weight": (40, 16),
    "blocks.0.resid_mix": (2, 16),
    "blocks.1.attn.c_k.weight": (8, 16),
    "blocks.1.attn.c_q.weight": (16, 16),
    "skip_weights": (1, 16),
}


def random_weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in SHAPES.items()}


def random_hessians(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = [name for name in SHAPES if name.endswith(".weight") or name == "tok_emb"]
    inputs = {name: torch.randn(50, SHAPES[name][1], generator=generator) for name in names}
    return {name: x.mT @ x for name, x in inputs.items()}


@settings(max_examples=100, deadline=None)
@given(CONFIGS, st.booleans(), st.integers(0, 2**31))
def test_the_weight_file_reads_back_exactly(config: QuantConfig, with_hessians: bool, seed: int) -> None:
    stored = quantize(random_weights(seed), config, 2, random_hessians(seed) if with_hessians else None)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    read = decode(
        encode(stored, config, 2, Compressor.ZLIB, Layout.PLAIN), shapes, config, 2, Compressor.ZLIB, Layout.PLAIN
    )
    for name, tensor in stored.items():
        assert torch.equal(read[name].values, tensor.values), name
        assert read[name].values.dtype == tensor.values.dtype
        assert torch.equal(read[name].scale_R, tensor.scale_R), name
    weights, again = dequantize(stored), dequantize(read)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize("rank", [1, 4, 12])
@pytest.mark.parametrize("group_size", [1, 7, 64])
def test_corrections_read_back_exactly(rank: int, group_size: int) -> None:
    lqer = LqerConfig(rank=rank, num_tensors=3, group_size=group_size)
    config = QuantConfig(matrix_bits=5, passthrough_numel=0, scale_is_floored=False, gptq=GptqConfig(), lqer=lqer)
    stored = quantize(random_weights(0), config, 2, random_hessians(0))
    assert sum(tensor.correction is not None for tensor in stored.values()) == 3
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    read = decode(
        encode(stored, config, 2, Compressor.ZLIB, Layout.PLAIN), shapes, config, 2, Compressor.ZLIB, Layout.PLAIN
    )
    weights, again = dequantize(stored), dequantize(read)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_fewer_bits_make_a_smaller_file() -> None:
    sizes = [
        len(encode(quantize(random_weights(0), config, 2, None), config, 2, Compressor.ZLIB, Layout.PLAIN))
        for bits in (8, 6, 4)
        if (config := QuantConfig(matrix_bits=bits, embed_bits=bits, scale_is_floored=False, passthrough_numel=0))
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0]


@pytest.mark.parametrize("compressor", [Compressor.ZLIB, Compressor.LZMA, Compressor.ZSTD, Compressor.BROTLI])
def test_damage_to_the_weight_file_is_noticed(compressor: Compressor) -> None:
    config = QuantConfig(passthrough_numel=0)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    data = encode(quantize(random_weights(0), config, 2, None), config, 2, compressor, Layout.PLAIN)
    for position in range(0, len(data), 97):
        damaged = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        try:
            read = decode(damaged, shapes, config, 2, compressor, Layout.PLAIN)
        except ArtifactError:
            continue
        assert encode(read, config, 2, compressor, Layout.PLAIN) == data  # a bit that the format does not use
    for cut in (0, 3, len(data) // 2):
        with pytest.raises(ArtifactError):
            decode(data[:cut], shapes, config, 2, compressor, Layout.PLAIN)


def test_a_weight_file_of_another_recipe_is_refused() -> None:
    config = QuantConfig(passthrough_numel=0)
    data = encode(quantize(random_weights(0), config, 2, None), config, 2, Compressor.ZLIB, Layout.PLAIN)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()} | {"tok_emb": torch.Size((33, 16))}
    with pytest.raises(ArtifactError, match=r"expected .* payload bytes"):
        decode(data, shapes, config, 2, Compressor.ZLIB, Layout.PLAIN)
