"""The language model: one forward for training, scoring and whatever adapts at evaluation.

Shapes: B batch, T time, S scored positions, D model width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.block import Block, Pass, Skip, first_parallel_layer, pass_block, pass_lanes
from trainer.copies import WeightCopies
from trainer.documents import Documents, documents_of
from trainer.embeddings import Bigram, Smear, ValueEmbed
from trainer.fast import FastPaths
from trainer.fused_losses import fused_nll
from trainer.initialize import embedding_start
from trainer.layers import LayerLora, Lora, LowRank, low_rank_map, rms_norm
from trainer.mlp import SquaredMlp
from trainer.model_config import ModelConfig, ParallelForm, SmearForm
from trainer.rotary import rotation_of

LANE_RESID = 1.1  # PR 1529


class Parts(NamedTuple):
    """What a forward pass runs, compiled or not: the embedding, a pass through a block in both forms, and the head."""

    embed: Callable[[Tensor], Tensor]
    pass_block: Callable[[Block, Tensor, Pass], Tensor]
    pass_lanes: Callable[[Block, Tensor, Tensor, Tensor, Tensor, Pass], tuple[Tensor, Tensor]]
    losses: Callable[[Tensor, Tensor, str, LowRank | None], Tensor]


class Gpt(nn.Module):
    """The challenge's baseline transformer: tied embedding, U-Net skips, softcapped logits, and what a config adds.

    The first half of the passes through layers pushes its outputs; each pass of the second half first takes the most
    recent one left, scaled per channel (arXiv 1505.04597 turned to depth; modded-nanogpt).

    Args:
        compute_dtype: format of activations.
        generator: source of the initial weights; a CPU generator gives the same weights on every device.
    """

    def __init__(self, config: ModelConfig, compute_dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype
        layers, dim, skips = config.num_layers, config.model_dim, config.num_skips
        self.tok_emb = nn.Parameter(embedding_start(config, generator))
        self.bigram = None if config.bigram is None else Bigram(config, config.bigram, generator)
        self.smear = None if config.smear is None else Smear(config, config.smear)
        self.value_embed = None if config.value_embed is None else ValueEmbed(config, config.value_embed, generator)
        self.blocks = nn.ModuleList([Block(config, layer, generator) for layer in range(layers)])
        self.skip_weights = nn.Parameter(torch.ones(skips, dim))
        self.skip_gates = nn.Parameter(torch.zeros(skips, dim)) if config.skip_gates else None
        self.first_lane_layer = first_parallel_layer(config, ParallelForm.TWO_LANE)
        has_lanes = self.first_lane_layer < layers
        self.lane_post = nn.Parameter(torch.ones(layers, 2, 2)) if has_lanes else None
        self.lane_resid = nn.Parameter(torch.full((layers, 2), LANE_RESID)) if has_lanes else None

        self.parts = Parts(self.embed, pass_block, pass_lanes, self.losses)
        self.fast, self.copies = FastPaths(), WeightCopies(self, compute_dtype)

    def take(self, fast: FastPaths) -> None:
        """Take fast paths from here on, and no others. The model lies on its device already."""
        self.fast = fast
        if fast.copies:
            self.copies.make()
        else:
            self.copies.drop()
        for block in self.blocks:
            assert isinstance(block, Block)
            block.fuses_mix, block.attn.fuses_heads = fast.mix, fast.heads
            if isinstance(block.mlp, SquaredMlp):
                block.mlp.is_fused = fast.mlp and fast.copies and block.mlp.can_be_fused

    def compile_parts(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Run compiled parts from here on.

        One graph of a block serves all layers, all passes of a loop, training and whatever adapts, where a graph of the
        whole model takes two minutes with loops, and again for each of its uses.
        """
        self.parts = Parts(
            embed=torch.compile(self.embed, dynamic=False, fullgraph=True, backend=backend),
            pass_block=torch.compile(pass_block, dynamic=False, fullgraph=True, backend=backend),
            pass_lanes=torch.compile(pass_lanes, dynamic=False, fullgraph=True, backend=backend),
            losses=torch.compile(self.losses, dynamic=False, fullgraph=True, backend=backend),
        )

    @property
    def num_parameters(self) -> int:
        """Trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, ids_BT: Tensor, is_looped: bool, document_mask: bool, lora: Lora | None = None) -> Tensor:
        """Final normalised hidden states (B, T, D).

        Args:
            is_looped: whether the config's loop is on.
            document_mask: whether attention stops at BOS, so that no document sees another.
            lora: additions, one a pass through a layer in the order of config.layer_order(is_looped).
        """
        return rms_norm(self.stream(ids_BT, is_looped, document_mask, lora))

    def stream(self, ids_BT: Tensor, is_looped: bool, document_mask: bool, lora: Lora | None) -> Tensor:
        """The stream (B, T, D) after the last layer."""
        if self.fast.copies:
            self.copies.refresh()
        order = self.config.layer_order(is_looped)
        num_pushing = len(order) // 2
        x0_BTD = self.parts.embed(ids_BT)
        # A copy here and below: a graph whose arguments are one tensor is another than the other layers' graph.
        x_BTD = x0_BTD.clone()
        passes = self.passes(ids_BT, x0_BTD, order, document_mask, lora)
        lane_BTD: Tensor | None = None
        skips: list[Tensor] = []
        for position, (layer, given) in enumerate(zip(order, passes, strict=True)):
            if layer == self.first_lane_layer:
                lane_BTD = x_BTD
            if position >= num_pushing and skips:
                pushed_BTD = skips.pop()
                pushed_BTD = pushed_BTD.clone() if pushed_BTD is x_BTD else pushed_BTD
                given = given._replace(skip=self.skip(pushed_BTD, position - num_pushing, is_looped))
            block = self.blocks[layer]
            assert isinstance(block, Block)
            if lane_BTD is None or self.lane_post is None or self.lane_resid is None:
                x_BTD = self.parts.pass_block(block, x_BTD, given)
            else:
                post_22, resid_2 = self.lane_post[layer], self.lane_resid[layer]
                x_BTD, lane_BTD = self.parts.pass_lanes(block, x_BTD, lane_BTD, post_22, resid_2, given)
            if position < num_pushing:
                skips.append(x_BTD)
        return x_BTD if lane_BTD is None else 0.5 * (x_BTD + lane_BTD)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """The normalised embedding (B, T, D), which enters the stream at its start and in every layer."""
        x_BTD = F.embedding(ids_BT, self.tok_emb).to(self.compute_dtype)
        if self.bigram is not None:
            x_BTD = x_BTD + self.bigram(ids_BT, self.compute_dtype)
        if self.smear is not None and self.smear.form is SmearForm.RESIDUAL:
            x_BTD = self.smear(x_BTD, ids_BT)
        x_BTD = rms_norm(x_BTD)
        return self.smear(x_BTD, ids_BT) if self.smear is not None and self.smear.form is SmearForm.CONVEX else x_BTD

    def passes(
        self, ids_BT: Tensor, x0_BTD: Tensor, order: tuple[int, ...], document_mask: bool, lora: Lora | None
    ) -> list[Pass]:
        """What each pass through a layer gets; rotation, documents and token values are made once for all."""
        dtype, config = self.compute_dtype, self.config
        rotation = rotation_of(ids_BT.size(1), config, ids_BT.device, dtype)
        documents = documents_of(ids_BT, config.head_dim, dtype) if document_mask else Documents()
        values = [None] * config.num_layers if self.value_embed is None else self.value_embed(ids_BT, dtype)
        loras = [LayerLora()] * len(order) if lora is None else lora.layers
        return [
            Pass(x0_BTD, rotation, documents, values[layer], None, layer_lora)
            for layer, layer_lora in zip(order, loras, strict=True)
        ]

    def skip(self, pushed_BTD: Tensor, index: int, is_looped: bool) -> Skip:
        """What an earlier pass pushed, with the index-th weights. Source: division by sqrt(passes) PR 340."""
        loop = self.config.loop
        factor = loop.passes**-0.5 if is_looped and loop is not None and loop.scales_skips else 1.0
        gate_D = None if self.skip_gates is None else self.skip_gates[index]
        return Skip(pushed_BTD, self.skip_weights[index], gate_D, factor)

    def raw_logits(self, hidden: Tensor, head: LowRank | None) -> Tensor:
        """Logits (..., V) of hidden states (..., D) in their format, without the softcap."""
        raw = F.linear(hidden, self.tok_emb.to(hidden.dtype))
        return raw if head is None else raw + low_rank_map(hidden, head)

    def logits(self, hidden: Tensor, head: LowRank | None = None) -> Tensor:
        """Softcapped float32 logits (..., V) of hidden states (..., D)."""
        cap = self.config.logit_softcap
        return cap * torch.tanh(self.raw_logits(hidden, head).float() / cap)

    def token_losses(
        self, ids_BT: Tensor, targets_BT: Tensor, num_scored: int, document_mask: bool, lora: Lora | None = None
    ) -> Tensor:
        """Negative log-likelihood in nats (B, S) of the last num_scored targets of each row, loops on."""
        x_BSD = self.stream(ids_BT, True, document_mask, lora)[:, -num_scored:]
        return self.parts.losses(x_BSD, targets_BT[:, -num_scored:], "none", None if lora is None else lora.head)

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, is_looped: bool, document_mask: bool) -> Tensor:
        """Mean negative log-likelihood in nats of all targets."""
        return self.parts.losses(self.stream(ids_BT, is_looped, document_mask, None), targets_BT, "mean", None)

    def losses(self, x_BSD: Tensor, targets_BS: Tensor, reduction: str, head: LowRank | None) -> Tensor:
        """Negative log-likelihood in nats of a stream: (B, S), or with the reduction mean their mean."""
        if self.fast.losses:
            raw_NV = self.raw_logits(rms_norm(x_BSD), head).flatten(0, 1)
            losses_N = fused_nll(raw_NV, targets_BS.flatten(), self.config.logit_softcap)
            return losses_N.view(targets_BS.shape) if reduction == "none" else losses_N.mean()
        logits_NV = self.logits(rms_norm(x_BSD), head).flatten(0, 1)
        losses = F.cross_entropy(logits_NV, targets_BS.flatten(), reduction=reduction)
        return losses.view(targets_BS.shape) if reduction == "none" else losses


def new_model(config: ModelConfig, compute_dtype: torch.dtype, seed: int) -> Gpt:
    """A model at its initial weights, which the seed alone decides."""
    return Gpt(config, compute_dtype, torch.Generator().manual_seed(seed))
