"""Building blocks without a choice in them: linear maps, normalisation, rotary position.

Shapes: B batch, T time, O output and I input width, H heads, E head width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return F.linear(x, self.weight.to(x.dtype))


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square along the last dimension; no learned gain."""
    return F.rms_norm(x, (x.size(-1),))


class Rotary(nn.Module):
    """Rotary position embedding in the half-split form. Source: arXiv 2104.09864."""

    def __init__(self, head_dim: int, base: float, max_seq_len: int) -> None:
        super().__init__()
        frequencies = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angles = torch.outer(torch.arange(max_seq_len, dtype=torch.float32), frequencies)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x_BTHE: Tensor) -> Tensor:
        """Rotate queries or keys by their position."""
        cos = self.cos[: x_BTHE.size(1), None, :].to(x_BTHE.dtype)
        sin = self.sin[: x_BTHE.size(1), None, :].to(x_BTHE.dtype)
        first, second = x_BTHE.chunk(2, dim=-1)
        return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)
