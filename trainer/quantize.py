"""How weights are stored: rows of integers with a scale each, or plain floats, and the way back.

Shapes: R rows, C columns.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import torch
from torch import Tensor

from trainer.store_config import ClipRule, QuantConfig

CLIP_QUANTILE = 0.9999984  # the challenge's baseline
SMALLEST_SCALE = 2.0**-24  # the smallest number fp16 holds


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
class StoredCorrection:
    """A low-rank matrix that is added to a tensor of integers: A B, K the rank.

    Attributes:
        a_codes_RK: int8 in [-2, 1].
        a_scale: fp16, of no dimension.
        b_codes_KC: int8 in [-8, 7].
        b_scales_G: fp16, one a group of consecutive numbers of B, row after row; the last group may be short.
    """

    a_codes_RK: Tensor
    a_scale: Tensor
    b_codes_KC: Tensor
    b_scales_G: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor in its stored format. scale_R is empty where values are floats."""

    values: Tensor
    scale_R: Tensor
    correction: StoredCorrection | None = None


class Role(StrEnum):
    """What a tensor is for, which decides how it is stored."""

    TABLE = "table"  # token tables: embedding, bigram, value
    MLP = "mlp"
    MATRIX = "matrix"  # every other matrix
    GATE = "gate"  # attention gates
    CONTROL = "control"  # vectors and scalars


def role_of(name: str) -> Role:
    """A tensor's role, from its name."""
    if name == "tok_emb" or name.endswith(".table"):
        return Role.TABLE
    if name.endswith(".attn.gate"):
        return Role.GATE
    if not name.endswith(".weight"):
        return Role.CONTROL
    return Role.MLP if ".mlp." in name else Role.MATRIX


def layer_of(name: str) -> int | None:
    """The block a tensor belongs to; None outside blocks."""
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "blocks" else None


def bits_of(name: str, config: QuantConfig, num_layers: int) -> int:
    """Bits a number of a tensor is stored with where it is large enough for integers; 16 and 32 are floats."""
    layer = layer_of(name)
    match role_of(name):
        case Role.CONTROL:
            return config.control_bits
        case Role.GATE:
            return config.gate_bits
        case Role.TABLE:
            return config.embed_bits
        case Role.MLP | Role.MATRIX as role:
            run = config.layer_bits
            if layer is not None and name.endswith(".c_k.weight") and layer >= num_layers - config.late_k_layers:
                return 16
            if layer is not None and run is not None and run.first_layer <= layer <= run.last_layer:
                return run.bits
            return config.mlp_bits or config.matrix_bits if role is Role.MLP else config.matrix_bits
        case _ as never:
            assert_never(never)


def storage_of(name: str, shape: torch.Size, config: QuantConfig, num_layers: int) -> Storage:
    """The format of a tensor, from its name and shape alone, so that a reader needs no table of contents."""
    bits, role = bits_of(name, config, num_layers), role_of(name)
    is_small = len(shape) != 2 or (shape.numel() <= config.passthrough_numel and role is not Role.GATE)
    if bits == 32:
        return Storage(bits=None, dtype=torch.float32)
    if bits == 16 or is_small:
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


def quantize(
    weights: dict[str, Tensor], config: QuantConfig, num_layers: int, hessians: dict[str, Tensor] | None
) -> dict[str, StoredTensor]:
    """Every tensor in its stored format, on the device it is on."""
    stored: dict[str, StoredTensor] = {}
    for name, weight in weights.items():
        storage = storage_of(name, weight.shape, config, num_layers)
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
