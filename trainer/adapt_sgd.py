"""Test-time training of all weights: what has been scored is trained on before what follows is scored.

Shapes: R rows of a step, L window length.
"""

import math
from bisect import bisect_left
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from trainer.eval_config import SgdAdaptConfig
from trainer.evaluate import Record, Scorer, scoring
from trainer.model import Gpt

PASS_TOKENS = 32_768  # of one forward and backward pass; a step over more rows takes several
MAX_GRADIENT_NORM = 1.0


@contextmanager
def restored_weights(model: Gpt) -> Generator[None]:
    """Within it weights may change; after it they, and whether they take gradients, are as before."""
    before = [(parameter.detach().clone(), parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, (weight, takes_gradients) in zip(model.parameters(), before, strict=True):
            with torch.no_grad():
                parameter.copy_(weight)
            parameter.requires_grad_(takes_gradients)
            parameter.grad = None


def cosine_rate(step: int, num_steps: int) -> float:
    """The share of the peak learning rate at a step: 1 at the first, falling to 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * step / num_steps))


class WeightTrainer:
    """SGD with momentum on all weights of a scorer's model, each step's rows shared out over the ranks.

    Args:
        step_rows: rows of a step at most; a compiled pass has one shape, whatever the rows of a step.
    """

    def __init__(self, scorer: Scorer, momentum: float, document_mask: bool, step_rows: int) -> None:
        model, environment = scorer.model, scorer.environment
        self.model, self.environment, self.document_mask = model, environment, document_mask
        self.pass_rows = max(1, min(PASS_TOKENS // scorer.seq_len, math.ceil(step_rows / environment.world_size)))
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0, momentum=momentum)

    def step(self, ids_RL: Tensor, targets_RL: Tensor, lr: float) -> None:
        """One step on the mean loss of all rows."""
        gradients = self.gradients(ids_RL, targets_RL)
        self.environment.average_gradients(gradients)
        torch.nn.utils.clip_grad_norm_(self.parameters, MAX_GRADIENT_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()

    def gradients(self, ids_RL: Tensor, targets_RL: Tensor) -> list[Tensor]:
        """The weights' gradients from this rank's rows, weighted so that their mean over ranks is that of all rows."""
        rank, ranks, num_rows = self.environment.rank, self.environment.world_size, len(ids_RL)
        gradients: list[Tensor] = []
        for parameter in self.parameters:
            parameter.requires_grad_(True)
            parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        end = num_rows * (rank + 1) // ranks
        for first in range(num_rows * rank // ranks, end, self.pass_rows):
            rows = slice(first, min(first + self.pass_rows, end))
            (self.summed_losses(ids_RL[rows], targets_RL[rows]) * (ranks / targets_RL.numel())).backward()
        return gradients

    def summed_losses(self, ids_RL: Tensor, targets_RL: Tensor) -> Tensor:
        """Nats of all targets of at most pass_rows rows; compiled, fewer are filled up with repeats of the last."""
        num_rows, num_filled = len(ids_RL), self.pass_rows if self.environment.is_compiled else len(ids_RL)
        index = torch.arange(num_filled, device=ids_RL.device).clamp_max(num_rows - 1)
        with scoring(self.model):
            losses = self.model.token_losses(ids_RL[index], targets_RL[index], ids_RL.size(1), self.document_mask)
        return losses[:num_rows].sum()


def slide_with_sgd(scorer: Scorer, config: SgdAdaptConfig) -> Record:
    """Sliding windows, where each chunk, once scored, is trained on before the next is scored.

    A window belongs to the chunk in which its scored positions start. The last chunk, the only one that may be ragged,
    is not trained on: nothing follows it. The model's weights are the same afterwards as before.

    Source: openai/parameter-golf PR 549; settings of PR 1493.
    """
    record, tokens_T, chunk_tokens = scorer.new_record(), scorer.tokens_T, config.chunk_tokens
    num_trained = math.ceil(scorer.num_positions / chunk_tokens) - 1
    with restored_weights(scorer.model):
        trainer = WeightTrainer(scorer, config.momentum, scorer.document_mask, chunk_tokens // scorer.seq_len)
        scorer.add_first_window(record)
        for chunk in range(num_trained + 1):
            scorer.add_windows(record, scorer.share(windows_of_chunk(scorer, chunk, chunk_tokens)), scorer.stride)
            if chunk == num_trained:
                break
            tokens = tokens_T[chunk * chunk_tokens : (chunk + 1) * chunk_tokens + 1]
            ids_RL, targets_RL = tokens[:-1].view(-1, scorer.seq_len), tokens[1:].view(-1, scorer.seq_len)
            for _ in range(config.epochs):
                trainer.step(ids_RL, targets_RL, config.lr * cosine_rate(chunk, num_trained))
    return record


def windows_of_chunk(scorer: Scorer, chunk: int, chunk_tokens: int) -> range:
    """Starts of the windows after the first whose scored positions start in a chunk."""
    starts, offset = scorer.window_starts, scorer.seq_len - scorer.stride
    first, end = (bisect_left(starts, index * chunk_tokens - offset) for index in (chunk, chunk + 1))
    return starts[first:end]
