"""Quantization on a CUDA device: as good as on CPU, quick at a record's shapes, traced whole where training uses it."""

import dataclasses
import time

import pytest
import torch
from torch import Tensor

from trainer.quantize import dequantize, quantize
from trainer.store_config import ClipRule, GptqConfig, LqerConfig, QuantConfig

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
RECORD = QuantConfig(
    matrix_bits=6,
    embed_bits=7,
    clip=ClipRule.SIGMA,
    clip_sigmas=13.0,
    mlp_clip_sigmas=11.5,
    embed_clip_sigmas=14.0,
    scale_is_floored=False,
    gptq=GptqConfig(),
    lqer=LqerConfig(),
)


def record_shapes(num_layers: int, dim: int, vocab_size: int) -> dict[str, tuple[int, int]]:
    block = {
        "attn.c_q": (dim, dim),
        "attn.c_k": (dim // 2, dim),
        "attn.c_v": (dim // 2, dim),
        "attn.proj": (dim, dim),
        "mlp.fc": (4 * dim, dim),
        "mlp.proj": (dim, 4 * dim),
    }
    matrices = {f"blocks.{i}.{name}.weight": shape for i in range(num_layers) for name, shape in block.items()}
    return matrices | {"tok_emb": (vocab_size, dim)}


def weights_and_hessians(shapes: dict[str, tuple[int, int]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator("cuda").manual_seed(0)
    weights: dict[str, Tensor] = {}
    hessians: dict[str, Tensor] = {}
    for name, (rows, columns) in shapes.items():
        weights[name] = 0.05 * torch.randn(rows, columns, device="cuda", generator=generator)
        hidden = torch.randn(4096, columns // 4, device="cuda", generator=generator)
        inputs = hidden @ torch.randn(columns // 4, columns, device="cuda", generator=generator)
        inputs += 0.5 * torch.randn(inputs.shape, device="cuda", generator=generator)
        hessians[name] = inputs.mT @ inputs
    return weights, hessians


def loss_of(weight: Tensor, rounded: Tensor, hessian: Tensor) -> float:
    error = (weight - rounded.to(weight.device)).double()
    return float(((error @ hessian.double()) * error).sum())


def test_feedback_loses_as_little_as_on_cpu() -> None:
    weights, hessians = weights_and_hessians(record_shapes(2, 128, 512))
    config = dataclasses.replace(RECORD, passthrough_numel=0, lqer=None)
    on_cpu = [{name: tensor.cpu() for name, tensor in part.items()} for part in (weights, hessians)]
    on_device = dequantize(quantize(weights, config, 2, hessians))
    reference = dequantize(quantize(on_cpu[0], config, 2, on_cpu[1]))
    plain = dequantize(quantize(weights, config, 2, None))
    for name, weight in weights.items():
        loss = loss_of(weight, on_device[name], hessians[name])
        assert loss == pytest.approx(loss_of(weight, reference[name], hessians[name]), rel=0.05), name
        assert loss < 0.5 * loss_of(weight, plain[name], hessians[name]), name


def test_a_record_is_quantized_well_within_two_seconds() -> None:
    weights, hessians = weights_and_hessians(record_shapes(11, 512, 8192))
    quantize(weights, RECORD, 11, hessians)  # loads kernels
    torch.cuda.synchronize()
    start = time.perf_counter()
    stored = quantize(weights, RECORD, 11, hessians)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    assert sum(tensor.correction is not None for tensor in stored.values()) == 3
    assert seconds < 2.0, seconds
