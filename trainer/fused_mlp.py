"""A squared MLP whose matrix products apply the activation and its derivative themselves.

Between two products of the plain form lies a kernel that reads and writes the hidden layer; here the product before it
writes what the one after it reads. Shapes: M tokens, N hidden units, K inputs, O outputs.
"""

# Kernels have parameters without types, and what Triton gives them is known to Triton alone.
# pyright: reportMissingParameterType=false, reportOptionalMemberAccess=false, reportOptionalCall=false
# pyright: reportIndexIssue=false, reportInvalidTypeForm=false, reportAttributeAccessIssue=false
# pyright: reportUnknownParameterType=false, reportOptionalOperand=false, reportCallIssue=false

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.jit import TensorDescriptor, constexpr, jit, tl, triton


class MlpTile(NamedTuple):
    """How a product is cut.

    Attributes:
        rows: of a tile of the output.
        columns: of it.
        depth: of one step along K.
        warps: that make a tile.
        stages: steps whose inputs are in shared memory at once.
        programs: of a multiprocessor, each making many tiles in a loop; 0 for one tile a program.
        parts: in which a loop writes a tile, side by side: 1, 2 or 4. Each needs its room beside the stages.
        is_flat: whether a loop fetches a tile's first steps while it writes the tile before.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    programs: int = 0
    parts: int = 1
    is_flat: bool = False


# Tiles half as wide are bound by what they read from L2. K is a constant of the kernels: ptxas makes products wait for
# each other otherwise. Tiles of a row follow each other, so that its inputs and all of the weight are read from L2.
# An MlpTile each, in its order.
UP_TILE = (128, 256, 64, 8, 3, 0, 1, False)
BACK_TILE = (128, 256, 64, 8, 3, 0, 1, False)


@jit
def activation_of(hidden, slope, KEEPS_H: constexpr):  # noqa: D103
    wide = hidden.to(tl.float32)
    if KEEPS_H:
        active = tl.where(wide > 0, wide, slope * wide)
    else:
        active = tl.maximum(wide, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return (active * active).to(hidden.dtype)


@jit
def derivative_of(kept, slope, KEEPS_H: constexpr):  # noqa: D103
    value = kept.to(tl.float32)
    if KEEPS_H:
        return 2.0 * tl.where(value > 0, value, slope * slope * value)
    else:
        return 2.0 * tl.sqrt(value)


@jit
def halves_of(sums):  # noqa: D103
    return tl.split(tl.permute(tl.reshape(sums, (sums.shape[0], 2, sums.shape[1] // 2)), (0, 2, 1)))


@jit
def parts_of(sums, PARTS: constexpr):  # noqa: D103
    if PARTS == 1:
        parts = (sums,)
    elif PARTS == 2:
        parts = halves_of(sums)
    else:
        left, right = halves_of(sums)
        first, second = halves_of(left)
        third, fourth = halves_of(right)
        parts = (first, second, third, fourth)
    return parts


@jit
def squared_up_kernel(  # noqa: D103
    x, w, a, h, num_n, slope, K: constexpr, KEEPS_H: constexpr, BM: constexpr, BN: constexpr, BK: constexpr
):
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
def squared_up_loop_kernel(  # noqa: D103
    x, w, a, h, num_n, slope, K: constexpr, KEEPS_H: constexpr, BM: constexpr, BN: constexpr, BK: constexpr,
    num_tiles, PARTS: constexpr, IS_FLAT: constexpr,
):  # fmt: skip
    for tile in tl.range(tl.program_id(0), num_tiles, tl.num_programs(0), flatten=IS_FLAT):
        first_m, first_n = (tile // num_n) * BM, (tile % num_n) * BN
        sums = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, K, BK):
            sums = tl.dot(x.load([first_m, k]), w.load([first_n, k]).T, sums)
        parts = parts_of(sums, PARTS)
        for i in tl.static_range(PARTS):
            column = first_n + i * (BN // PARTS)
            hidden = parts[i].to(a.dtype)
            if KEEPS_H:
                h.store([first_m, column], hidden)
            a.store([first_m, column], activation_of(hidden, slope, KEEPS_H))


@jit
def squared_back_kernel(  # noqa: D103
    g, w, kept, dh, num_n, slope, K: constexpr, KEEPS_H: constexpr, BM: constexpr, BN: constexpr, BK: constexpr
):
    first_m = (tl.program_id(0) // num_n) * BM
    first_n = (tl.program_id(0) % num_n) * BN
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, K, BK):
        sums = tl.dot(g.load([first_m, k]), w.load([k, first_n]), sums)
    derivative = derivative_of(kept.load([first_m, first_n]), slope, KEEPS_H)
    dh.store([first_m, first_n], (sums * derivative).to(dh.dtype))


@jit
def squared_back_loop_kernel(  # noqa: D103
    g, w, kept, dh, num_n, slope, K: constexpr, KEEPS_H: constexpr, BM: constexpr, BN: constexpr, BK: constexpr,
    num_tiles, PARTS: constexpr, IS_FLAT: constexpr,
):  # fmt: skip
    for tile in tl.range(tl.program_id(0), num_tiles, tl.num_programs(0), flatten=IS_FLAT):
        first_m, first_n = (tile // num_n) * BM, (tile % num_n) * BN
        sums = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(0, K, BK):
            sums = tl.dot(g.load([first_m, k]), w.load([k, first_n]), sums)
        parts = parts_of(sums, PARTS)
        for i in tl.static_range(PARTS):
            column = first_n + i * (BN // PARTS)
            derivative = derivative_of(kept.load([first_m, column]), slope, KEEPS_H)
            dh.store([first_m, column], (parts[i] * derivative).to(dh.dtype))


def tile_of(matrix: Tensor, rows: int, columns: int) -> Any:
    """A matrix as kernels read and write it: tile by tile, with zeros past its edges."""
    return TensorDescriptor.from_tensor(matrix, [rows, columns])


def num_multiprocessors(device: torch.device) -> int:
    """Those of a GPU; as many programs take turns elsewhere, where kernels are interpreted."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 3


def make_tiles(
    kernels: tuple[Any, Any], matrices: tuple[Any, ...], result_MN: Tensor, slope: float, tile: MlpTile
) -> None:
    """Run the first kernel, a program for each tile, or the second, where programs make many."""
    num_n = triton.cdiv(result_MN.size(1), tile.columns)
    num_tiles = triton.cdiv(len(result_MN), tile.rows) * num_n
    arguments = (*matrices, num_n, slope, matrices[0].shape[1], bool(slope), tile.rows, tile.columns, tile.depth)
    if tile.programs:
        num_programs = min(num_tiles, tile.programs * num_multiprocessors(result_MN.device))
        kernel, arguments = kernels[1][(num_programs,)], (*arguments, num_tiles, tile.parts, tile.is_flat)
    else:
        kernel = kernels[0][(num_tiles,)]
    kernel(*arguments, num_warps=tile.warps, num_stages=tile.stages)


def squared_up_by(tile: MlpTile, x_MK: Tensor, up_NK: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """As squared_up, cut in a certain way."""
    a_MN = x_MK.new_empty(len(x_MK), len(up_NK))
    h_MN = torch.empty_like(a_MN) if slope else a_MN.new_empty(0)
    written = (tile.rows, tile.columns // tile.parts)
    matrices = (
        tile_of(x_MK.contiguous(), tile.rows, tile.depth),
        tile_of(up_NK, tile.columns, tile.depth),
        tile_of(a_MN, *written),
        tile_of(h_MN if slope else a_MN, *written),
    )
    make_tiles((squared_up_kernel, squared_up_loop_kernel), matrices, a_MN, slope, tile)
    return a_MN, h_MN


@torch.library.custom_op("caddie::squared_up", mutates_args=())
def squared_up(x_MK: Tensor, up_NK: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """The activated hidden layer (M, N), and the hidden layer where the activation does not tell it (else empty)."""
    return squared_up_by(MlpTile(*UP_TILE), x_MK, up_NK, slope)


@squared_up.register_fake
def squared_up_shapes(x_MK: Tensor, up_NK: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """What squared_up returns, without its numbers."""
    a_MN = x_MK.new_empty(x_MK.size(0), up_NK.size(0))
    return a_MN, torch.empty_like(a_MN) if slope else a_MN.new_empty(0)


def squared_back_by(tile: MlpTile, g_MO: Tensor, down_ON: Tensor, kept_MN: Tensor, slope: float) -> Tensor:
    """As squared_back, cut in a certain way."""
    dh_MN = torch.empty_like(kept_MN)
    written = (tile.rows, tile.columns // tile.parts)
    matrices = (
        tile_of(g_MO.contiguous(), tile.rows, tile.depth),
        tile_of(down_ON, tile.depth, tile.columns),
        tile_of(kept_MN, *written),
        tile_of(dh_MN, *written),
    )
    make_tiles((squared_back_kernel, squared_back_loop_kernel), matrices, dh_MN, slope, tile)
    return dh_MN


@torch.library.custom_op("caddie::squared_back", mutates_args=())
def squared_back(g_MO: Tensor, down_ON: Tensor, kept_MN: Tensor, slope: float) -> Tensor:
    """The hidden layer's gradient (M, N) from the outputs', given what squared_up kept."""
    return squared_back_by(MlpTile(*BACK_TILE), g_MO, down_ON, kept_MN, slope)


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
