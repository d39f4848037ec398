"""Softcapped cross-entropy from raw logits, a row at a time: nothing of the vocabulary's width is written but bf16.

Shapes: N tokens, V vocabulary.
"""

# Kernels have parameters without types, and what Triton gives them is known to Triton alone.
# pyright: reportMissingParameterType=false, reportOptionalMemberAccess=false, reportOptionalCall=false
# pyright: reportIndexIssue=false, reportInvalidTypeForm=false, reportAttributeAccessIssue=false
# pyright: reportUnknownParameterType=false, reportOptionalOperand=false, reportCallIssue=false

from typing import Any

import torch
from torch import Tensor

from trainer.jit import constexpr, jit, tl, triton

NUMBERS_PER_WARP = 1024  # of a row's logits; 32 a thread


@jit
def nll_kernel(raw, targets, losses, sums, width, cap, COLUMNS: constexpr) -> None:  # noqa: D103
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    x = tl.load(raw + row * width + column, column < width, 0.0).to(tl.float32)
    logits = tl.where(column < width, cap * (2.0 * tl.sigmoid(2.0 * x / cap) - 1.0), float("-inf"))
    largest = tl.max(logits, 0)
    log_sum = largest + tl.log(tl.sum(tl.exp(logits - largest), 0))
    at_target = tl.sum(tl.where(column == tl.load(targets + row), logits, 0.0), 0)
    tl.store(sums + row, log_sum)
    tl.store(losses + row, log_sum - at_target)


@jit
def nll_back_kernel(g_losses, raw, targets, sums, g_raw, width, cap, COLUMNS: constexpr) -> None:  # noqa: D103
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    x = tl.load(raw + row * width + column, column < width, 0.0).to(tl.float32)
    share = 2.0 * tl.sigmoid(2.0 * x / cap) - 1.0
    error = tl.exp(cap * share - tl.load(sums + row)) - tl.where(column == tl.load(targets + row), 1.0, 0.0)
    g = tl.load(g_losses + row) * error * (1.0 - share * share)
    tl.store(g_raw + row * width + column, g.to(g_raw.dtype.element_ty), column < width)


def warps_of(width: int) -> int:
    """Warps of a program that holds a row: a power of two, 4 to 32."""
    return min(32, max(4, triton.next_power_of_2(width) // NUMBERS_PER_WARP))


@torch.library.custom_op("caddie::softcapped_nll", mutates_args=())
def softcapped_nll(raw_NV: Tensor, targets_N: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """Nats (N,) float32 of targets where logits are cap * tanh(raw / cap), and the log of the sum of exponentials."""
    raw_NV, width = raw_NV.contiguous(), raw_NV.size(1)
    losses_N = raw_NV.new_empty(len(raw_NV), dtype=torch.float32)
    sums_N = torch.empty_like(losses_N)
    nll_kernel[(len(raw_NV),)](
        *(raw_NV, targets_N.contiguous(), losses_N, sums_N, width, cap, triton.next_power_of_2(width)),
        num_warps=warps_of(width),
    )
    return losses_N, sums_N


@softcapped_nll.register_fake
def softcapped_nll_shapes(raw_NV: Tensor, targets_N: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """What softcapped_nll returns, without its numbers."""
    losses_N = raw_NV.new_empty(raw_NV.size(0), dtype=torch.float32)
    return losses_N, torch.empty_like(losses_N)


@torch.library.custom_op("caddie::softcapped_nll_back", mutates_args=())
def softcapped_nll_back(g_N: Tensor, raw_NV: Tensor, targets_N: Tensor, sums_N: Tensor, cap: float) -> Tensor:
    """The raw logits' gradient (N, V), in their format."""
    raw_NV, width = raw_NV.contiguous(), raw_NV.size(1)
    g_NV = torch.empty_like(raw_NV)
    nll_back_kernel[(len(raw_NV),)](
        *(g_N.contiguous(), raw_NV, targets_N.contiguous(), sums_N, g_NV, width, cap, triton.next_power_of_2(width)),
        num_warps=warps_of(width),
    )
    return g_NV


@softcapped_nll_back.register_fake
def softcapped_nll_back_shape(g_N: Tensor, raw_NV: Tensor, targets_N: Tensor, sums_N: Tensor, cap: float) -> Tensor:
    """What softcapped_nll_back returns, without its numbers."""
    return torch.empty(raw_NV.shape, dtype=raw_NV.dtype, device=raw_NV.device)


class SoftcappedNll(torch.autograd.Function):
    """Cross-entropy of softcapped logits, computed in float32 from raw ones of any format."""

    @staticmethod
    def forward(ctx: Any, raw_NV: Tensor, targets_N: Tensor, cap: float) -> Tensor:
        """Nats (N,)."""
        losses_N, sums_N = softcapped_nll(raw_NV, targets_N, cap)
        ctx.save_for_backward(raw_NV, targets_N, sums_N)
        ctx.cap = cap
        return losses_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The raw logits' gradient."""
        raw_NV, targets_N, sums_N = ctx.saved_tensors
        return softcapped_nll_back(gradients[0], raw_NV, targets_N, sums_N, ctx.cap), None, None


def fused_nll(raw_NV: Tensor, targets_N: Tensor, cap: float) -> Tensor:
    """SoftcappedNll as a function: nats (N,) float32."""
    losses_N = SoftcappedNll.apply(raw_NV, targets_N, cap)
    assert isinstance(losses_N, Tensor)
    return losses_N
