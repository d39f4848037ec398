"""A squared MLP whose matrix products apply the activation and its derivative themselves.

Between two products of the plain form lies a kernel that reads and writes the hidden layer; here the product before it
writes what the one after it reads. Shapes: M tokens, N hidden units, K inputs, O outputs. The kernels here take any
shape; where trainer/stationary.py can, its are 1.3 to 1.6 times as fast.
"""

# Kernels have parameters without types, and what Triton gives them is known to Triton alone.
# pyright: reportMissingParameterType=false, reportOptionalMemberAccess=false, reportOptionalCall=false
# pyright: reportIndexIssue=false, reportInvalidTypeForm=false, reportAttributeAccessIssue=false
# pyright: reportUnknownParameterType=false, reportOptionalOperand=false, reportCallIssue=false

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.jit import TensorDescriptor, constexpr, jit, tl, triton
from trainer.stationary import is_stationary, run_stationary

# K is a constant of the kernels: ptxas makes products wait for each other otherwise. Tiles of a row follow each other,
# so that its inputs and all of the weight are read from L2.
TILE_ROWS = 128
TILE_COLUMNS = 128
TILE_DEPTH = 64
TILE_WARPS = 4
TILE_STAGES = 3


@jit
def activation_of(hidden, slope, KEEPS_H: constexpr) -> Any:  # noqa: D103
    wide = hidden.to(tl.float32)
    if KEEPS_H:
        active = tl.where(wide > 0, wide, slope * wide)
    else:
        active = tl.maximum(wide, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return (active * active).to(hidden.dtype)


@jit
def derivative_of(kept, slope, KEEPS_H: constexpr) -> Any:  # noqa: D103
    value = kept.to(tl.float32)
    if KEEPS_H:
        return 2.0 * tl.where(value > 0, value, slope * slope * value)
    else:
        return 2.0 * tl.sqrt(value)


@jit
def squared_up_kernel(  # noqa: D103
    x, w, a, h, num_n, slope, K: constexpr, KEEPS_H: constexpr, BM: constexpr, BN: constexpr, BK: constexpr
) -> None:
    first_m = (tl.program_id(0) // num_n) * BM
    first_n = (tl.program_id(0) % num_n) * BN
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        sums = tl.dot(x.load([first_m, k]), w.load([first_n, k]).T, sums)
    # Rounded as the plain form's hidden layer is.
    hidden = sums.to(a.dtype)
    if KEEPS_H:
        h.store([first_m, first_n], hidden)
    a.store([first_m, first_n], activation_of(hidden, slope, KEEPS_H))


@jit
def squared_back_kernel(  # noqa: D103
    g, w, dh, kept, num_n, slope, K: constexpr, KEEPS_H: constexpr, BM: constexpr, BN: constexpr, BK: constexpr
) -> None:
    first_m = (tl.program_id(0) // num_n) * BM
    first_n = (tl.program_id(0) % num_n) * BN
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        sums = tl.dot(g.load([first_m, k]), w.load([k, first_n]), sums)
    derivative = derivative_of(kept.load([first_m, first_n]), slope, KEEPS_H)
    dh.store([first_m, first_n], (sums * derivative).to(dh.dtype))


def tile_of(matrix: Tensor, rows: int, columns: int) -> Any:
    """A matrix as kernels read and write it: tile by tile, with zeros past its edges."""
    return TensorDescriptor.from_tensor(matrix, [rows, columns])


def run_tiles(x_MK: Tensor, w: Tensor, y_MN: Tensor, other_MN: Tensor, slope: float, is_back: bool) -> None:
    """As run_stationary, for any shape: a program for each tile."""
    num_n = triton.cdiv(y_MN.size(1), TILE_COLUMNS)
    kernel = squared_back_kernel if is_back else squared_up_kernel
    kernel[(triton.cdiv(len(y_MN), TILE_ROWS) * num_n,)](
        tile_of(x_MK, TILE_ROWS, TILE_DEPTH),
        tile_of(w, *((TILE_DEPTH, TILE_COLUMNS) if is_back else (TILE_COLUMNS, TILE_DEPTH))),
        tile_of(y_MN, TILE_ROWS, TILE_COLUMNS),
        tile_of(other_MN, TILE_ROWS, TILE_COLUMNS),
        *(num_n, slope, x_MK.size(1), bool(slope), TILE_ROWS, TILE_COLUMNS, TILE_DEPTH),
        num_warps=TILE_WARPS,
        num_stages=TILE_STAGES,
    )


@torch.library.custom_op("caddie::squared_up", mutates_args=())
def squared_up(x_MK: Tensor, up_NK: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """The activated hidden layer (M, N), and the hidden layer where the activation does not tell it (else empty)."""
    x_MK = x_MK.contiguous()
    a_MN = x_MK.new_empty(len(x_MK), len(up_NK))
    h_MN = torch.empty_like(a_MN) if slope else a_MN.new_empty(0)
    run = run_stationary if is_stationary(x_MK) else run_tiles
    run(x_MK, up_NK, a_MN, h_MN if slope else a_MN, slope, is_back=False)
    return a_MN, h_MN


@squared_up.register_fake
def squared_up_shapes(x_MK: Tensor, up_NK: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """What squared_up returns, without its numbers."""
    a_MN = x_MK.new_empty(x_MK.size(0), up_NK.size(0))
    return a_MN, torch.empty_like(a_MN) if slope else a_MN.new_empty(0)


@torch.library.custom_op("caddie::squared_back", mutates_args=())
def squared_back(g_MO: Tensor, down_ON: Tensor, kept_MN: Tensor, slope: float) -> Tensor:
    """The hidden layer's gradient (M, N) from the outputs', given what squared_up kept."""
    g_MO, dh_MN = g_MO.contiguous(), torch.empty_like(kept_MN)
    run = run_stationary if is_stationary(g_MO) else run_tiles
    run(g_MO, down_ON, dh_MN, kept_MN, slope, is_back=True)
    return dh_MN


@squared_back.register_fake
def squared_back_shape(g_MO: Tensor, down_ON: Tensor, kept_MN: Tensor, slope: float) -> Tensor:
    """What squared_back returns, without its numbers."""
    return torch.empty_like(kept_MN)


class FusedMlp(torch.autograd.Function):
    """down(act(up(x)) ** 2) by copies of both weights, the down copy with its rows scaled; see CopiedMap.

    Only the activation is kept where it tells the hidden layer (its root, slope 0), else both are.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up_NK: Tensor, down_ON: Tensor, scale_O: Tensor, up: Tensor, down: Tensor, slope: float
    ) -> Tensor:
        """(..., K) to (..., O)."""
        a_MN, h_MN = squared_up(x.flatten(0, -2), up_NK, slope)
        ctx.save_for_backward(x, up_NK, down_ON, scale_O, down, a_MN, h_MN)
        ctx.slope = slope
        return F.linear(a_MN, down_ON).view(*x.shape[:-1], len(down_ON))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, the scale and the weights; none of the copies."""
        x, up_NK, down_ON, scale_O, down, a_MN, h_MN = ctx.saved_tensors
        g_MO = gradients[0].flatten(0, -2)
        dh_MN = squared_back(g_MO, down_ON, h_MN if ctx.slope else a_MN, ctx.slope)
        g_down = (g_MO.mT @ a_MN).to(down.dtype)
        g_up = (dh_MN.mT @ x.flatten(0, -2)).to(down.dtype)
        g_x = (dh_MN @ up_NK).view(x.shape)
        return g_x, None, None, (g_down * down).sum(1), g_up, scale_O[:, None] * g_down, None


def fused_mlp(
    x: Tensor, up_NK: Tensor, down_ON: Tensor, scale_O: Tensor, up: Tensor, down: Tensor, slope: float
) -> Tensor:
    """FusedMlp as a function: (..., K) to (..., O)."""
    y = FusedMlp.apply(x, up_NK, down_ON, scale_O, up, down, slope)
    assert isinstance(y, Tensor)
    return y
