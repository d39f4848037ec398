"""Building blocks without a choice in them: linear maps, low-rank additions to them, normalisation.

Shapes: B batch, T time, O output and I input width, R rank.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.initialize import matrix_start
from trainer.model_config import MatrixInit

NORM_EPS = 2.0**-23  # what torch takes for rms_norm of bfloat16 and float32, whose sums are float32
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
    """A bias-free linear map whose weight is float32 and is cast to its input's format at use.

    Attributes:
        copy_OI: the weight, in the format of its inputs, times the scale that scaled gets; see copies.py.
    """

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
        self.register_buffer("copy_OI", None, persistent=False)
        self.copy_OI: Tensor | None
        self.copy_is_scaled = False

    def forward(self, x: Tensor, low_rank: LowRank | None = None) -> Tensor:
        """(..., I) to (..., O); with an addition, (B, T, I) to (B, T, O)."""
        assert self.copy_OI is None or not self.copy_is_scaled
        if self.copy_OI is None:
            y = F.linear(x, self.weight.to(x.dtype))
        else:
            y = copied_map(x, self.copy_OI, None, self.weight)
        return y if low_rank is None else y + low_rank_map(x, low_rank)

    def scaled(self, x: Tensor, scale_O: Tensor, low_rank: LowRank | None = None) -> Tensor:
        """The same times a learned scale of each output."""
        scale = scale_O.to(x.dtype)
        if self.copy_OI is None:
            return scale * self(x, low_rank)
        y = copied_map(x, self.copy_OI, scale_O, self.weight)
        return y if low_rank is None else y + scale * low_rank_map(x, low_rank)


class CopiedMap(torch.autograd.Function):
    """A linear map by a copy of its weights, with gradients of the weights themselves.

    The copy holds the rows of one or more weights, each row times its scale if there is one. A scale's gradient is read
    off the weight's, so that neither the unscaled outputs nor their gradient are ever written.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, copy_OI: Tensor, scale_O: Tensor | None, *weights: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        ctx.save_for_backward(x, copy_OI, scale_O, *weights)
        return F.linear(x, copy_OI)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, the scale and the weights; none of the copy."""
        x, copy_OI, scale_O, *weights = ctx.saved_tensors
        g_NO = gradients[0].flatten(0, -2)
        g_x = (g_NO @ copy_OI).view(x.shape)
        g_OI = (g_NO.mT @ x.flatten(0, -2)).to(weights[0].dtype)
        if scale_O is None:
            return g_x, None, None, *g_OI.split([len(weight) for weight in weights])
        return g_x, None, (g_OI * weights[0]).sum(1), scale_O[:, None] * g_OI


def copied_map(x: Tensor, copy_OI: Tensor, scale_O: Tensor | None, *weights: Tensor) -> Tensor:
    """CopiedMap as a function: (..., I) to (..., O)."""
    y = CopiedMap.apply(x, copy_OI, scale_O, *weights)
    assert isinstance(y, Tensor)
    return y


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square along the last dimension; no learned gain."""
    return F.rms_norm(x, (x.size(-1),))
