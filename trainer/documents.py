"""Causal attention, over whole rows or inside each document of a row. A document begins at BOS and at a row's start.

Shapes: B batch, T time, N = B T tokens, S bounds of documents, H query heads, K key/value heads, E head width.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.layers import BOS_ID

# Shortest mean document of a batch for which every bound is kept; the challenge's text has over 800. Attention takes
# time for unused bounds too: with room for one every 64 tokens it took 1.35 times as long on an H100.
TOKENS_PER_DOCUMENT = 256


class Documents(NamedTuple):
    """What keeps attention inside documents, in one of two forms; neither lets it see a whole row.

    Attributes:
        mask_B1TT: whether a query (row) sees a key (column).
        bounds_S: int32 offsets of documents in the flattened batch, the number of tokens as often as is left.
    """

    mask_B1TT: Tensor | None = None
    bounds_S: Tensor | None = None


def documents_of(ids_BT: Tensor, head_dim: int, dtype: torch.dtype) -> Documents:
    """The documents of a batch, as bounds where the kernel that takes them runs, else as a mask."""
    has_kernel = ids_BT.device.type == "cuda" and dtype is torch.bfloat16 and head_dim % 8 == 0
    return Documents(bounds_S=bounds_of(ids_BT)) if has_kernel else Documents(mask_B1TT=mask_of(ids_BT))


def mask_of(ids_BT: Tensor) -> Tensor:
    """Whether a query sees a key (B, 1, T, T): not after it and in its document."""
    document_BT = (ids_BT == BOS_ID).cumsum(1)
    is_same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    return is_same_BTT.tril()[:, None]


def bounds_of(ids_BT: Tensor) -> Tensor:
    """Offsets (S,) of a batch's documents, S = B + N / 256 + 1 whatever the text, so that one graph serves all batches.

    Unused places at the end are empty documents. Past N / 256 documents that begin inside rows, the bounds of later
    ones are dropped: they see the document before them, never another row.
    """
    rows, length = ids_BT.shape
    num_inner = rows * length // TOKENS_PER_DOCUMENT
    is_inner_BT = ids_BT == BOS_ID
    is_first_BT = torch.arange(length, device=ids_BT.device).expand(rows, length) == 0
    is_inner_N = (is_inner_BT & ~is_first_BT).flatten()
    is_bound_N = is_first_BT.flatten() | (is_inner_N & (is_inner_N.cumsum(0) <= num_inner))
    last = rows + num_inner
    offsets_N = torch.arange(rows * length, dtype=torch.int32, device=ids_BT.device)
    # One place past the last collects the tokens that begin no document.
    places_N = torch.where(is_bound_N, is_bound_N.cumsum(0) - 1, last + 1)
    all_N = torch.full((last + 2,), rows * length, dtype=torch.int32, device=ids_BT.device)
    return all_N.scatter(0, places_N, offsets_N)[: last + 1]


def attend(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, documents: Documents, dropout: float) -> Tensor:
    """Each query's mean of the values it sees (B, T, H, E), weighted by softmax(q k^T / sqrt(E))."""
    if documents.bounds_S is not None:
        return attend_inside(q_BTHE, k_BTKE, v_BTKE, documents.bounds_S, dropout)
    y_BHTE = F.scaled_dot_product_attention(
        q_BTHE.transpose(1, 2),
        k_BTKE.transpose(1, 2),
        v_BTKE.transpose(1, 2),
        attn_mask=documents.mask_B1TT,
        dropout_p=dropout,
        is_causal=documents.mask_B1TT is None,
        enable_gqa=q_BTHE.size(2) != k_BTKE.size(2),
    )
    return y_BHTE.transpose(1, 2)


def attend_inside(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, bounds_S: Tensor, dropout: float) -> Tensor:
    """The same inside bounds, on CUDA in 16-bit formats, by torch's own FlashAttention-2 over sequences of any length.

    Source: arXiv 2307.08691; on packed documents PR 1530.
    """
    flat = [x.flatten(0, 1) for x in (q_BTHE, k_BTKE, v_BTKE)]
    length = q_BTHE.size(1)
    y_NHE = torch.ops.aten._flash_attention_forward(*flat, bounds_S, bounds_S, length, length, dropout, True, False)[0]
    return y_NHE.view_as(q_BTHE)
