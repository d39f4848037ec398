"""Weights of every role at tiny shapes, for tests of how they are stored."""

import torch
from torch import Tensor

from trainer.store_config import ClipRule, QuantConfig

FINE = QuantConfig(clip=ClipRule.ROW_MAX, scale_is_floored=False, passthrough_numel=0)
SHAPES = {
    "tok_emb": (32, 16),
    "bigram.table": (24, 8),
    "bigram.proj.weight": (16, 8),
    "value_embed.layer_scales": (2,),
    "smear.gate": (16,),
    "blocks.0.attn.c_q.weight": (16, 16),
    "blocks.0.attn.c_k.weight": (8, 16),
    "blocks.0.attn.gate": (4, 12),
    "blocks.0.attn.q_gain": (4,),
    "blocks.0.mlp.fc.weight": (40, 16),
    "blocks.0.resid_mix": (2, 16),
    "blocks.1.attn.c_k.weight": (8, 16),
    "blocks.1.mlp.proj.weight": (16, 40),
    "skip_weights": (1, 16),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_weights(seed: int) -> dict[str, Tensor]:
    generator = seeded(seed)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in SHAPES.items()}
