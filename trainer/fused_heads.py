"""What lies between the joint product of attention's maps and attention itself, as one kernel each way.

Queries and keys are normalised a head, turned by their position, and queries get their gain. Backward writes the joint
product's gradient as a whole, values' part included, so that nothing is joined or added up afterwards. Both kernels
make the norms' roots themselves: they read all of what the roots are made from anyway.

Shapes: B batch, T time, N = B T tokens, H query heads, K key/value heads, E head width, W = (H + 2 K) E columns of the
joint product, F rotated pairs of channels, P programs.
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
from trainer.rotary import Rotation

# Rows that a program holds at a time: all heads of some tokens, which lie side by side in memory.
HEADS_ROWS = 64
HEADS_WARPS = 4
HEADS_BACK_ROWS = 32
HEADS_BACK_WARPS = 4
HEADS_BACK_PROGRAMS = 1056  # eight for each of an H100's 132 multiprocessors


# A tile's rows are heads, PLACES of each token: a power of two, so that a row is the same head in all tiles. Of two
# channels that turn as a pair one lies in a tile of half a head's width, the other in a second such tile. Channels that
# do not turn are paired as they come, with an angle of zero, so that both tiles are full.
@jit
def heads_kernel(  # noqa: D103
    joint, cosines, sines, gains, queries, keys, num_tokens, length, eps,
    H: constexpr, K: constexpr, E: constexpr, F: constexpr, TOKENS: constexpr, PLACES: constexpr, PAIRS: constexpr,
) -> None:  # fmt: skip
    pair = tl.arange(0, PAIRS)[None, :]
    one, other = pair + tl.where(pair < F, 0, F), pair + tl.where(pair < F, F, E // 2)
    place = tl.arange(0, TOKENS * PLACES)
    token, head = tl.program_id(0) * TOKENS + place // PLACES, place % PLACES
    angle, token = (token % length)[:, None] * F + pair, token.to(tl.int64)
    is_query = head < H
    mask = ((token < num_tokens) & (head < H + K))[:, None] & (pair < E // 2)
    turns = mask & (pair < F)
    source = (joint + (token * (H + 2 * K) + head) * E)[:, None]
    x = tl.load(source + one, mask, 0.0).to(tl.float32)
    y = tl.load(source + other, mask, 0.0).to(tl.float32)
    cosine = tl.load(cosines + angle, turns, 1.0).to(tl.float32)
    sine = tl.load(sines + angle, turns, 0.0).to(tl.float32)
    root = tl.rsqrt(tl.sum(x * x + y * y, 1) / E + eps)
    factor = (root * tl.load(gains + head, is_query, 1.0))[:, None]
    x, y = x * factor, y * factor
    target = tl.where(is_query, queries + (token * H + head) * E, keys + (token * K + head - H) * E)[:, None]
    tl.store(target + one, (x * cosine + y * sine).to(queries.dtype.element_ty), mask)
    tl.store(target + other, (y * cosine - x * sine).to(queries.dtype.element_ty), mask)


@jit
def heads_back_kernel(  # noqa: D103
    g_queries, g_keys, g_values, joint, cosines, sines, gains, g_joint, sums, num_tokens, length, eps,
    H: constexpr, K: constexpr, E: constexpr, F: constexpr, TOKENS: constexpr, PLACES: constexpr, PAIRS: constexpr,
) -> None:  # fmt: skip
    pair = tl.arange(0, PAIRS)[None, :]
    one, other = pair + tl.where(pair < F, 0, F), pair + tl.where(pair < F, F, E // 2)
    place = tl.arange(0, TOKENS * PLACES)
    head = place % PLACES
    is_query, is_value = head < H, head >= H + K
    gain = tl.load(gains + head, is_query, 1.0)
    total = tl.zeros((TOKENS * PLACES,), dtype=tl.float32)
    for first in range(tl.program_id(0) * TOKENS, num_tokens, tl.num_programs(0) * TOKENS):
        token = first + place // PLACES
        angle, token = (token % length)[:, None] * F + pair, token.to(tl.int64)
        mask = ((token < num_tokens) & (head < H + 2 * K))[:, None] & (pair < E // 2)
        # Values have no norm, no gain and no angle, which leaves a copy of their gradient.
        is_normed = mask & (head < H + K)[:, None]
        turns = is_normed & (pair < F)
        upstream = tl.where(is_value, g_values + (token * K + head - H - K) * E, g_keys + (token * K + head - H) * E)
        upstream = tl.where(is_query, g_queries + (token * H + head) * E, upstream)[:, None]
        start = ((token * (H + 2 * K) + head) * E)[:, None]
        x = tl.load(joint + start + one, is_normed, 0.0).to(tl.float32)
        y = tl.load(joint + start + other, is_normed, 0.0).to(tl.float32)
        g_turned_x = tl.load(upstream + one, mask, 0.0).to(tl.float32)
        g_turned_y = tl.load(upstream + other, mask, 0.0).to(tl.float32)
        cosine = tl.load(cosines + angle, turns, 1.0).to(tl.float32)
        sine = tl.load(sines + angle, turns, 0.0).to(tl.float32)
        g_x, g_y = g_turned_x * cosine - g_turned_y * sine, g_turned_y * cosine + g_turned_x * sine
        root = tl.rsqrt(tl.sum(x * x + y * y, 1) / E + eps)
        along = root * tl.sum(g_x * x + g_y * y, 1)
        total += along
        factor = tl.where(is_value, 1.0, root * gain)[:, None]
        share = (along * root / E)[:, None]
        tl.store(g_joint + start + one, (factor * (g_x - share * x)).to(g_joint.dtype.element_ty), mask)
        tl.store(g_joint + start + other, (factor * (g_y - share * y)).to(g_joint.dtype.element_ty), mask)
    head = tl.arange(0, PLACES)
    tl.store(sums + tl.program_id(0) * H + head, tl.sum(tl.reshape(total, (TOKENS, PLACES)), 0), head < H)


def heads_tile(rows: int, num_heads: int, width: int) -> tuple[int, int, int]:
    """The last three parameters of both kernels, where so many heads of a token are written."""
    places = triton.next_power_of_2(num_heads)
    return max(1, rows // places), places, triton.next_power_of_2(width // 2)


@torch.library.custom_op("caddie::heads", mutates_args=())
def heads(
    joint_BTW: Tensor, cos_TF: Tensor, sin_TF: Tensor, gain_H: Tensor, num_kv_heads: int
) -> tuple[Tensor, Tensor]:
    """Queries (B, T, H, E) and keys (B, T, K, E) as attention takes them, in the joint product's format.

    Args:
        gain_H: float32.
    """
    q_BTHE, k_BTKE = heads_shapes(joint_BTW, cos_TF, sin_TF, gain_H, num_kv_heads)
    num_heads, width = q_BTHE.shape[2:]
    num_tokens, (length, num_pairs) = q_BTHE.shape[:2].numel(), cos_TF.shape
    tile = heads_tile(HEADS_ROWS, num_heads + num_kv_heads, width)
    given = [part.contiguous() for part in (joint_BTW, cos_TF, sin_TF, gain_H)]
    heads_kernel[(triton.cdiv(num_tokens, tile[0]),)](
        *(*given, q_BTHE, k_BTKE, num_tokens, length, NORM_EPS),
        *(num_heads, num_kv_heads, width, num_pairs, *tile),
        num_warps=HEADS_WARPS,
    )
    return q_BTHE, k_BTKE


@heads.register_fake
def heads_shapes(
    joint_BTW: Tensor, cos_TF: Tensor, sin_TF: Tensor, gain_H: Tensor, num_kv_heads: int
) -> tuple[Tensor, Tensor]:
    """What heads returns, without its numbers."""
    rows, length, columns = joint_BTW.shape
    width = columns // (gain_H.size(0) + 2 * num_kv_heads)
    q_BTHE = joint_BTW.new_empty(rows, length, gain_H.size(0), width)
    return q_BTHE, joint_BTW.new_empty(rows, length, num_kv_heads, width)


@torch.library.custom_op("caddie::heads_back", mutates_args=())
def heads_back(
    g_BTHE: Tensor,
    g_k_BTKE: Tensor,
    g_v_BTKE: Tensor,
    joint_BTW: Tensor,
    cos_TF: Tensor,
    sin_TF: Tensor,
    gain_H: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of the joint product (B, T, W) and, in parts to be added up (P, H), of the gains."""
    g_joint_BTW, sums_PH = heads_back_shapes(g_BTHE, g_k_BTKE, g_v_BTKE, joint_BTW, cos_TF, sin_TF, gain_H)
    (num_heads, width), num_kv_heads = g_BTHE.shape[2:], g_k_BTKE.size(2)
    num_tokens, (length, num_pairs) = g_BTHE.shape[:2].numel(), cos_TF.shape
    given = [part.contiguous() for part in (g_BTHE, g_k_BTKE, g_v_BTKE, joint_BTW, cos_TF, sin_TF, gain_H)]
    heads_back_kernel[(sums_PH.size(0),)](
        *(*given, g_joint_BTW, sums_PH, num_tokens, length, NORM_EPS),
        *(num_heads, num_kv_heads, width, num_pairs),
        *heads_tile(HEADS_BACK_ROWS, num_heads + 2 * num_kv_heads, width),
        num_warps=HEADS_BACK_WARPS,
    )
    return g_joint_BTW, sums_PH


@heads_back.register_fake
def heads_back_shapes(
    g_BTHE: Tensor,
    g_k_BTKE: Tensor,
    g_v_BTKE: Tensor,
    joint_BTW: Tensor,
    cos_TF: Tensor,
    sin_TF: Tensor,
    gain_H: Tensor,
) -> tuple[Tensor, Tensor]:
    """What heads_back returns, without its numbers."""
    g_joint_BTW = torch.empty(joint_BTW.shape, dtype=joint_BTW.dtype, device=joint_BTW.device)
    num_programs = min(HEADS_BACK_PROGRAMS, g_BTHE.size(0) * g_BTHE.size(1))
    return g_joint_BTW, joint_BTW.new_empty(num_programs, gain_H.size(0), dtype=torch.float32)


class FusedHeads(torch.autograd.Function):
    """Queries, keys and values of a joint product; float32 inside. Values stay where they are: a view of it."""

    @staticmethod
    def forward(
        ctx: Any, joint_BTW: Tensor, cos_TF: Tensor, sin_TF: Tensor, gain_H: Tensor, num_kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised and turned queries and keys, and the values."""
        ctx.save_for_backward(joint_BTW, cos_TF, sin_TF, gain_H)
        q_BTHE, k_BTKE = heads(joint_BTW, cos_TF, sin_TF, gain_H, num_kv_heads)
        v_BTKE = joint_BTW[..., -num_kv_heads * k_BTKE.size(-1) :].unflatten(-1, (num_kv_heads, -1))
        return q_BTHE, k_BTKE, v_BTKE

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the joint product and the gains."""
        g_joint_BTW, sums_PH = heads_back(*gradients, *ctx.saved_tensors)
        return g_joint_BTW, None, None, sums_PH.sum(0), None


def fused_heads(
    joint_BTW: Tensor, rotation: Rotation, gain_H: Tensor, num_kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """FusedHeads as a function: queries (B, T, H, E), keys and values (B, T, K, E)."""
    q_BTHE, k_BTKE, v_BTKE = FusedHeads.apply(joint_BTW, *rotation, gain_H, num_kv_heads)  # pyright: ignore[reportGeneralTypeIssues]
    return q_BTHE, k_BTKE, v_BTKE
