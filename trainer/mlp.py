"""The feed-forward half of a block."""

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.layers import Linear
from trainer.model_config import MlpKind, ModelConfig

LEAKY_SLOPE = 0.5  # PR 493


class SquaredMlp(nn.Module):
    """Two linear maps with a squared ReLU between, leaky or not. Source: arXiv 2109.08668; leaky, PR 493."""

    def __init__(self, config: ModelConfig, slope: float, generator: torch.Generator) -> None:
        super().__init__()
        self.slope = slope
        self.fc = Linear(config.model_dim, config.mlp_dim, generator, starts_at_zero=False, init=config.matrix_init)
        self.proj = Linear(config.mlp_dim, config.model_dim, generator, starts_at_zero=True)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        hidden = self.fc(x)
        return self.proj((F.leaky_relu(hidden, self.slope) if self.slope else torch.relu(hidden)).square())


class SwigluMlp(nn.Module):
    """silu(gate) * up, then down. Source: arXiv 2002.05202."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.gate = Linear(config.model_dim, config.mlp_dim, generator, starts_at_zero=False, init=config.matrix_init)
        self.up = Linear(config.model_dim, config.mlp_dim, generator, starts_at_zero=False, init=config.matrix_init)
        self.proj = Linear(config.mlp_dim, config.model_dim, generator, starts_at_zero=True)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.proj(F.silu(self.gate(x)) * self.up(x))


def new_mlp(config: ModelConfig, generator: torch.Generator) -> SquaredMlp | SwigluMlp:
    """The MLP that a config names, at its start."""
    match config.mlp:
        case MlpKind.RELU2:
            return SquaredMlp(config, 0.0, generator)
        case MlpKind.LEAKY_RELU2:
            return SquaredMlp(config, LEAKY_SLOPE, generator)
        case MlpKind.SWIGLU:
            return SwigluMlp(config, generator)
        case _:
            assert_never(config.mlp)
