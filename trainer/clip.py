"""Where a row of weights is clipped, and the scale that follows.

Shapes: R rows, C columns; leading dimensions are a stack of matrices.
"""

from typing import assert_never

import torch
from torch import Tensor

from trainer.roles import Role
from trainer.store_config import ClipRule, QuantConfig

CLIP_QUANTILE = 0.9999984  # the challenge's baseline
MSE_QUANTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)
SMALLEST_SCALE = 2.0**-24  # the smallest number fp16 holds


def largest_code(bits: int) -> int:
    """q_max: codes are whole numbers in [-q_max, q_max]."""
    return 2 ** (bits - 1) - 1


def quantile_of_rows(magnitude_RC: Tensor, quantile: float) -> Tensor:
    """The quantile (R,) of each row by linear interpolation, as torch.quantile has it, from its largest numbers alone.

    Many times quicker than sorting, of any size, and traceable.
    """
    last = magnitude_RC.size(-1) - 1
    below = int(quantile * last)
    if below == last:
        return magnitude_RC.amax(dim=-1)
    lower_R, upper_R = (
        two_largest(magnitude_RC)
        if below == last - 1
        else magnitude_RC.topk(last - below + 1, dim=-1).values[..., [-1, -2]].unbind(-1)
    )
    # The rank is a float32, whose last bits decide those of the result.
    rank = magnitude_RC.new_full((), quantile) * last
    return torch.lerp(lower_R, upper_R, rank - below)


def two_largest(magnitude_RC: Tensor) -> tuple[Tensor, Tensor]:
    """The second largest and the largest (R,) of each row; two reductions, which a compiler fuses."""
    largest_R, index_R = magnitude_RC.max(dim=-1)
    columns_C = torch.arange(magnitude_RC.size(-1), device=magnitude_RC.device)
    second_R = torch.where(columns_C == index_R[..., None], -1.0, magnitude_RC).amax(dim=-1)
    return second_R, largest_R


def sigma_of_rows(weight_RC: Tensor) -> Tensor:
    """The standard deviation (R,) of each row; 0 where it has one column."""
    return weight_RC.std(dim=-1, correction=min(1, weight_RC.size(-1) - 1))


def importance_of_rows(weight_RC: Tensor, diagonal_C: Tensor) -> Tensor:
    """How much each row (R,) matters to the loss, of mean 1: its magnitudes weighted by their inputs' squares.

    Args:
        diagonal_C: of the Hessian.
    """
    share_C = diagonal_C / diagonal_C.mean(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    raw_R = (weight_RC.abs() * share_C[..., None, :]).mean(dim=-1)
    return raw_R / raw_R.mean(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def sigmas_of(role: Role, config: QuantConfig) -> float:
    """Standard deviations that the sigma rules clip a tensor at."""
    match role:
        case Role.MLP:
            return config.mlp_clip_sigmas or config.clip_sigmas
        case Role.TABLE:
            return config.embed_clip_sigmas or config.clip_sigmas
        case Role.MATRIX | Role.GATE | Role.CONTROL:
            return config.clip_sigmas
        case _:
            assert_never(role)


def scale_of_clip(clip_R: Tensor, bits: int, is_floored: bool) -> Tensor:
    """The fp16 step (R,) between codes where the largest code stands for the clip."""
    q_max = largest_code(bits)
    return (clip_R / q_max).clamp_min(1.0 / q_max if is_floored else SMALLEST_SCALE).half()


def scale_of_rows(
    weight_RC: Tensor, bits: int, role: Role, config: QuantConfig, diagonal_C: Tensor | None = None
) -> Tensor:
    """The fp16 step (R,) between codes of each row, by the config's clip rule; gates go by their largest number.

    Args:
        diagonal_C: of the Hessian, for the rule that asks for it; without one that rule is SIGMA.
    """
    if role is Role.GATE:
        return scale_of_clip(weight_RC.abs().amax(dim=-1), bits, is_floored=False)
    if config.clip is ClipRule.MSE:
        return least_error_scale(weight_RC, bits, config.scale_is_floored)
    return scale_of_clip(clip_of_rows(weight_RC, role, config, diagonal_C), bits, config.scale_is_floored)


def clip_of_rows(weight_RC: Tensor, role: Role, config: QuantConfig, diagonal_C: Tensor | None) -> Tensor:
    """The magnitude (R,) at which each row is clipped. Sources: ClipRule.

    Raises:
        ValueError: the rule is MSE, whose clip follows from the error it makes.
    """
    match config.clip:
        case ClipRule.ROW_MAX:
            return weight_RC.abs().amax(dim=-1)
        case ClipRule.QUANTILE:
            return quantile_of_rows(weight_RC.abs(), CLIP_QUANTILE)
        case ClipRule.SIGMA:
            return sigmas_of(role, config) * sigma_of_rows(weight_RC)
        case ClipRule.HESSIAN_SIGMA:
            clip_R = sigmas_of(role, config) * sigma_of_rows(weight_RC)
            if diagonal_C is None:
                return clip_R
            return clip_R * (1 + config.hessian_clip * (importance_of_rows(weight_RC, diagonal_C) - 1))
        case ClipRule.MSE:
            raise ValueError("clip_of_rows: expected another rule than mse")
        case _:
            assert_never(config.clip)


def round_to_codes(weight_RC: Tensor, scale_R: Tensor, bits: int) -> Tensor:
    """Each weight's code as a float: the nearest whole number of steps, within the largest code."""
    q_max = largest_code(bits)
    return (weight_RC / scale_R.float()[..., None]).round().clamp(-q_max, q_max)


def least_error_scale(weight_RC: Tensor, bits: int, is_floored: bool) -> Tensor:
    """The step (R,) of the quantile with the least squared rounding error of a row. Source: GPTQ-lite, PR 374."""
    magnitude_RC = weight_RC.abs()
    best_R = scale_of_clip(quantile_of_rows(magnitude_RC, MSE_QUANTILES[0]), bits, is_floored)
    least_R = squared_error(weight_RC, best_R, bits)
    for quantile in MSE_QUANTILES[1:]:
        scale_R = scale_of_clip(quantile_of_rows(magnitude_RC, quantile), bits, is_floored)
        error_R = squared_error(weight_RC, scale_R, bits)
        best_R = torch.where(error_R < least_R, scale_R, best_R)
        least_R = torch.minimum(error_R, least_R)
    return best_R


def squared_error(weight_RC: Tensor, scale_R: Tensor, bits: int) -> Tensor:
    """The sum (R,) of squared rounding errors of each row."""
    rounded_RC = round_to_codes(weight_RC, scale_R, bits) * scale_R.float()[..., None]
    return (rounded_RC - weight_RC).square().sum(dim=-1)
