"""The feed-forward half of a block."""

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.fused_mlp import fused_mlp
from trainer.layers import Linear, copied_map
from trainer.model_config import MlpKind, ModelConfig

LEAKY_SLOPE = 0.5  # PR 493


class SquaredMlp(nn.Module):
    """Two linear maps with a squared ReLU between, leaky or not. Source: arXiv 2109.08668; leaky, PR 493.

    Attributes:
        is_fused: whether the products apply the activation themselves; needs copies of the weights.
        can_be_fused: whether rows are whole steps of 16 bytes, as the copy engine of a GPU wants them.
    """

    def __init__(self, config: ModelConfig, slope: float, generator: torch.Generator) -> None:
        super().__init__()
        self.slope, self.is_fused = slope, False
        self.can_be_fused = config.model_dim % 8 == 0 and config.mlp_dim % 8 == 0
        self.fc = Linear(config.model_dim, config.mlp_dim, generator, starts_at_zero=False, init=config.matrix_init)
        self.proj = Linear(config.mlp_dim, config.model_dim, generator, starts_at_zero=True)

    def forward(self, x: Tensor, scale_D: Tensor | None = None) -> Tensor:
        """(..., D) to (..., D), times a scale of each output."""
        up, down = self.fc.copy_OI, self.proj.copy_OI
        if self.is_fused and up is not None and down is not None and scale_D is not None:
            return fused_mlp(x, up, down, scale_D, self.fc.weight, self.proj.weight, self.slope)
        hidden = self.fc(x)
        hidden = (F.leaky_relu(hidden, self.slope) if self.slope else torch.relu(hidden)).square()
        return self.proj(hidden) if scale_D is None else self.proj.scaled(hidden, scale_D)


class SwigluMlp(nn.Module):
    """silu(gate) * up, then down. Source: arXiv 2002.05202."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.gate = Linear(config.model_dim, config.mlp_dim, generator, starts_at_zero=False, init=config.matrix_init)
        self.up = Linear(config.model_dim, config.mlp_dim, generator, starts_at_zero=False, init=config.matrix_init)
        self.proj = Linear(config.mlp_dim, config.model_dim, generator, starts_at_zero=True)
        self.register_buffer("joint_copy", None, persistent=False)
        self.joint_copy: Tensor | None

    @property
    def joint_maps(self) -> tuple[Linear, ...]:
        """The maps that read the same input, which copies of their weights let run as one product."""
        return self.gate, self.up

    def forward(self, x: Tensor, scale_D: Tensor | None = None) -> Tensor:
        """(..., D) to (..., D), times a scale of each output."""
        if self.joint_copy is None:
            gate, up = self.gate(x), self.up(x)
        else:
            gate, up = copied_map(x, self.joint_copy, None, self.gate.weight, self.up.weight).chunk(2, dim=-1)
        hidden = F.silu(gate) * up
        return self.proj(hidden) if scale_D is None else self.proj.scaled(hidden, scale_D)


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
