"""A block's entry as one kernel each way: a weighted sum of streams, and its norm.

The gradient of a weight a channel is a sum over all tokens. The kernel that makes the streams' gradients adds it up on
the way, where a compiler reads every stream once more. Shapes: N tokens, D model width, P programs, S streams.
"""

# Kernels have parameters without types, and what Triton gives them is known to Triton alone.
# pyright: reportMissingParameterType=false, reportOptionalMemberAccess=false, reportOptionalCall=false
# pyright: reportIndexIssue=false, reportInvalidTypeForm=false, reportAttributeAccessIssue=false
# pyright: reportUnknownParameterType=false, reportOptionalOperand=false, reportCallIssue=false
# pyright: reportPossiblyUnboundVariable=false

from typing import Any

import torch
from torch import Tensor

from trainer.jit import constexpr, jit, tl, triton
from trainer.layers import NORM_EPS

MIX_ROWS = 4  # tokens that a program holds at a time
MIX_WARPS = 4
MIX_PROGRAMS = 1056  # eight for each of an H100's 132 multiprocessors


@jit
def mix_kernel(  # noqa: D103
    x, y, z, weights, mixed, normed, roots, num_rows, width, scale, eps,
    HAS_Z: constexpr, HAS_SCALE: constexpr, ROWS: constexpr, COLUMNS: constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    is_column = column < width
    mask = (row < num_rows)[:, None] & is_column[None, :]
    place = row.to(tl.int64)[:, None] * width + column[None, :]
    total = tl.load(weights + column, is_column, 0.0)[None, :] * tl.load(x + place, mask, 0.0).to(tl.float32)
    total += tl.load(weights + width + column, is_column, 0.0)[None, :] * tl.load(y + place, mask, 0.0).to(tl.float32)
    if HAS_Z:
        z_weight = tl.load(weights + 2 * width + column, is_column, 0.0)
        total += z_weight[None, :] * tl.load(z + place, mask, 0.0).to(tl.float32)
    # The norm is that of the rounded stream, as in the plain form.
    rounded = total.to(mixed.dtype.element_ty)
    tl.store(mixed + place, rounded, mask)
    total = rounded.to(tl.float32)
    root = tl.rsqrt(tl.sum(total * total, 1) / width + eps)
    tl.store(roots + row, root, row < num_rows)
    if HAS_SCALE:
        root = root * tl.load(scale)
    tl.store(normed + place, (total * root[:, None]).to(normed.dtype.element_ty), mask)


@jit
def mix_back_kernel(  # noqa: D103
    g_mixed, g_normed, mixed, roots, x, y, z, weights, g_x, g_y, g_z, sums, num_rows, width, scale,
    HAS_Z: constexpr, HAS_SCALE: constexpr, ROWS: constexpr, COLUMNS: constexpr,
) -> None:  # fmt: skip
    column = tl.arange(0, COLUMNS)
    is_column = column < width
    x_weight = tl.load(weights + column, is_column, 0.0)[None, :]
    y_weight = tl.load(weights + width + column, is_column, 0.0)[None, :]
    x_sum = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    y_sum = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    if HAS_Z:
        z_weight = tl.load(weights + 2 * width + column, is_column, 0.0)[None, :]
        z_sum = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    factor = tl.load(scale) if HAS_SCALE else 1.0
    for first in range(tl.program_id(0) * ROWS, num_rows, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)
        mask = (row < num_rows)[:, None] & is_column[None, :]
        place = row.to(tl.int64)[:, None] * width + column[None, :]
        root = tl.load(roots + row, row < num_rows, 0.0)[:, None]
        unit = tl.load(mixed + place, mask, 0.0).to(tl.float32) * root
        g_unit = tl.load(g_normed + place, mask, 0.0).to(tl.float32) * factor
        along = tl.sum(g_unit * unit, 1)[:, None] / width
        g = tl.load(g_mixed + place, mask, 0.0).to(tl.float32) + root * (g_unit - unit * along)
        x_sum += g * tl.load(x + place, mask, 0.0).to(tl.float32)
        y_sum += g * tl.load(y + place, mask, 0.0).to(tl.float32)
        tl.store(g_x + place, (x_weight * g).to(g_x.dtype.element_ty), mask)
        tl.store(g_y + place, (y_weight * g).to(g_y.dtype.element_ty), mask)
        if HAS_Z:
            z_sum += g * tl.load(z + place, mask, 0.0).to(tl.float32)
            tl.store(g_z + place, (z_weight * g).to(g_z.dtype.element_ty), mask)
    num_streams = 3 if HAS_Z else 2
    place = tl.program_id(0) * num_streams * width + column
    tl.store(sums + place, tl.sum(x_sum, 0), is_column)
    tl.store(sums + place + width, tl.sum(y_sum, 0), is_column)
    if HAS_Z:
        tl.store(sums + place + 2 * width, tl.sum(z_sum, 0), is_column)


@torch.library.custom_op("caddie::mix", mutates_args=())
def mix(
    x: Tensor, y: Tensor, z: Tensor | None, weights_SD: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum of two or three streams (..., D), the sum over its root mean square, and one over that.

    Args:
        weights_SD: float32.
        scale: () of the normalised stream, float32; None is 1.
    """
    streams = [stream.contiguous() for stream in (x, y, y if z is None else z)]
    width, num_rows = x.size(-1), x.numel() // x.size(-1)
    mixed, normed = torch.empty_like(streams[0]), torch.empty_like(streams[0])
    roots_N = x.new_empty(num_rows, dtype=torch.float32)
    mix_kernel[(triton.cdiv(num_rows, MIX_ROWS),)](
        *(*streams, weights_SD.contiguous(), mixed, normed, roots_N, num_rows, width, scale, NORM_EPS),
        *(z is not None, scale is not None, MIX_ROWS, triton.next_power_of_2(width)),
        num_warps=MIX_WARPS,
    )
    return mixed, normed, roots_N


@mix.register_fake
def mix_shapes(
    x: Tensor, y: Tensor, z: Tensor | None, weights_SD: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What mix returns, without its numbers."""
    mixed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return mixed, torch.empty_like(mixed), x.new_empty(x.numel() // x.size(-1), dtype=torch.float32)


@torch.library.custom_op("caddie::mix_back", mutates_args=())
def mix_back(
    g_mixed: Tensor,
    g_normed: Tensor,
    mixed: Tensor,
    roots_N: Tensor,
    x: Tensor,
    y: Tensor,
    z: Tensor | None,
    weights_SD: Tensor,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the streams and, in parts to be added up (P, S, D), of their weights."""
    streams = [stream.contiguous() for stream in (x, y, y if z is None else z)]
    width, num_rows = x.size(-1), x.numel() // x.size(-1)
    num_programs = min(MIX_PROGRAMS, triton.cdiv(num_rows, MIX_ROWS))
    given = [part.contiguous() for part in (g_mixed, g_normed, mixed)]
    g_x, g_y = torch.empty_like(given[2]), torch.empty_like(given[2])
    g_z = g_y.new_empty(0) if z is None else torch.empty_like(g_y)
    sums_PSD = x.new_empty(num_programs, weights_SD.size(0), width, dtype=torch.float32)
    mix_back_kernel[(num_programs,)](
        *(*given, roots_N, *streams, weights_SD.contiguous(), g_x, g_y, g_z, sums_PSD, num_rows, width, scale),
        *(z is not None, scale is not None, MIX_ROWS, triton.next_power_of_2(width)),
        num_warps=MIX_WARPS,
    )
    return g_x, g_y, g_z, sums_PSD


@mix_back.register_fake
def mix_back_shapes(
    g_mixed: Tensor,
    g_normed: Tensor,
    mixed: Tensor,
    roots_N: Tensor,
    x: Tensor,
    y: Tensor,
    z: Tensor | None,
    weights_SD: Tensor,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What mix_back returns, without its numbers."""
    g_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    g_z = g_x.new_empty(0) if z is None else torch.empty_like(g_x)
    num_programs = min(MIX_PROGRAMS, -(-(x.numel() // x.size(-1)) // MIX_ROWS))
    sums_PSD = x.new_empty(num_programs, weights_SD.size(0), x.size(-1), dtype=torch.float32)
    return g_x, torch.empty_like(g_x), g_z, sums_PSD


class FusedMix(torch.autograd.Function):
    """A weighted sum of two or three streams and its norm; sums are float32, streams keep their format."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, z: Tensor | None, weights_SD: Tensor, scale: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The sum and the norm."""
        mixed, normed, roots_N = mix(x, y, z, weights_SD, scale)
        ctx.save_for_backward(x, y, z, weights_SD, scale, mixed, roots_N)
        return mixed, normed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the streams and their weights."""
        x, y, z, weights_SD, scale, mixed, roots_N = ctx.saved_tensors
        g_x, g_y, g_z, sums_PSD = mix_back(*gradients, mixed, roots_N, x, y, z, weights_SD, scale)
        return g_x, g_y, None if z is None else g_z, sums_PSD.sum(0), None


def fused_mix(
    x: Tensor, y: Tensor, z: Tensor | None, weights_SD: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """FusedMix as a function: the sum and the norm, (..., D) each."""
    mixed, normed = FusedMix.apply(x, y, z, weights_SD, scale)  # pyright: ignore[reportGeneralTypeIssues]
    return mixed, normed
