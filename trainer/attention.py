"""Causal self-attention with grouped queries, and what is done to each head's output before the heads are joined.

Shapes: B batch, T time, D model width, H query heads, K key/value heads, G = H / K queries a key, E head width, I
gate's input width, W = (H + 2 K) E.
"""

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.documents import Documents, attend
from trainer.fused_heads import fused_heads
from trainer.layers import LayerLora, Linear, copied_map, low_rank_map, rms_norm
from trainer.model_config import GATE_CHANNELS, GateConfig, GateForm, ModelConfig, XsaForm
from trainer.rotary import Rotation, rotate

DENSE_GATE_STD = 0.005


class Attention(nn.Module):
    """Grouped-query attention over normalised, rotated queries and keys with a learned gain a query head.

    Source: grouped queries arXiv 2305.13245; QK norm arXiv 2010.04245; the gain, the challenge's baseline.
    """

    def __init__(self, config: ModelConfig, layer: int, generator: torch.Generator) -> None:
        super().__init__()
        dim, kv_dim, init = config.model_dim, config.num_kv_heads * config.head_dim, config.matrix_init
        self.num_heads, self.num_kv_heads = config.num_heads, config.num_kv_heads
        self.c_q = Linear(dim, dim, generator, starts_at_zero=False, init=init)
        self.c_k = Linear(dim, kv_dim, generator, starts_at_zero=False, init=init)
        self.c_v = Linear(dim, kv_dim, generator, starts_at_zero=False, init=init)
        self.proj = Linear(dim, dim, generator, starts_at_zero=True)
        self.q_gain = nn.Parameter(torch.full((config.num_heads,), config.qk_gain_init))
        self.gate_config, self.dropout = config.gate, config.dropout
        self.gate = None if config.gate is None else nn.Parameter(gate_start(config, config.gate.form, generator))
        has_xsa = config.xsa is not None and layer >= config.num_layers - config.xsa.last_layers
        self.xsa = config.xsa.form if config.xsa is not None and has_xsa else None
        self.fuses_heads = False
        self.register_buffer("joint_copy", None, persistent=False)
        self.joint_copy: Tensor | None

    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents: Documents,
        values: Tensor | None,
        lora: LayerLora,
        scale_D: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) to (B, T, D).

        Args:
            values: (B, T, K * E), added to the tokens' own.
            scale_D: of the outputs.
        """
        q_BTHE, k_BTKE, v_BTKE = self.split_heads(x_BTD, rotation, lora)
        if values is not None:
            v_BTKE = v_BTKE + values.view_as(v_BTKE)
        y_BTHE = attend(q_BTHE, k_BTKE, v_BTKE, documents, self.dropout if self.dropout and self.training else 0.0)
        if self.xsa is not None:
            y_BTHE = without_own_value(y_BTHE, v_BTKE, self.xsa)
        if self.gate is not None and self.gate_config is not None:
            y_BTHE = y_BTHE * head_gate(x_BTD, self.gate, self.gate_config)[..., None]
        y_BTD = y_BTHE.flatten(2)
        return self.proj(y_BTD, lora.out) if scale_D is None else self.proj.scaled(y_BTD, scale_D, lora.out)

    @property
    def joint_maps(self) -> tuple[Linear, ...]:
        """The maps that read the same input, which copies of their weights let run as one product."""
        return self.c_q, self.c_k, self.c_v

    def split_heads(self, x_BTD: Tensor, rotation: Rotation, lora: LayerLora) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, E) and keys (B, T, K, E), normalised and rotated, and values (B, T, K, E)."""
        has_additions = not (lora.q is lora.k is lora.v is None)  # which come before the norms
        if self.fuses_heads and self.joint_copy is not None and not has_additions:
            return fused_heads(self.joint(x_BTD, self.joint_copy), rotation, self.q_gain, self.num_kv_heads)
        q, k, v = self.projected(x_BTD, lora)
        q_BTHE = q.unflatten(-1, (self.num_heads, -1))
        q_BTHE = rotate(rms_norm(q_BTHE), rotation) * self.q_gain.to(x_BTD.dtype)[:, None]
        k_BTKE = rotate(rms_norm(k.unflatten(-1, (self.num_kv_heads, -1))), rotation)
        return q_BTHE, k_BTKE, v.unflatten(-1, (self.num_kv_heads, -1))

    def joint(self, x_BTD: Tensor, copy_WD: Tensor) -> Tensor:
        """Queries, keys and values (B, T, W) of all heads beside each other, by a copy of their weights."""
        return copied_map(x_BTD, copy_WD, None, *[linear.weight for linear in self.joint_maps])

    def projected(self, x_BTD: Tensor, lora: LayerLora) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, heads joined."""
        if self.joint_copy is None:
            return self.c_q(x_BTD, lora.q), self.c_k(x_BTD, lora.k), self.c_v(x_BTD, lora.v)
        joint = self.joint(x_BTD, self.joint_copy)
        q, k, v = joint.split([len(linear.weight) for linear in self.joint_maps], dim=-1)
        q = q if lora.q is None else q + low_rank_map(x_BTD, lora.q)
        k = k if lora.k is None else k + low_rank_map(x_BTD, lora.k)
        return q, k, v if lora.v is None else v + low_rank_map(x_BTD, lora.v)


def without_own_value(y_BTHE: Tensor, v_BTKE: Tensor, form: XsaForm) -> Tensor:
    """Exclusive self-attention: heads' outputs less what they hold of the token's own value.

    Keys' heads broadcast over their queries; repeating the values instead cost 7 ms a step where this costs 2 (PR 265).
    """
    y_BTKGE = y_BTHE.unflatten(2, (v_BTKE.size(2), -1))
    match form:
        case XsaForm.PROJECTION:
            unit_BTK1E = F.normalize(v_BTKE, dim=-1)[..., None, :]
            own = (y_BTKGE * unit_BTK1E).sum(-1, keepdim=True) * unit_BTK1E
        case XsaForm.MEAN_SHARE:
            own = v_BTKE[..., None, :] / v_BTKE.size(1)
        case _:
            assert_never(form)
    return (y_BTKGE - own).flatten(2, 3)


def gate_start(config: ModelConfig, form: GateForm, generator: torch.Generator) -> Tensor:
    """A gate's weight (H, I) at the start."""
    if form is GateForm.DENSE:
        return torch.empty(config.num_heads, config.model_dim).normal_(0.0, DENSE_GATE_STD, generator=generator)
    return torch.zeros(config.num_heads, GATE_CHANNELS)


def head_gate(x_BTD: Tensor, weight_HI: Tensor, config: GateConfig) -> Tensor:
    """Factors (B, T, H) of the heads' outputs."""
    raw_BTH = F.linear(x_BTD[..., : weight_HI.size(1)], weight_HI.to(x_BTD.dtype))
    match config.form:
        case GateForm.NARROW:
            return 2.0 * torch.sigmoid(raw_BTH)
        case GateForm.DENSE:
            return torch.sigmoid(raw_BTH)
        case GateForm.SPARSE:
            return torch.sigmoid(config.scale * raw_BTH)
        case _:
            assert_never(config.form)
