"""Rounding that makes up for each column's error in the columns after it. Source: GPTQ, arXiv 2210.17323.

Shapes: N matrices of one shape, R rows (outputs), C columns (inputs).
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from trainer.clip import largest_code
from trainer.errors import DivergedError
from trainer.fast import FastPaths
from trainer.layers import Linear
from trainer.model import Gpt

BLOCK_COLUMNS = 128  # columns whose errors are spread over all later ones at once
DAMPING_RETRIES = 6  # each with ten times the damping of the one before


@torch.no_grad()
def collect_hessians(model: Gpt, batches: Iterable[Tensor], document_mask: bool) -> dict[str, Tensor]:
    """X^T X (C, C) in float32 of the inputs X of every linear map, by its weight's name, summed over all tokens.

    A layer that is looped adds up all its passes. "tok_emb" has that of the final hidden states, which the tied head
    reads. The scale cancels in rounding, so sums over ranks need no division.

    Args:
        batches: token ids (B, T), on the model's device.
        document_mask: whether attention stops at BOS.
    """
    width = model.tok_emb.size(1)
    hessians = {"tok_emb": model.tok_emb.new_zeros(width, width)}
    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            width = module.weight.size(1)
            hessians[f"{name}.weight"] = module.weight.new_zeros(width, width)
            handles.append(module.register_forward_pre_hook(partial(add_inputs, hessians[f"{name}.weight"])))
    was_training, fast = model.training, model.fast
    model.eval()
    # Hooks see the inputs of maps that run as modules of their own, which those of the fast paths do not.
    model.take(FastPaths())
    try:
        # Hooks see what eager modules get; graphs compiled without them would not call them.
        with torch.compiler.set_stance("force_eager"):
            for ids_BT in batches:
                add_gram(hessians["tok_emb"], model(ids_BT, True, document_mask))
    finally:
        model.train(was_training)
        model.take(fast)
        for handle in handles:
            handle.remove()
    return hessians


def add_inputs(hessian_CC: Tensor, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Add a linear map's inputs to its Hessian; the first input is the activations."""
    add_gram(hessian_CC, inputs[0])


def add_gram(hessian_CC: Tensor, x: Tensor) -> None:
    """Add x^T x over all rows of x (..., C). TF32 products lose nothing where x was bf16."""
    rows_NC = x.flatten(0, -2).to(hessian_CC.dtype)
    hessian_CC.addmm_(rows_NC.mT, rows_NC)


def inverse_factor(hessians_NCC: Tensor, damping: float) -> Tensor:
    """U (N, C, C), upper triangular, U^T U the inverse of each damped Hessian.

    With H = M M^T, M upper triangular, U is the inverse of M: one Cholesky of H turned end for end and one triangular
    solve, where inverting H first would take two and lose digits. What fails in float32 is done again in float64 with
    more damping.

    Raises:
        DivergedError: a Hessian is not finite.
    """
    factors_NCC, is_good_N = cholesky_reversed(hessians_NCC, damping)
    for _ in range(DAMPING_RETRIES):
        if bool(is_good_N.all()):
            break
        damping *= 10
        again_NCC, is_good_N_again = cholesky_reversed(hessians_NCC[~is_good_N].double(), damping)
        factors_NCC[~is_good_N] = again_NCC.to(factors_NCC.dtype)
        is_good_N[~is_good_N] = is_good_N_again
    if not bool(is_good_N.all()):
        raise DivergedError("quant.gptq: expected finite Hessians, got one that is not")
    identity_CC = torch.eye(factors_NCC.size(1), device=factors_NCC.device).expand_as(factors_NCC)
    return torch.linalg.solve_triangular(factors_NCC, identity_CC, upper=True)


def cholesky_reversed(hessians_NCC: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """M (N, C, C), upper triangular, with M M^T each damped Hessian, and whether each (N,) could be found."""
    mean_N = hessians_NCC.diagonal(dim1=1, dim2=2).mean(dim=1)
    damped_NCC = hessians_NCC.flip(1, 2)
    damped_NCC.diagonal(dim1=1, dim2=2).add_(damping * mean_N[:, None])
    lower_NCC, failures_N = torch.linalg.cholesky_ex(damped_NCC)
    is_good_N = (failures_N == 0) & lower_NCC.diagonal(dim1=1, dim2=2).isfinite().all(dim=1)
    return lower_NCC.flip(1, 2), is_good_N


def round_gptq(weights_NRC: Tensor, hessians_NCC: Tensor, scale_NR: Tensor, bits: int, damping: float) -> Tensor:
    """Codes (N, R, C), int8, of a stack of matrices whose rows' steps are fixed beforehand.

    Columns are taken by falling diagonal of the Hessian, those that carry most first. Inputs that are always zero have
    zero weights. All matrices advance together, so the number of kernels does not grow with the depth of a model: the
    67 tensors of PR 1855, 36 million numbers, take 0.37 s on an H100.

    Args:
        scale_NR: step of each row.
        damping: added to the Hessian's diagonal, as a share of its mean.

    Raises:
        DivergedError: a Hessian is not finite.
    """
    diagonal_NC = hessians_NCC.diagonal(dim1=1, dim2=2)
    is_dead_NC = diagonal_NC == 0
    hessians_NCC = hessians_NCC + torch.diag_embed(is_dead_NC.to(hessians_NCC.dtype))
    order_NC = hessians_NCC.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    rows = torch.arange(len(order_NC), device=order_NC.device)[:, None]
    factor_NCC = inverse_factor(hessians_NCC[rows[..., None], order_NC[:, :, None], order_NC[:, None, :]], damping)
    alive_NCR = weights_NRC.masked_fill(is_dead_NC[:, None], 0.0).mT
    codes_NCR = round_in_order(alive_NCR[rows, order_NC], factor_NCC, scale_NR.float(), largest_code(bits))
    return codes_NCR[rows, order_NC.argsort(dim=1)].mT.contiguous()


def round_in_order(rest_NCR: Tensor, factor_NCC: Tensor, scale_NR: Tensor, q_max: int) -> Tensor:
    """Codes (N, C, R), int8, of columns from first to last. Overwrites rest_NCR, the weights still to be rounded."""
    codes_NCR = torch.empty_like(rest_NCR)
    num_columns = rest_NCR.size(1)
    for start in range(0, num_columns, BLOCK_COLUMNS):
        end = min(start + BLOCK_COLUMNS, num_columns)
        errors_NCR = round_block(
            rest_NCR[:, start:end], codes_NCR[:, start:end], factor_NCC[:, start:end, start:end], scale_NR, q_max
        )
        rest_NCR[:, end:].baddbmm_(factor_NCC[:, start:end, end:].mT, errors_NCR, alpha=-1)
    return codes_NCR.to(torch.int8)


def round_block(rest_NCR: Tensor, codes_NCR: Tensor, factor_NCC: Tensor, scale_NR: Tensor, q_max: int) -> Tensor:
    """Round the columns of one block into codes_NCR, each passing its error on to those after it in the block.

    Returns the errors (N, C, R), each divided by the factor's diagonal. Few kernels a column: launching them is all
    the time this takes.
    """
    errors_NCR = torch.empty_like(rest_NCR)
    diagonals = factor_NCC.diagonal(dim1=1, dim2=2)[..., None].unbind(1)
    columns = zip(rest_NCR.unbind(1), codes_NCR.unbind(1), errors_NCR.unbind(1), diagonals, strict=True)
    for index, (column_NR, code_NR, error_NR, diagonal_N1) in enumerate(columns):
        torch.div(column_NR, scale_NR, out=code_NR).round_().clamp_(-q_max, q_max)
        torch.addcmul(column_NR, code_NR, scale_NR, value=-1, out=error_NR).div_(diagonal_N1)
        later_NC1 = factor_NCC[:, index, index + 1 :, None]
        rest_NCR[:, index + 1 :].addcmul_(later_NC1, error_NR[:, None], value=-1)
    return errors_NCR
