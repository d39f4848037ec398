"""How weights are stored: rows of integers with a scale each, or plain floats, and the way back.

Shapes: R rows, C columns.
"""

from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from trainer.store_config import ClipRule, QuantConfig

CLIP_QUANTILE = 0.9999984  # the challenge's baseline
SMALLEST_SCALE = 2.0**-24  # the smallest number fp16 holds
CONTROL_TENSORS = ("attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weights")


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """The format of one tensor: integers of some bits with an fp16 scale a row, or a float format.

    Attributes:
        bits: 4 to 8; None for a tensor stored as floats.
        dtype: of the stored values: int8 for integers, else float16 or float32.
    """

    bits: int | None
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor in its stored format. scale_R is empty where values are floats."""

    values: Tensor
    scale_R: Tensor


def storage_of(name: str, shape: torch.Size, config: QuantConfig) -> Storage:
    """The format of a tensor, from its name and shape alone, so that a reader needs no table of contents."""
    if name.rsplit(".", 1)[-1] in CONTROL_TENSORS:
        return Storage(bits=None, dtype=torch.float32)
    bits = config.embed_bits if name == "tok_emb" else config.matrix_bits
    if len(shape) != 2 or shape.numel() <= config.passthrough_numel or bits == 16:
        return Storage(bits=None, dtype=torch.float16)
    return Storage(bits=bits, dtype=torch.int8)


def clip_of_rows(weight_RC: Tensor, rule: ClipRule) -> Tensor:
    """The magnitude (R,) at which each row is clipped."""
    match rule:
        case ClipRule.ROW_MAX:
            return weight_RC.abs().amax(dim=1)
        case ClipRule.QUANTILE:
            # torch.quantile takes at most 2**24 numbers at once.
            parts = weight_RC.abs().split(max(1, 2**24 // weight_RC.size(1)))
            return torch.cat([torch.quantile(part, CLIP_QUANTILE, dim=1) for part in parts])
        case _:
            assert_never(rule)


def quantize_rows(weight_RC: Tensor, bits: int, config: QuantConfig) -> StoredTensor:
    """Round a matrix to integers in [-q_max, q_max], q_max = 2 ** (bits - 1) - 1, with one fp16 scale a row.

    The scale is rounded to fp16 before the division, so that writer and reader use the same step.
    """
    q_max = 2 ** (bits - 1) - 1
    floor = 1.0 / q_max if config.scale_is_floored else SMALLEST_SCALE
    scale_R = (clip_of_rows(weight_RC, config.clip) / q_max).clamp_min(floor).half()
    codes_RC = (weight_RC / scale_R.float()[:, None]).round().clamp(-q_max, q_max)
    return StoredTensor(values=codes_RC.to(torch.int8), scale_R=scale_R)


def quantize(weights: dict[str, Tensor], config: QuantConfig) -> dict[str, StoredTensor]:
    """Every tensor in its stored format, on the device it is on."""
    stored: dict[str, StoredTensor] = {}
    for name, weight in weights.items():
        storage = storage_of(name, weight.shape, config)
        if storage.bits is not None:
            stored[name] = quantize_rows(weight.float(), storage.bits, config)
        else:
            stored[name] = StoredTensor(values=weight.to(storage.dtype), scale_R=weight.new_empty(0).half())
    return stored


def dequantize(stored: dict[str, StoredTensor]) -> dict[str, Tensor]:
    """Float32 weights from their stored formats."""
    return {
        name: tensor.values.float() * tensor.scale_R.float()[:, None]
        if tensor.scale_R.numel()
        else tensor.values.float()
        for name, tensor in stored.items()
    }
