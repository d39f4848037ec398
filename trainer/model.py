"""The language model: one forward for training, scoring and whatever adapts at evaluation.

Shapes: B batch, T time, S scored positions, D model width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.attention import Attention
from trainer.layers import LayerLora, Lora, LowRank, Rotation, rms_norm, rotation_of
from trainer.mlp import Mlp
from trainer.model_config import ModelConfig


class Block(nn.Module):
    """Mixes the stream with the embedding, then adds attention and MLP, each scaled per channel."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.attn = Attention(config, generator)
        self.mlp = Mlp(config, generator)
        self.attn_scale = nn.Parameter(torch.ones(config.model_dim))
        self.mlp_scale = nn.Parameter(torch.ones(config.model_dim))
        self.resid_mix = nn.Parameter(torch.stack((torch.ones(config.model_dim), torch.zeros(config.model_dim))))

    def forward(self, x_BTD: Tensor, x0_BTD: Tensor, rotation: Rotation, lora: LayerLora) -> Tensor:
        """The stream after this block; x0 is the normalised embedding."""
        mix = self.resid_mix.to(x_BTD.dtype)
        x_BTD = mix[0] * x_BTD + mix[1] * x0_BTD
        x_BTD = x_BTD + self.attn_scale.to(x_BTD.dtype) * self.attn(rms_norm(x_BTD), rotation, lora)
        return x_BTD + self.mlp_scale.to(x_BTD.dtype) * self.mlp(rms_norm(x_BTD), lora.mlp)


class Gpt(nn.Module):
    """The challenge's baseline transformer: tied embedding, U-Net skips, softcapped logits.

    The first half of the blocks pushes its outputs; each block of the second half first adds the most recent one left,
    scaled per channel (arXiv 1505.04597 turned to depth; modded-nanogpt).

    Args:
        compute_dtype: format of activations.
        generator: source of the initial weights; a CPU generator gives the same weights on every device.
    """

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        embedding_VD = torch.empty(config.vocab_size, config.model_dim)
        self.tok_emb = nn.Parameter(embedding_VD.normal_(0.0, config.embed_init_std, generator=generator))
        self.blocks = nn.ModuleList([Block(config, generator) for _ in range(config.num_layers)])
        self.num_encoder_layers = config.num_layers // 2
        self.skip_weights = nn.Parameter(torch.ones(self.num_encoder_layers, config.model_dim))

    @property
    def num_parameters(self) -> int:
        """Trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, ids_BT: Tensor, is_looped: bool, document_mask: bool, lora: Lora | None = None) -> Tensor:
        """Final normalised hidden states (B, T, D).

        Args:
            is_looped: whether the config's loop is on.
            document_mask: whether attention stops at BOS, so that no document sees another.
        """
        rotation = rotation_of(ids_BT.size(1), self.config, ids_BT.device, self.compute_dtype)
        x0_BTD = rms_norm(F.embedding(ids_BT, self.tok_emb).to(self.compute_dtype))
        x_BTD = x0_BTD
        skips: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if index >= self.num_encoder_layers and skips:
                weight = self.skip_weights[index - self.num_encoder_layers].to(x_BTD.dtype)
                x_BTD = x_BTD + weight * skips.pop()
            layer_lora = LayerLora() if lora is None else lora.layers[index]
            x_BTD = block(x_BTD, x0_BTD, rotation, layer_lora)
            if index < self.num_encoder_layers:
                skips.append(x_BTD)
        return rms_norm(x_BTD)

    def logits(self, hidden: Tensor, head: LowRank | None = None) -> Tensor:
        """Softcapped float32 logits (..., V) of hidden states (..., D)."""
        cap = self.config.logit_softcap
        raw = F.linear(hidden, self.tok_emb.to(hidden.dtype))
        raw = raw if head is None else raw + head(hidden)
        return cap * torch.tanh(raw.float() / cap)

    def token_losses(
        self, ids_BT: Tensor, targets_BT: Tensor, num_scored: int, document_mask: bool, lora: Lora | None = None
    ) -> Tensor:
        """Negative log-likelihood in nats (B, S) of the last num_scored targets of each row, loops on."""
        hidden_BTD = self(ids_BT, True, document_mask, lora)
        logits_BSV = self.logits(hidden_BTD[:, -num_scored:], None if lora is None else lora.head)
        losses = F.cross_entropy(logits_BSV.flatten(0, 1), targets_BT[:, -num_scored:].flatten(), reduction="none")
        return losses.view(-1, num_scored)

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, is_looped: bool, document_mask: bool) -> Tensor:
        """Mean negative log-likelihood in nats of all targets."""
        hidden_BTD = self(ids_BT, is_looped, document_mask)
        return F.cross_entropy(self.logits(hidden_BTD).flatten(0, 1), targets_BT.flatten())


def new_model(config: ModelConfig, compute_dtype: torch.dtype, seed: int) -> Gpt:
    """A model at its initial weights, which the seed alone decides."""
    return Gpt(config, compute_dtype, torch.Generator().manual_seed(seed))
