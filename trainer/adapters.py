"""Low-rank additions for a batch of documents, each document its own, and their optimizer.

All additions are one matrix, a row a document: a step, a reset and their gradient are single operations, where a tensor
for each of some two hundred factors would cost as many launches.

Shapes: B documents, N numbers of one document's additions, R rank, I input and O output width.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.environment import Environment
from trainer.eval_config import LoraAdaptConfig, LoraTargets
from trainer.layers import LayerLora, Lora, LowRank
from trainer.model_config import ModelConfig

ADAPTER_EPS = 1e-10  # of AdamW; gradients of one document's chunk are small


class AdaptedMap(NamedTuple):
    """A linear map with an addition."""

    num_inputs: int
    num_outputs: int


def adapted_maps(config: ModelConfig, targets: LoraTargets) -> dict[str, AdaptedMap]:
    """The adapted maps of one pass through a block, by their field of LayerLora, and the head's."""
    dim, kv_dim = config.model_dim, config.num_kv_heads * config.head_dim
    square, narrow = AdaptedMap(dim, dim), AdaptedMap(dim, kv_dim)
    maps = {"q": square, "k": narrow, "v": narrow, "out": square, "mlp": square}
    if targets is LoraTargets.QUERY_VALUE_HEAD:
        maps = {"q": square, "v": narrow}
    return maps | {"head": AdaptedMap(dim, config.vocab_size)}


class Adapters:
    """The additions of a batch of documents and their AdamW state.

    A starts uniform in +-1/sqrt(I), alike for every document, and B at zero: at first nothing is added. A row holds all
    A factors, then all B factors, each in the order of the passes through blocks and the head last.

    Source: arXiv 2106.09685; AdamW arXiv 1711.05101; one pair a pass and its reset, openai/parameter-golf PR 77.
    """

    def __init__(
        self, model: ModelConfig, config: LoraAdaptConfig, num_documents: int, environment: Environment
    ) -> None:
        self.config, self.num_passes = config, len(model.layer_order(True))
        self.maps = adapted_maps(model, config.targets)
        layer_maps = [adapted for name, adapted in self.maps.items() if name != "head"]
        factors = layer_maps * self.num_passes + [self.maps["head"]]
        self.a_shapes = [(config.rank, adapted.num_inputs) for adapted in factors]
        self.b_shapes = [(adapted.num_outputs, config.rank) for adapted in factors]
        self.num_a = sum(math.prod(shape) for shape in self.a_shapes)
        self.start_N = self.start(environment.seed).to(environment.device)
        self.values_BN = self.start_N.repeat(num_documents, 1)
        self.mean_BN, self.square_BN = torch.zeros_like(self.values_BN), torch.zeros_like(self.values_BN)
        self.update: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], None] = (
            torch.compile(self.adamw, dynamic=False, fullgraph=True) if environment.is_compiled else self.adamw
        )

    def start(self, seed: int) -> Tensor:
        """The additions every document starts with; a CPU generator gives the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        parts = [torch.empty(shape).uniform_(-1, 1, generator=generator) / shape[1] ** 0.5 for shape in self.a_shapes]
        parts += [torch.zeros(shape) for shape in self.b_shapes]
        return torch.cat([part.flatten() for part in parts])

    def reset(self, keeps_a: bool) -> None:
        """Begin other documents; with keeps_a each row's A factors stay what the document before made them."""
        first = self.num_a if keeps_a else 0
        self.values_BN[:, first:] = self.start_N[first:]
        self.mean_BN.zero_()
        self.square_BN.zero_()

    def lora(self, values_BN: Tensor) -> Lora:
        """Rows of additions as the model takes them."""
        shapes = self.a_shapes + self.b_shapes
        # One split: its gradient is one concatenation, where that of slices would be a sum of whole matrices.
        parts = values_BN.split([math.prod(shape) for shape in shapes], dim=1)
        factors = [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]
        scale, half = self.config.alpha / self.config.rank, len(self.a_shapes)
        pairs = [LowRank(a_BRI, b_BOR, scale) for a_BRI, b_BOR in zip(factors[:half], factors[half:], strict=True)]
        names = [name for name in self.maps if name != "head"]
        layers = [
            LayerLora(**dict(zip(names, pairs[first : first + len(names)], strict=True)))
            for first in range(0, half - 1, len(names))
        ]
        return Lora(tuple(layers), pairs[-1])

    @torch.no_grad()
    def step(self, rows: slice, gradient_BN: Tensor, is_trained_B: Tensor, step: Tensor) -> None:
        """One step of AdamW on the additions of the documents of some rows that are trained.

        Args:
            step: () float32, 1 at a document's first step.
        """
        self.update(
            self.values_BN[rows], gradient_BN, self.mean_BN[rows], self.square_BN[rows], is_trained_B[:, None], step
        )

    def adamw(
        self,
        values_BN: Tensor,
        gradient_BN: Tensor,
        mean_BN: Tensor,
        square_BN: Tensor,
        is_trained_B1: Tensor,
        step: Tensor,
    ) -> None:
        """The step itself, in place; rows that are not trained keep their values."""
        config = self.config
        mean_BN.lerp_(gradient_BN, 1 - config.beta1)
        square_BN.lerp_(gradient_BN.square(), 1 - config.beta2)
        mean_part, square_part = 1 - config.beta1**step, 1 - config.beta2**step
        change_BN = mean_BN / mean_part / ((square_BN / square_part).sqrt() + ADAPTER_EPS)
        rate_B1 = config.lr * is_trained_B1
        values_BN.sub_(rate_B1 * (change_BN + config.weight_decay * values_BN))
