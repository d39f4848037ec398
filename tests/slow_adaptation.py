"""Slow loops of adaptation to what has been scored, written from the definitions."""

from collections.abc import Sequence

import torch
from scored_streams import ENVIRONMENT, LENGTH, lively_model
from torch import Tensor

from trainer.adapt_lora import Document, documents_by_length, groups_of
from trainer.adapt_sgd import cosine_rate
from trainer.adapters import Adapters
from trainer.eval_config import LoraAdaptConfig, LoraTargets, SgdAdaptConfig
from trainer.layers import LayerLora, Lora, LowRank
from trainer.model import Gpt
from trainer.model_config import ModelConfig

# --- SGD ---


class SlowSgd:
    """SGD with momentum and clipping, written out."""

    def __init__(self, model: Gpt, momentum: float) -> None:
        self.model, self.momentum = model, momentum
        self.velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]

    def step(self, rows: Sequence[tuple[Tensor, Tensor]], lr: float, document_mask: bool) -> None:
        self.model.zero_grad()
        losses = [self.model.loss(ids[None], targets[None], True, document_mask) for ids, targets in rows]
        torch.stack(losses).mean().backward()
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        with torch.no_grad():
            for parameter, velocity in zip(self.model.parameters(), self.velocity, strict=True):
                assert parameter.grad is not None
                velocity.mul_(self.momentum).add_(parameter.grad * min(1.0, 1.0 / norm))
                parameter.sub_(lr * velocity)


def slow_sgd_losses(tokens: Tensor, stride: int, config: SgdAdaptConfig) -> list[float]:
    """Chunk by chunk: the losses of the windows that score from within it, then the training."""
    model, positions = lively_model(), len(tokens) - 1
    slow = SlowSgd(model, config.momentum)
    nats: list[float] = []
    num_chunks = -(-positions // config.chunk_tokens)
    for chunk in range(num_chunks):
        begin, end = chunk * config.chunk_tokens, (chunk + 1) * config.chunk_tokens
        while len(nats) < min(end, positions):
            start = max(0, len(nats) + stride - LENGTH) if nats else 0
            stop = min(start + LENGTH, positions)
            with torch.no_grad():
                losses = model.token_losses(
                    tokens[None, start:stop], tokens[None, start + 1 : stop + 1], stop - start, False
                )
            nats += losses[0, len(nats) - start :].tolist()
        if chunk < num_chunks - 1:
            rows = [(tokens[i : i + LENGTH], tokens[i + 1 : i + LENGTH + 1]) for i in range(begin, end, LENGTH)]
            for _ in range(config.epochs):
                slow.step(rows, config.lr * cosine_rate(chunk, num_chunks - 1), False)
    return nats


# --- LoRA ---


def slow_lora(model: Gpt, a: list[Tensor], b: list[Tensor], config: LoraAdaptConfig) -> Lora:
    """The factors of one document, in the order of passes through blocks, the head last."""
    pairs = [LowRank(x[None], y[None], config.alpha / config.rank) for x, y in zip(a, b, strict=True)]
    is_all = config.targets is LoraTargets.ALL
    layers: list[LayerLora] = []
    for _ in model.config.layer_order(True):
        if is_all:
            q, k, v, out, mlp = (pairs.pop(0) for _ in range(5))
            layers.append(LayerLora(q=q, k=k, v=v, out=out, mlp=mlp))
        else:
            layers.append(LayerLora(q=pairs.pop(0), v=pairs.pop(0)))
    return Lora(tuple(layers), pairs.pop())


def slow_document(
    model: Gpt, tokens: Tensor, a: list[Tensor], config: LoraAdaptConfig
) -> tuple[list[float], list[Tensor]]:
    """The losses of one document (its tokens and the next BOS) and its A factors afterwards."""
    shapes = Adapters(model.config, config, 1, ENVIRONMENT).b_shapes
    a = [factor.clone().requires_grad_() for factor in a]
    b = [torch.zeros(shape, requires_grad=True) for shape in shapes]
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.AdamW([*a, *b], config.lr, betas, eps=1e-10, weight_decay=config.weight_decay)
    nats: list[float] = []
    positions = len(tokens) - 1
    for begin in range(0, positions, config.chunk_tokens):
        end = min(begin + config.chunk_tokens, positions)
        first = max(0, begin + config.chunk_tokens - LENGTH)
        ids, targets = tokens[None, first:end], tokens[None, first + 1 : end + 1]
        losses = model.token_losses(ids, targets, end - begin, False, slow_lora(model, a, b, config))
        nats += losses[0].tolist()
        if end < positions:
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
    return nats, [factor.detach() for factor in a]


def first_factors(model: ModelConfig, config: LoraAdaptConfig) -> list[Tensor]:
    adapters = Adapters(model, config, 1, ENVIRONMENT)
    sizes = [rows * columns for rows, columns in adapters.a_shapes]
    parts = adapters.start_N[: adapters.num_a].split(sizes)
    return [part.view(shape) for part, shape in zip(parts, adapters.a_shapes, strict=True)]


def slow_phase(model: Gpt, tokens: Tensor, scored: Sequence[Document], config: LoraAdaptConfig) -> None:
    """SGD on all documents scored so far, end to end; here they always are one chunk."""
    positions = torch.cat([torch.arange(start, start + length) for start, length in scored])
    rows = [positions[first : first + LENGTH] for first in range(0, len(positions) - LENGTH + 1, LENGTH)]
    if rows:
        SlowSgd(model, 0.9).step([(tokens[row], tokens[row + 1]) for row in rows], config.phase_lr, True)


def slow_lora_losses(tokens: Tensor, config: LoraAdaptConfig, model_config: ModelConfig) -> list[float]:
    """Document by document in scoring order."""
    model = lively_model(model_config)
    nats = [0.0] * (len(tokens) - 1)
    scored: list[Document] = []
    for group in groups_of(documents_by_length(tokens), config):
        if scored and group:
            slow_phase(model, tokens, scored, config)
        start = first_factors(model_config, config)
        kept = {slot: start for slot in range(config.batch_documents)}
        for index, (first, length) in enumerate(group):
            slot = index % config.batch_documents
            a = kept[slot] if config.keeps_a else start
            losses, kept[slot] = slow_document(model, tokens[first : first + length + 1], a, config)
            nats[first : first + length] = losses
        scored += group
    return nats
