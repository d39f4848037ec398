"""The squared MLP's products with the weight kept in shared memory: a candidate that mlp_tiles.py times, in Gluon.

A program keeps 128 columns of the output and all of K of their weight. One warp fetches inputs; groups of four warps
take turns at the tensor cores, tile by tile, and write a tile while the others multiply. Inputs are read from L2 once
for 128 columns, weights once for a program. K is at most 512. Shapes are those of trainer/fused_mlp.py.
"""

# What Gluon gives its functions is known to Gluon alone.
# ruff: noqa: ANN001, ANN201, PLR0915, SIM108, SIM113
# pyright: reportMissingImports=false, reportMissingParameterType=false, reportUnknownParameterType=false
# pyright: reportCallIssue=false, reportIndexIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportInvalidTypeForm=false, reportAttributeAccessIssue=false, reportUntypedFunctionDecorator=false
from typing import Any

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

ROWS, COLUMNS, DEPTH = 64, 128, 64


@gluon.jit
def load_inputs(x, w, x_parts, w_parts, full, empty, w_ready, num_n, num_m, BACK: gl.constexpr):
    STAGES: gl.constexpr = x_parts.shape[0]
    BM: gl.constexpr = x_parts.shape[1]
    BK: gl.constexpr = x_parts.shape[2]
    STEPS: gl.constexpr = w_parts.shape[0]
    BN: gl.constexpr = w_parts.shape[2] if BACK else w_parts.shape[1]
    first_n = (gl.program_id(0) % num_n) * BN
    mbarrier.expect(w_ready, STEPS * BN * BK * 2)
    for part in gl.static_range(STEPS):
        if BACK:
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


@gluon.jit
def multiply(
    y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m, slope,
    who: gl.constexpr, BACK: gl.constexpr, KEEPS_H: gl.constexpr,
):  # fmt: skip
    STAGES: gl.constexpr = x_parts.shape[0]
    STEPS: gl.constexpr = w_parts.shape[0]
    GROUPS: gl.constexpr = y_parts.shape[0]
    BM: gl.constexpr = y_parts.shape[1]
    BN: gl.constexpr = y_parts.shape[2]
    layout: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BN, 16])
    first_n = (gl.program_id(0) % num_n) * BN
    stride = gl.num_programs(0) // num_n
    mine = y_parts.index(who)
    mbarrier.wait(w_ready, 0)
    step, turn = who * STEPS, 0
    for m in range(gl.program_id(0) // num_n + who * stride, num_m, GROUPS * stride):
        if BACK:
            tma.store_wait(0)
            mbarrier.expect(kept_ready.index(who), BM * BN * 2)
            tma.async_copy_global_to_shared(other, [m * BM, first_n], kept_ready.index(who), mine)
        # A barrier tells only its last phase, so a group looks at the inputs' after the group before it has.
        mbarrier.wait(turns.index(who), (turn & 1) ^ (1 if who == 0 else 0))
        sums = gl.zeros((BM, BN), dtype=gl.float32, layout=layout)
        for k in range(STEPS):
            stage = step % STAGES
            mbarrier.wait(full.index(stage), (step // STAGES) & 1)
            part = w_parts.index(k)
            if not BACK:
                part = part.permute((1, 0))
            going = warpgroup_mma(x_parts.index(stage), part, sums, is_async=True)
            sums = warpgroup_mma_wait(1, deps=(going,))
            mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), pred=k > 0)
            step += 1
        mbarrier.arrive(turns.index((who + 1) % GROUPS))
        total = warpgroup_mma_wait(0, deps=(sums,))
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES))
        step += (GROUPS - 1) * STEPS
        if BACK:
            mbarrier.wait(kept_ready.index(who), turn & 1)
            value = mine.load(layout).to(gl.float32)
            if KEEPS_H:
                derivative = 2.0 * gl.where(value > 0, value, slope * slope * value)
            else:
                derivative = 2.0 * gl.sqrt(value)
            result = (total * derivative).to(y.dtype)
        else:
            hidden = total.to(y.dtype)
            tma.store_wait(0)
            if KEEPS_H:
                mine.store(hidden)
                fence_async_shared()
                tma.async_copy_shared_to_global(other, [m * BM, first_n], mine)
            wide = hidden.to(gl.float32)
            active = gl.where(wide > 0, wide, slope * wide)
            result = (active * active).to(y.dtype)
            if KEEPS_H:
                tma.store_wait(0)
        mine.store(result)
        fence_async_shared()
        tma.async_copy_shared_to_global(y, [m * BM, first_n], mine)
        turn += 1
    tma.store_wait(0)


@gluon.jit
def stationary_kernel(
    x, w, y, other, num_n, num_m, slope, BACK: gl.constexpr, KEEPS_H: gl.constexpr, STEPS: gl.constexpr,
    STAGES: gl.constexpr, GROUPS: gl.constexpr, REGISTERS: gl.constexpr,
):  # fmt: skip
    x_parts = gl.allocate_shared_memory(x.dtype, [STAGES, x.block_shape[0], x.block_shape[1]], x.layout)
    w_parts = gl.allocate_shared_memory(w.dtype, [STEPS, w.block_shape[0], w.block_shape[1]], w.layout)
    y_parts = gl.allocate_shared_memory(y.dtype, [GROUPS, y.block_shape[0], y.block_shape[1]], y.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    turns = gl.allocate_shared_memory(gl.int64, [GROUPS, 1], mbarrier.MBarrierLayout())
    kept_ready = gl.allocate_shared_memory(gl.int64, [GROUPS, 1], mbarrier.MBarrierLayout())
    w_ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    for i in gl.static_range(GROUPS):
        mbarrier.init(turns.index(i), count=1)
        mbarrier.init(kept_ready.index(i), count=1)
    mbarrier.init(w_ready, count=1)
    fence_async_shared()
    gl.thread_barrier()
    first: gl.constexpr = 0
    second: gl.constexpr = 1
    third: gl.constexpr = 2
    # Tuples that have a name or are sums of others hold no constants.
    # fmt: off
    if GROUPS == 2:
        gl.warp_specialize(
            [
                (multiply, (y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m,
                    slope, first, BACK, KEEPS_H)),
                (multiply, (y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m,
                    slope, second, BACK, KEEPS_H)),
                (load_inputs, (x, w, x_parts, w_parts, full, empty, w_ready, num_n, num_m, BACK)),
            ],
            [4, 1],
            [REGISTERS, 24],
        )
    else:
        gl.warp_specialize(
            [
                (multiply, (y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m,
                    slope, first, BACK, KEEPS_H)),
                (multiply, (y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m,
                    slope, second, BACK, KEEPS_H)),
                (multiply, (y, other, x_parts, w_parts, y_parts, full, empty, turns, kept_ready, w_ready, num_n, num_m,
                    slope, third, BACK, KEEPS_H)),
                (load_inputs, (x, w, x_parts, w_parts, full, empty, w_ready, num_n, num_m, BACK)),
            ],
            [4, 4, 1],
            [REGISTERS, REGISTERS, 24],
        )
    # fmt: on


def layout_of(rows: int, columns: int) -> Any:
    """Of a tile in shared memory."""
    return gl.NVMMASharedLayout.get_default_for([rows, columns], gl.bfloat16)


def stationary(a_MK: Tensor, w: Tensor, kept_MN: Tensor | None, slope: float, groups: int) -> tuple[Tensor, Tensor]:
    """(a, h) as squared_up, by a weight (N, K); by one of (K, N), given what was kept, (dh, dh) as squared_back."""
    is_back = kept_MN is not None
    num_columns = w.size(1) if is_back else len(w)
    y_MN = a_MK.new_empty(len(a_MK), num_columns)
    other_MN = kept_MN if kept_MN is not None else torch.empty_like(y_MN) if slope else y_MN

    def tile(matrix: Tensor, rows: int, columns: int) -> Any:
        return TensorDescriptor.from_tensor(matrix, [rows, columns], layout_of(rows, columns))

    num_n, num_m = -(-num_columns // COLUMNS), -(-len(a_MK) // ROWS)
    num_programs = torch.cuda.get_device_properties(a_MK.device).multi_processor_count // num_n * num_n
    stages, registers = {2: (8, 232), 3: (6, 160)}[groups]
    stationary_kernel[(num_programs,)](
        tile(a_MK, ROWS, DEPTH),
        tile(w, DEPTH, COLUMNS) if is_back else tile(w, COLUMNS, DEPTH),
        tile(y_MN, ROWS, COLUMNS),
        tile(other_MN, ROWS, COLUMNS),
        *(num_n, num_m, slope, is_back, bool(slope), a_MK.size(1) // DEPTH, stages, groups, registers),
        num_warps=4,
    )
    return y_MN, other_MN
