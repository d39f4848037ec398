"""Causal self-attention with grouped queries.

Shapes: B batch, T time, D model width, H query heads, K key/value heads, E head width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.layers import LayerLora, Linear, Rotation, rms_norm
from trainer.model_config import ModelConfig


class Attention(nn.Module):
    """Grouped-query attention over normalised, rotated queries and keys with a learned gain a query head.

    Source: grouped queries arXiv 2305.13245; QK norm arXiv 2010.04245; the gain, the challenge's baseline.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        dim, kv_dim = config.model_dim, config.num_kv_heads * config.head_dim
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.c_q = Linear(dim, dim, generator, starts_at_zero=False)
        self.c_k = Linear(dim, kv_dim, generator, starts_at_zero=False)
        self.c_v = Linear(dim, kv_dim, generator, starts_at_zero=False)
        self.proj = Linear(dim, dim, generator, starts_at_zero=True)
        self.q_gain = nn.Parameter(torch.full((config.num_heads,), config.qk_gain_init))

    def forward(self, x_BTD: Tensor, rotation: Rotation, lora: LayerLora) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        q_BTHE = self.c_q(x_BTD, lora.q).unflatten(-1, (self.num_heads, -1))
        k_BTKE = self.c_k(x_BTD, lora.k).unflatten(-1, (self.num_kv_heads, -1))
        v_BTKE = self.c_v(x_BTD, lora.v).unflatten(-1, (self.num_kv_heads, -1))
        q_BTHE = rotation(rms_norm(q_BTHE)) * self.q_gain.to(x_BTD.dtype)[:, None]
        k_BTKE = rotation(rms_norm(k_BTKE))
        y_BHTE = F.scaled_dot_product_attention(
            q_BTHE.transpose(1, 2),
            k_BTKE.transpose(1, 2),
            v_BTKE.transpose(1, 2),
            is_causal=True,
            enable_gqa=self.num_kv_heads != self.num_heads,
        )
        return self.proj(y_BHTE.transpose(1, 2).flatten(2), lora.out)
