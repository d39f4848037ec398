"""Building blocks without a choice in them: linear maps, low-rank additions to them, normalisation, rotary position.

Shapes: B batch, T time, O output and I input width, R rank, H heads, E head width, F rotated pairs of channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model_config import ModelConfig

BOS_ID = 1  # before every document; the challenge's tokenizers all have it here


class LowRank(NamedTuple):
    """An addition to a linear map for each row of a batch: scale * (x a^T) b^T. Source: LoRA, arXiv 2106.09685."""

    a_BRI: Tensor
    b_BOR: Tensor
    scale: float

    def __call__(self, x_BTI: Tensor) -> Tensor:
        """(B, T, I) to (B, T, O), in the format of its input."""
        dtype = x_BTI.dtype
        return self.scale * (x_BTI @ self.a_BRI.to(dtype).mT) @ self.b_BOR.to(dtype).mT


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

    Starts as torch's own default, uniform in +-1/sqrt(I), or at zero.
    """

    def __init__(
        self, in_features: int, out_features: int, generator: torch.Generator, *, starts_at_zero: bool
    ) -> None:
        super().__init__()
        weight_OI = torch.zeros(out_features, in_features)
        if not starts_at_zero:
            bound = in_features**-0.5
            weight_OI.uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight_OI)

    def forward(self, x: Tensor, low_rank: LowRank | None = None) -> Tensor:
        """(..., I) to (..., O); with an addition, (B, T, I) to (B, T, O)."""
        y = F.linear(x, self.weight.to(x.dtype))
        return y if low_rank is None else y + low_rank(x)


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square along the last dimension; no learned gain."""
    return F.rms_norm(x, (x.size(-1),))


class Rotation(NamedTuple):
    """Cosines and sines of every position's rotary angles, in the format they are used in."""

    cos_TF: Tensor
    sin_TF: Tensor

    def __call__(self, x_BTHE: Tensor) -> Tensor:
        """Queries or keys turned by their position, in the half-split form. Source: arXiv 2104.09864."""
        cos, sin = self.cos_TF[:, None], self.sin_TF[:, None]
        first, second = x_BTHE.chunk(2, dim=-1)
        return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


def rotation_of(num_positions: int, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Rotation:
    """The rotation of positions 0 to num_positions - 1; angles are float32 whatever the format of the result."""
    width = config.head_dim
    frequencies_F = config.rope_base ** -(torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
    angles_TF = torch.outer(torch.arange(num_positions, dtype=torch.float32, device=device), frequencies_F)
    return Rotation(angles_TF.cos().to(dtype), angles_TF.sin().to(dtype))
