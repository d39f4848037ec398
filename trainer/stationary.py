"""The squared MLP's products with the weight kept in shared memory, where K fits it: Hopper only, in Gluon.

A program keeps 128 columns of the output and all of K of their weight. One warp fetches inputs; two groups of four
warps take turns at the tensor cores, tile by tile: one writes a tile while the other multiplies. Inputs are read from
L2 once for 128 columns, weights once for a program. Shapes are those of trainer/fused_mlp.py.
"""

# What Gluon gives its functions is known to Gluon alone.
# ruff: noqa: ANN001, D103, SIM108, SIM113
# pyright: reportMissingImports=false, reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportInvalidTypeForm=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# pyright: reportOptionalCall=false
from typing import Any

import torch
from torch import Tensor

from trainer.jit import (
    GluonTile,
    constexpr,
    fence_async_shared,
    gl,
    gluon_jit,
    has_gluon,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

STATIONARY_CAPABILITY = (9, 0)  # these products of warp groups are Hopper's alone
STATIONARY_ROWS = 64
STATIONARY_COLUMNS = 128
STATIONARY_DEPTH = 64
STATIONARY_INPUTS = 512  # of K at most: 128 KiB of 227 hold the weight, 64 the inputs on their way, 32 two tiles
STATIONARY_STAGES = 8
STATIONARY_REGISTERS = 232  # of a thread that multiplies


@gluon_jit
def load_inputs(x, w, x_parts, w_parts, full, empty, w_ready, num_n, num_m, IS_BACK: constexpr) -> None:
    STAGES: constexpr = x_parts.shape[0]
    BM: constexpr = x_parts.shape[1]
    BK: constexpr = x_parts.shape[2]
    STEPS: constexpr = w_parts.shape[0]
    BN: constexpr = w_parts.shape[2] if IS_BACK else w_parts.shape[1]
    first_n = (gl.program_id(0) % num_n) * BN
    mbarrier.expect(w_ready, STEPS * BN * BK * 2)
    for part in gl.static_range(STEPS):
        if IS_BACK:
            tma.async_copy_global_to_shared(w, [part * BK, first_n], w_ready, w_parts.index(part))
        else:
            tma.async_copy_global_to_shared(w, [first_n, part * BK], w_ready, w_parts.index(part))
    step = 0
    for m in range(gl.program_id(0) // num_n, num_m, gl.num_programs(0) // num_n):
        for k in range(STEPS):
            stage = step % STAGES
            mbarrier.wait(empty.index(stage), ((step // STAGES) & 1) ^ 1)
            mbarrier.expect(full.index(stage), BM * BK * 2)
            tma.async_copy_global_to_shared(x, [m * BM, k * BK], full.index(stage), x_parts.index(stage))
            step += 1


@gluon_jit
def activate(hidden, slope) -> Any:
    wide = hidden.to(gl.float32)
    active = gl.where(wide > 0, wide, slope * wide)
    return (active * active).to(hidden.dtype)


@gluon_jit
def derive(kept, slope, KEEPS_H: constexpr) -> Any:
    value = kept.to(gl.float32)
    if KEEPS_H:
        derivative = 2.0 * gl.where(value > 0, value, slope * slope * value)
    else:
        derivative = 2.0 * gl.sqrt(value)
    return derivative


@gluon_jit
def multiply_tile(x_parts, w_parts, full, empty, step, BM: constexpr, IS_BACK: constexpr) -> Any:
    STAGES: constexpr = x_parts.shape[0]
    STEPS: constexpr = w_parts.shape[0]
    BN: constexpr = w_parts.shape[2] if IS_BACK else w_parts.shape[1]
    layout: constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BN, 16])
    sums = gl.zeros((BM, BN), dtype=gl.float32, layout=layout)
    for k in range(STEPS):
        stage = step % STAGES
        mbarrier.wait(full.index(stage), (step // STAGES) & 1)
        part = w_parts.index(k)
        if not IS_BACK:
            part = part.permute((1, 0))
        going = warpgroup_mma(x_parts.index(stage), part, sums, is_async=True)
        sums = warpgroup_mma_wait(1, deps=(going,))
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), pred=k > 0)
        step += 1
    return sums, step


@gluon_jit
def take_turns(
    y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m, slope,
    who: constexpr, IS_BACK: constexpr, KEEPS_H: constexpr,
) -> None:  # fmt: skip
    STAGES: constexpr = x_parts.shape[0]
    STEPS: constexpr = w_parts.shape[0]
    BM: constexpr = y_parts.shape[1]
    BN: constexpr = y_parts.shape[2]
    first_n = (gl.program_id(0) % num_n) * BN
    stride = gl.num_programs(0) // num_n
    mine = y_parts.index(who)
    mbarrier.wait(w_ready, 0)
    step, turn = who * STEPS, 0
    for m in range(gl.program_id(0) // num_n + who * stride, num_m, 2 * stride):
        if IS_BACK:
            tma.store_wait(0)
            mbarrier.expect(kept_ready.index(who), BM * BN * 2)
            tma.async_copy_global_to_shared(other, [m * BM, first_n], kept_ready.index(who), mine)
        # A barrier tells only its last phase, so a group looks at the inputs' after the other group has.
        mbarrier.wait(turns.index(who), (turn & 1) ^ (1 if who == 0 else 0))
        sums, step = multiply_tile(x_parts, w_parts, full, empty, step, BM, IS_BACK)
        mbarrier.arrive(turns.index(1 - who))
        total = warpgroup_mma_wait(0, deps=(sums,))
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES))
        step += STEPS
        if IS_BACK:
            mbarrier.wait(kept_ready.index(who), turn & 1)
            result = (total * derive(mine.load(total.type.layout), slope, KEEPS_H)).to(y.dtype)
        else:
            hidden = total.to(y.dtype)
            tma.store_wait(0)
            if KEEPS_H:
                mine.store(hidden)
                fence_async_shared()
                tma.async_copy_shared_to_global(other, [m * BM, first_n], mine)
            result = activate(hidden, slope)
            if KEEPS_H:
                tma.store_wait(0)
        mine.store(result)
        fence_async_shared()
        tma.async_copy_shared_to_global(y, [m * BM, first_n], mine)
        turn += 1
    tma.store_wait(0)


@gluon_jit
def new_barriers(COUNT: constexpr) -> Any:
    barriers = gl.allocate_shared_memory(gl.int64, [COUNT, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(COUNT):
        mbarrier.init(barriers.index(i), count=1)
    return barriers


@gluon_jit
def stationary_kernel(
    x, w, y, other, num_n, num_m, slope, IS_BACK: constexpr, KEEPS_H: constexpr, STEPS: constexpr, STAGES: constexpr,
    REGISTERS: constexpr,
) -> None:  # fmt: skip
    x_parts = gl.allocate_shared_memory(x.dtype, [STAGES, x.block_shape[0], x.block_shape[1]], x.layout)
    w_parts = gl.allocate_shared_memory(w.dtype, [STEPS, w.block_shape[0], w.block_shape[1]], w.layout)
    y_parts = gl.allocate_shared_memory(y.dtype, [2, y.block_shape[0], y.block_shape[1]], y.layout)
    full, empty = new_barriers(STAGES), new_barriers(STAGES)
    turns, kept_ready, w_ready = new_barriers(2), new_barriers(2), new_barriers(1).index(0)
    fence_async_shared()
    gl.thread_barrier()
    first: constexpr = 0
    second: constexpr = 1
    # Tuples that have a name or are sums of others hold no constants.
    # fmt: off
    gl.warp_specialize(
        [
            (take_turns, (y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m,
                slope, first, IS_BACK, KEEPS_H)),
            (take_turns, (y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m,
                slope, second, IS_BACK, KEEPS_H)),
            (load_inputs, (x, w, x_parts, w_parts, full, empty, w_ready, num_n, num_m, IS_BACK)),
        ],
        [4, 1],
        [REGISTERS, 24],
    )
    # fmt: on


def is_stationary(a_MK: Tensor) -> bool:
    """Whether these kernels can take inputs."""
    K = a_MK.size(1)
    fits = K <= STATIONARY_INPUTS and K % STATIONARY_DEPTH == 0 and a_MK.dtype is torch.bfloat16
    return (
        fits and a_MK.is_cuda and has_gluon() and torch.cuda.get_device_capability(a_MK.device) == STATIONARY_CAPABILITY
    )


def gluon_tile(matrix: Tensor, rows: int, columns: int) -> Any:
    """A matrix as kernels read and write it: tile by tile, with zeros past its edges."""
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], gl.bfloat16)
    return GluonTile.from_tensor(matrix, [rows, columns], layout)


def run_stationary(x_MK: Tensor, w: Tensor, y_MN: Tensor, other_MN: Tensor, slope: float, is_back: bool) -> None:
    """Write y; other is written too where h is kept, and read on the way back. w is (N, K), back (K, N)."""
    num_n, num_m = -(-y_MN.size(1) // STATIONARY_COLUMNS), -(-len(y_MN) // STATIONARY_ROWS)
    num_multiprocessors = torch.cuda.get_device_properties(x_MK.device).multi_processor_count
    stationary_kernel[(max(1, num_multiprocessors // num_n) * num_n,)](
        gluon_tile(x_MK, STATIONARY_ROWS, STATIONARY_DEPTH),
        gluon_tile(w, *((STATIONARY_DEPTH, STATIONARY_COLUMNS) if is_back else (STATIONARY_COLUMNS, STATIONARY_DEPTH))),
        gluon_tile(y_MN, STATIONARY_ROWS, STATIONARY_COLUMNS),
        gluon_tile(other_MN, STATIONARY_ROWS, STATIONARY_COLUMNS),
        *(num_n, num_m, slope, is_back, bool(slope), x_MK.size(1) // STATIONARY_DEPTH),
        *(STATIONARY_STAGES, STATIONARY_REGISTERS),
        num_warps=4,
    )
