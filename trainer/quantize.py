"""How weights are stored: rows of integers with a scale each, or plain floats, and the way back.

Shapes: N matrices of one shape, R rows, C columns.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from trainer.clip import round_to_codes, scale_of_rows
from trainer.gptq import round_gptq
from trainer.lqer import decode_right, encode_left, encode_right, top_singular
from trainer.roles import Role, role_of, stored_bits
from trainer.store_config import LqerConfig, QuantConfig
from trainer.train_config import QatForm


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


def storage_of(name: str, shape: torch.Size, config: QuantConfig, num_layers: int) -> Storage:
    """The format of a tensor, from its name and shape alone, so that a reader needs no table of contents."""
    bits = stored_bits(name, shape, config, num_layers)
    if bits < 16:
        return Storage(bits=bits, dtype=torch.int8)
    return Storage(bits=None, dtype=torch.float16 if bits == 16 else torch.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """Tensors of integers that are handled as one: of one shape, role and number of bits, all marked or none."""

    bits: int
    role: Role
    is_marked: bool
    names: list[str]


def stacks_of(
    weights: dict[str, Tensor], config: QuantConfig, num_layers: int, marked: Collection[str] = ()
) -> list[Stack]:
    """All tensors that are stored in integers, a stack for each kind: their number does not grow with depth.

    Args:
        marked: names that are kept apart from the others.
    """
    stacks: dict[tuple[int, Role, torch.Size, bool], list[str]] = {}
    for name, weight in weights.items():
        bits = storage_of(name, weight.shape, config, num_layers).bits
        if bits is not None:
            stacks.setdefault((bits, role_of(name), weight.shape, name in marked), []).append(name)
    return [
        Stack(bits=bits, role=role, is_marked=is_marked, names=names)
        for (bits, role, _, is_marked), names in stacks.items()
    ]


def quantize(
    weights: dict[str, Tensor], config: QuantConfig, num_layers: int, hessians: dict[str, Tensor] | None
) -> dict[str, StoredTensor]:
    """Every tensor in its stored format, on the device it is on.

    Args:
        hessians: those of collect_hessians, for rounding with error feedback; None rounds each weight by itself.

    Raises:
        DivergedError: a Hessian is not finite.
    """
    used = {} if hessians is None or config.gptq is None else dict(hessians)
    if config.gptq is not None and not config.gptq.rounds_embedding:
        used.pop("tok_emb", None)
    stored: dict[str, StoredTensor] = {}
    for stack in stacks_of(weights, config, num_layers, used):
        weights_NRC = torch.stack([weights[name].float() for name in stack.names])
        hessians_NCC = torch.stack([used[name].float() for name in stack.names]) if stack.is_marked else None
        codes_NRC, scale_NR = quantize_stack(weights_NRC, stack.bits, stack.role, config, hessians_NCC)
        for name, codes_RC, scale_R in zip(stack.names, codes_NRC, scale_NR, strict=True):
            stored[name] = StoredTensor(values=codes_RC.clone(), scale_R=scale_R.clone())
    for name in weights.keys() - stored.keys():
        dtype = storage_of(name, weights[name].shape, config, num_layers).dtype
        stored[name] = StoredTensor(values=weights[name].to(dtype), scale_R=weights[name].new_empty(0).half())
    stored = {name: stored[name] for name in weights}
    return stored if config.lqer is None else stored | correct(weights, stored, config.lqer)


def quantize_stack(
    weights_NRC: Tensor, bits: int, role: Role, config: QuantConfig, hessians_NCC: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Codes (N, R, C), int8, and steps (N, R), fp16, of matrices of one shape, role and number of bits.

    Steps are rounded to fp16 before they are used, so that writer and reader use the same.
    """
    if role is not Role.GATE:
        weights_NRC = prune_smallest(weights_NRC, config.prune_fraction)
    if hessians_NCC is None or config.gptq is None:
        scale_NR = scale_of_rows(weights_NRC, bits, role, config)
        return round_to_codes(weights_NRC, scale_NR, bits).to(torch.int8), scale_NR
    scale_NR = scale_of_rows(weights_NRC, bits, role, config, hessians_NCC.diagonal(dim1=1, dim2=2))
    return round_gptq(weights_NRC, hessians_NCC, scale_NR, bits, config.gptq.damping), scale_NR


def prune_smallest(weights_NRC: Tensor, fraction: float) -> Tensor:
    """Matrices with this share of each one's smallest magnitudes set to zero. Source: PR 180."""
    magnitude_NM = weights_NRC.abs().flatten(1)
    count = int(fraction * magnitude_NM.size(1))
    if count == 0:
        return weights_NRC
    threshold_N = magnitude_NM.kthvalue(count, dim=1).values
    return weights_NRC.masked_fill(weights_NRC.abs() <= threshold_N[:, None, None], 0.0)


def correct(weights: dict[str, Tensor], stored: dict[str, StoredTensor], config: LqerConfig) -> dict[str, StoredTensor]:
    """Those stored tensors that get a correction, with it: the ones of the largest rounding error. Source: PR 1851."""
    names = [name for name, tensor in stored.items() if tensor.scale_R.numel()]
    if not names:
        return {}
    norms = torch.stack([torch.dist(weights[name].float(), dequantize_one(stored[name])) for name in names]).tolist()
    worst = sorted(zip(names, norms, strict=True), key=lambda pair: (-pair[1], pair[0]))[: config.num_tensors]
    return {name: with_correction(stored[name], weights[name].float(), config) for name, _ in worst}


def with_correction(tensor: StoredTensor, weight_RC: Tensor, config: LqerConfig) -> StoredTensor:
    """A tensor of integers with the correction of its rounding error."""
    a_RK, b_KC = top_singular(weight_RC - dequantize_one(tensor), config.rank)
    a_codes_RK, a_scale = encode_left(a_RK)
    b_codes_KC, b_scales_G = encode_right(b_KC, config.group_size)
    correction = StoredCorrection(a_codes_RK=a_codes_RK, a_scale=a_scale, b_codes_KC=b_codes_KC, b_scales_G=b_scales_G)
    return StoredTensor(values=tensor.values, scale_R=tensor.scale_R, correction=correction)


def dequantize(stored: dict[str, StoredTensor]) -> dict[str, Tensor]:
    """Float32 weights from their stored formats."""
    return {name: dequantize_one(tensor) for name, tensor in stored.items()}


def dequantize_one(tensor: StoredTensor) -> Tensor:
    """A float32 weight from its stored format."""
    if not tensor.scale_R.numel():
        return tensor.values.float()
    weight_RC = tensor.values.float() * tensor.scale_R.float()[:, None]
    if tensor.correction is None:
        return weight_RC
    a_RK = tensor.correction.a_codes_RK.float() * tensor.correction.a_scale.float()
    return weight_RC + a_RK @ decode_right(tensor.correction.b_codes_KC, tensor.correction.b_scales_G)


def fake_quantize(weights: dict[str, Tensor], config: QuantConfig, num_layers: int, form: QatForm) -> dict[str, Tensor]:
    """Tensors that are stored in integers as quantization-aware training sees them, without gradients.

    Neither pruning nor error feedback is foreseen. Matrices of one shape go together: one by one, the 67 tensors of PR
    1855 take 31 to 40 ms in eager mode on an H100, which launches are nearly all of. Sources: QatForm.
    """
    seen: dict[str, Tensor] = {}
    for stack in stacks_of(weights, config, num_layers):
        weights_NRC = torch.stack([weights[name].detach() for name in stack.names])
        weights_NRC += rounding_change(weights_NRC, stack.bits, stack.role, config, form)
        seen |= dict(zip(stack.names, weights_NRC.unbind(), strict=True))
    return seen


def rounding_change(weight_RC: Tensor, bits: int, role: Role, config: QuantConfig, form: QatForm) -> Tensor:
    """What quantization-aware training adds to matrices."""
    scale_R = scale_of_rows(weight_RC, bits, role, config)
    match form:
        case QatForm.STRAIGHT_THROUGH:
            return round_to_codes(weight_RC, scale_R, bits) * scale_R.float()[..., None] - weight_RC
        case QatForm.NOISE:
            return (torch.rand_like(weight_RC) - 0.5) * scale_R.float()[..., None]
        case _:
            assert_never(form)
