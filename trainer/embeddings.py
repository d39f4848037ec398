"""What enters the stream beside the token embedding: token pairs, the token before, token values.

None of them sees past BOS. Shapes: B batch, T time, D model width, W width of key/value heads together.
"""

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.layers import BOS_ID, Linear
from trainer.model_config import GATE_CHANNELS, BigramConfig, ModelConfig, SmearConfig, SmearForm, ValueEmbedConfig

BIGRAM_FACTORS = (36_313, 27_191)  # of a token and of the one before, PR 162
BIGRAM_SCALE = 0.05
VALUE_STD = 0.01
VALUE_SCALE = 0.1


class Bigram(nn.Module):
    """A hashed table of token pairs, projected to the model's width.

    The table starts at zero and the projection does not: were both zero, neither would ever have a gradient.

    Source: PR 162.
    """

    def __init__(self, model: ModelConfig, config: BigramConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(config.buckets, config.dim))
        self.proj = Linear(config.dim, model.model_dim, generator, starts_at_zero=False, init=model.matrix_init)
        self.scale = nn.Parameter(torch.tensor(BIGRAM_SCALE))

    def forward(self, ids_BT: Tensor, dtype: torch.dtype) -> Tensor:
        """What is added to the token embedding (B, T, D)."""
        rows_BT = bigram_rows(ids_BT, len(self.table))
        return self.scale.to(dtype) * self.proj(F.embedding(rows_BT, self.table).to(dtype))


def bigram_rows(ids_BT: Tensor, buckets: int) -> Tensor:
    """Rows (B, T) of the pair table: a hash of token and token before, or the last row where there is none before."""
    current, before = BIGRAM_FACTORS
    ids = ids_BT.to(torch.int32)
    mixed_BT = (current * ids) ^ (before * ids.roll(1, dims=1))
    is_first_BT = (ids == BOS_ID) | (torch.arange(ids.size(1), device=ids.device) == 0)
    return torch.where(is_first_BT, buckets - 1, mixed_BT % (buckets - 1))


class Smear(nn.Module):
    """Mixes the embedding of the token before into each; at BOS and at a row's start that counts as zero.

    Source: the convex form PR 162, the residual form PR 1667.
    """

    def __init__(self, model: ModelConfig, config: SmearConfig) -> None:
        super().__init__()
        self.form = config.form
        is_convex = config.form is SmearForm.CONVEX
        start = torch.full((model.model_dim,), config.gate_init) if is_convex else torch.zeros(GATE_CHANNELS)
        self.gate = nn.Parameter(start)
        self.scale = None if is_convex else nn.Parameter(torch.zeros(()))

    def forward(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        before_BTD = F.pad(x_BTD[:, :-1], (0, 0, 1, 0)).masked_fill((ids_BT == BOS_ID)[..., None], 0.0)
        gate = self.gate.to(x_BTD.dtype)
        match self.form:
            case SmearForm.CONVEX:
                share_D = torch.sigmoid(gate)
                return (1.0 - share_D) * x_BTD + share_D * before_BTD
            case SmearForm.RESIDUAL:
                assert self.scale is not None
                share_BT1 = self.scale.to(x_BTD.dtype) * torch.sigmoid(x_BTD[..., :GATE_CHANNELS] @ gate[:, None])
                return x_BTD + share_BT1 * before_BTD
            case _:
                assert_never(self.form)


class ValueEmbed(nn.Module):
    """A table of token values that the last layers share, each with its own scale. Source: PR 374."""

    def __init__(self, model: ModelConfig, config: ValueEmbedConfig, generator: torch.Generator) -> None:
        super().__init__()
        num_layers = min(config.last_layers, model.num_layers)
        self.first_layer = model.num_layers - num_layers
        self.table = nn.Parameter(
            torch.empty(model.vocab_size, config.dim).normal_(0.0, VALUE_STD, generator=generator)
        )
        self.proj = Linear(config.dim, model.num_kv_heads * model.head_dim, generator, starts_at_zero=True)
        self.scale = nn.Parameter(torch.tensor(VALUE_SCALE))
        self.layer_scales = nn.Parameter(torch.ones(num_layers))

    def forward(self, ids_BT: Tensor, dtype: torch.dtype) -> list[Tensor | None]:
        """What each layer adds to the tokens' values (B, T, W): None before the last layers."""
        shared_BTW = self.scale.to(dtype) * self.proj(F.embedding(ids_BT, self.table).to(dtype))
        added: list[Tensor | None] = [None] * self.first_layer
        return added + [scale.to(dtype) * shared_BTW for scale in self.layer_scales.unbind()]
