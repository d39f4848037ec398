"""A low-rank correction of a rounding error in few bits. Sources: LQER, arXiv 2402.02446; the format, PR 1851.

Shapes: R rows, C columns, K rank, G groups of B's numbers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_NORMAL = 2.0**-14  # of fp16: a scale below it would lose digits


def top_singular(matrix_RC: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (R, K) = U S and B (K, C) = V^T of the largest singular values, K the rank or the smaller side if that is less.

    From the eigenvectors of the smaller Gram matrix in float64: quicker than all singular vectors, and the same on
    every run. Each component's sign makes its largest number in A negative, where A's codes reach further.
    """
    num_rows, num_columns = matrix_RC.shape
    rank = min(rank, num_rows, num_columns)
    wide_RC = matrix_RC.double()
    if num_columns <= num_rows:
        b_KC = torch.linalg.eigh(wide_RC.mT @ wide_RC).eigenvectors[:, -rank:].flip(1).mT
        a_RK = wide_RC @ b_KC.mT
    else:
        u_RK = torch.linalg.eigh(wide_RC @ wide_RC.mT).eigenvectors[:, -rank:].flip(1)
        b_KC = u_RK.mT @ wide_RC
        sigma_K = b_KC.norm(dim=1)
        b_KC = b_KC / sigma_K.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
        a_RK = u_RK * sigma_K
    largest_K = a_RK.gather(0, a_RK.abs().argmax(dim=0, keepdim=True))[0]
    sign_K = torch.where(largest_K > 0, -1.0, 1.0).double()
    return (a_RK * sign_K).float(), (b_KC * sign_K[:, None]).float()


def encode_left(a_RK: Tensor) -> tuple[Tensor, Tensor]:
    """A in codes of 2 bits, [-2, 1], int8, and one fp16 scale."""
    scale = (a_RK.abs().amax() / 1.5).clamp_min(SMALLEST_NORMAL).half()
    return (a_RK / scale.float()).round().clamp(-2, 1).to(torch.int8), scale


def encode_right(b_KC: Tensor, group_size: int) -> tuple[Tensor, Tensor]:
    """B in codes of 4 bits, [-8, 7], int8, and an fp16 scale (G,) for each group of consecutive numbers."""
    groups_GS = in_groups(b_KC, -(-b_KC.numel() // group_size))
    scale_G = (groups_GS.abs().amax(dim=1) / 7.5).clamp_min(SMALLEST_NORMAL).half()
    codes_GS = (groups_GS / scale_G.float()[:, None]).round().clamp(-8, 7).to(torch.int8)
    return codes_GS.flatten()[: b_KC.numel()].view_as(b_KC), scale_G


def decode_right(codes_KC: Tensor, scale_G: Tensor) -> Tensor:
    """B (K, C), float32, from its codes and scales."""
    groups_GS = in_groups(codes_KC.float(), len(scale_G)) * scale_G.float()[:, None]
    return groups_GS.flatten()[: codes_KC.numel()].view_as(codes_KC)


def in_groups(b_KC: Tensor, num_groups: int) -> Tensor:
    """All numbers, row after row, in groups of one size (G, S), zeros after the last.

    Groups are as even as whole numbers allow, so a reader knows their size from their number.
    """
    flat = b_KC.flatten()
    group_size = -(-len(flat) // num_groups)
    return F.pad(flat, (0, num_groups * group_size - len(flat))).view(num_groups, group_size)
