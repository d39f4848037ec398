"""The feed-forward half of a block."""

import torch
from torch import Tensor, nn

from trainer.layers import Linear, LowRank
from trainer.model_config import ModelConfig


class Mlp(nn.Module):
    """Two linear maps with a squared ReLU between. Source: arXiv 2109.08668."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.fc = Linear(config.model_dim, config.mlp_dim, generator, starts_at_zero=False)
        self.proj = Linear(config.mlp_dim, config.model_dim, generator, starts_at_zero=True)

    def forward(self, x: Tensor, bypass: LowRank | None) -> Tensor:
        """(..., D) to (..., D); a bypass goes beside both maps."""
        y = self.proj(torch.relu(self.fc(x)).square())
        return y if bypass is None else y + bypass(x)
