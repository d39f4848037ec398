"""Building blocks without a choice in them: linear maps, low-rank additions to them, normalisation.

Shapes: B batch, T time, O output and I input width, R rank.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.initialize import matrix_start
from trainer.model_config import MatrixInit

BOS_ID = 1  # before every document; the challenge's tokenizers all have it here


class LowRank(NamedTuple):
    """An addition to a linear map for each row of a batch: scale * (x a^T) b^T. Source: LoRA, arXiv 2106.09685."""

    a_BRI: Tensor
    b_BOR: Tensor
    scale: float


def low_rank_map(x_BTI: Tensor, low_rank: LowRank) -> Tensor:
    """What an addition adds (B, T, O), in the format of its input."""
    dtype = x_BTI.dtype
    return low_rank.scale * (x_BTI @ low_rank.a_BRI.to(dtype).mT) @ low_rank.b_BOR.to(dtype).mT


class LayerLora(NamedTuple):
    """Additions to one pass through a block: to its maps of attention, and beside its MLP (D to D)."""

    q: LowRank | None = None
    k: LowRank | None = None
    v: LowRank | None = None
    out: LowRank | None = None
    mlp: LowRank | None = None


class Lora(NamedTuple):
    """Additions to a model: one LayerLora a pass through a block with loops on, and one to the logits' head."""

    layers: tuple[LayerLora, ...]
    head: LowRank | None = None


class Linear(nn.Module):
    """A bias-free linear map whose weight is float32 and is cast to its input's format at use."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        generator: torch.Generator,
        *,
        starts_at_zero: bool,
        init: MatrixInit = MatrixInit.UNIFORM,
    ) -> None:
        super().__init__()
        shape = (out_features, in_features)
        self.weight = nn.Parameter(torch.zeros(shape) if starts_at_zero else matrix_start(*shape, init, generator))

    def forward(self, x: Tensor, low_rank: LowRank | None = None) -> Tensor:
        """(..., I) to (..., O); with an addition, (B, T, I) to (B, T, O)."""
        y = F.linear(x, self.weight.to(x.dtype))
        return y if low_rank is None else y + low_rank_map(x, low_rank)


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square along the last dimension; no learned gain."""
    return F.rms_norm(x, (x.size(-1),))
