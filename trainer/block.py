"""One layer of the transformer. Shapes: B batch, T time, D model width, W width of key/value heads together."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.attention import Attention
from trainer.documents import Documents
from trainer.fused_mix import fused_mix
from trainer.initialize import resid_mix_start
from trainer.layers import LayerLora, low_rank_map, rms_norm
from trainer.mlp import new_mlp
from trainer.model_config import ModelConfig, ParallelForm
from trainer.rotary import Rotation


class Skip(NamedTuple):
    """What an earlier pass pushed, and how it enters the stream.

    Attributes:
        gate_D: of a mix instead of a sum.
        factor: of the weight.
    """

    pushed_BTD: Tensor
    weight_D: Tensor
    gate_D: Tensor | None
    factor: float


class Pass(NamedTuple):
    """What a pass through a layer gets beside the stream.

    Attributes:
        x0_BTD: the normalised embedding.
        values_BTW: token values to add in attention.
    """

    x0_BTD: Tensor
    rotation: Rotation
    documents: Documents
    values_BTW: Tensor | None
    skip: Skip | None
    lora: LayerLora


class Block(nn.Module):
    """Mixes the stream with the embedding, then adds attention and MLP, each scaled per channel."""

    def __init__(self, config: ModelConfig, layer: int, generator: torch.Generator) -> None:
        super().__init__()
        self.attn = Attention(config, layer, generator)
        self.mlp = new_mlp(config, generator)
        self.attn_scale = nn.Parameter(torch.ones(config.model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(config.model_dim))
        self.resid_mix = nn.Parameter(resid_mix_start(config, layer))
        self.dropout = config.dropout
        # A tensor, as one compiled graph of a block serves all layers: a number would be a constant of it.
        scale = torch.tensor((layer + 1) ** -0.5) if config.norm_scaled_by_depth else None
        self.register_buffer("norm_scale", scale, persistent=False)
        self.norm_scale: Tensor | None
        self.is_parallel = layer >= first_parallel_layer(config, ParallelForm.GPT_J)
        self.fuses_mix = False

    def forward(self, x_BTD: Tensor, given: Pass) -> Tensor:
        """The stream after this layer. Source: attention and MLP beside each other, GPT-J and PR 1412."""
        x_BTD, normalized_BTD = self.entered(x_BTD, given.skip, given)
        if self.is_parallel:
            return x_BTD + self.attended(normalized_BTD, given) + self.fed(normalized_BTD, given)
        x_BTD = x_BTD + self.attended(normalized_BTD, given)
        return x_BTD + self.fed(self.normalized(x_BTD), given)

    def lanes(
        self, attn_BTD: Tensor, mlp_BTD: Tensor, post_22: Tensor, resid_2: Tensor, given: Pass
    ) -> tuple[Tensor, Tensor]:
        """Attention's and the MLP's stream after this layer, where each has its own.

        Args:
            post_22: what attention's output (row 0) and the MLP's (row 1) add to either stream (column).
            resid_2: what is kept of either stream.

        Source: PR 1529.
        """
        attn_BTD = with_skip(attn_BTD, given.skip)
        attended_BTD = self.attended(self.entered(attn_BTD, None, given)[1], given)
        fed_BTD = self.fed(self.normalized(mlp_BTD), given)
        post, resid = post_22.to(attn_BTD.dtype), resid_2.to(attn_BTD.dtype)
        return (
            resid[0] * attn_BTD + post[0, 0] * attended_BTD + post[1, 0] * fed_BTD,
            resid[1] * mlp_BTD + post[0, 1] * attended_BTD + post[1, 1] * fed_BTD,
        )

    def entered(self, x_BTD: Tensor, skip: Skip | None, given: Pass) -> tuple[Tensor, Tensor]:
        """The stream with a skip and its share of the embedding, and what attention reads of that."""
        if not self.fuses_mix:
            mix = self.resid_mix.to(x_BTD.dtype)
            x_BTD = mix[0] * with_skip(x_BTD, skip) + mix[1] * given.x0_BTD
            return x_BTD, self.normalized(x_BTD)
        kept_D, added_D = self.resid_mix
        if skip is None:
            return fused_mix(x_BTD, given.x0_BTD, None, self.resid_mix, self.norm_scale)
        stream, pushed = shares_of(skip)
        weights_3D = torch.stack((kept_D * stream, added_D, kept_D * pushed))
        return fused_mix(x_BTD, given.x0_BTD, skip.pushed_BTD, weights_3D, self.norm_scale)

    def attended(self, normalized_BTD: Tensor, given: Pass) -> Tensor:
        """What attention adds to a stream."""
        return self.attn(normalized_BTD, given.rotation, given.documents, given.values_BTW, given.lora, self.attn_scale)

    def fed(self, normalized_BTD: Tensor, given: Pass) -> Tensor:
        """What the MLP adds to a stream."""
        y_BTD = self.mlp(normalized_BTD, self.mlp_scale)
        if given.lora.mlp is not None:
            y_BTD = y_BTD + self.mlp_scale.to(y_BTD.dtype) * low_rank_map(normalized_BTD, given.lora.mlp)
        return F.dropout(y_BTD, self.dropout, self.training) if self.dropout else y_BTD

    def normalized(self, x_BTD: Tensor) -> Tensor:
        """What attention and MLP read, smaller in deeper layers where the config says so (PR 315)."""
        return rms_norm(x_BTD) if self.norm_scale is None else self.norm_scale.to(x_BTD.dtype) * rms_norm(x_BTD)


def with_skip(x_BTD: Tensor, skip: Skip | None) -> Tensor:
    """The stream with what an earlier pass pushed, if there is some. Source: gates PR 1218."""
    if skip is None:
        return x_BTD
    added_BTD = skip.weight_D.to(x_BTD.dtype) * skip.pushed_BTD
    added_BTD = added_BTD if skip.factor == 1.0 else skip.factor * added_BTD
    if skip.gate_D is None:
        return x_BTD + added_BTD
    return torch.lerp(added_BTD, x_BTD, torch.sigmoid(skip.gate_D.to(x_BTD.dtype)))


def shares_of(skip: Skip) -> tuple[Tensor | float, Tensor]:
    """What with_skip multiplies the stream and what was pushed by, a number a channel in float32."""
    weight_D = skip.factor * skip.weight_D
    if skip.gate_D is None:
        return 1.0, weight_D
    gate_D = torch.sigmoid(skip.gate_D)
    return gate_D, (1.0 - gate_D) * weight_D


def pass_block(block: Block, x_BTD: Tensor, given: Pass) -> Tensor:
    """The stream after a pass through a block."""
    return block(x_BTD, given)


def pass_lanes(
    block: Block, attn_BTD: Tensor, mlp_BTD: Tensor, post_22: Tensor, resid_2: Tensor, given: Pass
) -> tuple[Tensor, Tensor]:
    """Both streams after a pass through a block."""
    return block.lanes(attn_BTD, mlp_BTD, post_22, resid_2, given)


def first_parallel_layer(config: ModelConfig, form: ParallelForm) -> int:
    """The first layer whose attention and MLP run beside each other in a form; num_layers where none does."""
    if config.parallel is None or config.parallel.form is not form:
        return config.num_layers
    return max(0, config.num_layers - config.parallel.last_layers)
