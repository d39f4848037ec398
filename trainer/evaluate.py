"""Bits per byte of a validation stream, as the challenge scores it.

BPB = sum of nats / (ln 2 * sum of bytes), both summed in float64 over all ranks before the division.

Shapes: T tokens of the stream, W windows, L window length, S scored positions of a window.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.environment import Environment
from trainer.errors import DataError, DivergedError
from trainer.model import Gpt
from trainer.tokenizer import TokenBytes

CUDA_BATCH_TOKENS = 131_072
CPU_BATCH_TOKENS = 4_096


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A validation score.

    Attributes:
        val_loss: nats per token.
        val_bpb: bits per byte.
    """

    val_loss: float
    val_bpb: float
    num_tokens: int
    num_bytes: int


def score_of(nats: float, num_tokens: int, num_bytes: int) -> Score:
    """The score of summed nats, tokens and bytes."""
    return Score(
        val_loss=nats / num_tokens, val_bpb=nats / (math.log(2) * num_bytes), num_tokens=num_tokens, num_bytes=num_bytes
    )


class Scorer:
    """Scores a stream with one model. Windows of equal shape run in batches of one size, so nothing recompiles.

    Args:
        tokens_T: (T,) integers, the validation stream, BOS tokens included; position i predicts token i + 1.
        seq_len: window length L.

    Raises:
        DataError: the stream is shorter than one window and its next token.
    """

    def __init__(
        self, model: Gpt, tokens_T: Tensor, token_bytes: TokenBytes, seq_len: int, environment: Environment
    ) -> None:
        if len(tokens_T) <= seq_len:
            raise DataError(f"validation stream: needs over {seq_len} tokens for one window, got {len(tokens_T)}")
        self.environment, self.seq_len = environment, seq_len
        self.tokens_T = tokens_T.to(environment.device, torch.int64)
        self.token_bytes = token_bytes.to(environment.device)
        batch_tokens = CUDA_BATCH_TOKENS if environment.device.type == "cuda" else CPU_BATCH_TOKENS
        self.batch_windows = max(1, batch_tokens // seq_len)
        self.token_losses: Callable[[Tensor, Tensor, int, bool], Tensor] = (
            torch.compile(model.token_losses, dynamic=False, fullgraph=True)
            if environment.is_compiled
            else model.token_losses
        )

    @property
    def num_positions(self) -> int:
        """Tokens that can be predicted."""
        return len(self.tokens_T) - 1

    def non_overlapping(self) -> Score:
        """Score the stream, cut to whole windows, each token in one window; its mean context is half a window.

        Source: the challenge's baseline.
        """
        num_windows = self.num_positions // self.seq_len
        starts = [window * self.seq_len for window in self.share(range(num_windows))]
        return self.total(self.sums(starts, self.seq_len))

    def sliding(self, stride: int) -> Score:
        """Score every token of the stream once, with as much left context as a window holds.

        Windows start every stride tokens; the first scores all its positions, each other only those past
        seq_len - stride, and the last may be ragged.

        Source: openai/parameter-golf PR 50 (stride 64).
        """
        starts = range(stride, self.num_positions - (self.seq_len - stride), stride)
        sums = self.sums(list(self.share(starts)), stride)
        if self.environment.is_main:
            sums = [a + b for a, b in zip(sums, self.sums([0], self.seq_len), strict=True)]
        return self.total(sums)

    def share(self, items: range) -> range:
        """This rank's contiguous part of a range."""
        rank, ranks = self.environment.rank, self.environment.world_size
        return items[len(items) * rank // ranks : len(items) * (rank + 1) // ranks]

    def total(self, sums: list[float]) -> Score:
        """The score over all ranks of per-rank sums of nats, tokens and bytes.

        Raises:
            DivergedError: it is not finite.
        """
        nats, num_tokens, num_bytes = self.environment.sum_over_ranks(sums)
        if not math.isfinite(nats):
            raise DivergedError(f"val_loss: expected a finite number, got {nats}")
        return score_of(nats, round(num_tokens), round(num_bytes))

    @torch.no_grad()
    def sums(self, starts: list[int], num_scored: int) -> list[float]:
        """Nats, tokens and bytes of the last num_scored positions of the windows at starts."""
        totals = torch.zeros(3, dtype=torch.float64, device=self.environment.device)
        for first in range(0, len(starts), self.batch_windows):
            totals += self.batch_sums(starts[first : first + self.batch_windows], num_scored)
        return [float(value) for value in totals]

    def batch_sums(self, starts: list[int], num_scored: int) -> Tensor:
        """The same of at most one batch; a short one is filled up with repeats that do not count."""
        device, length = self.environment.device, self.seq_len
        padded = starts + starts[-1:] * (self.batch_windows - len(starts) if self.environment.is_compiled else 0)
        positions_WL = torch.tensor(padded, device=device)[:, None] + torch.arange(length, device=device)
        # Past the stream's end lie positions of the last, ragged window; causality keeps them from the others.
        counts_WS = (positions_WL < self.num_positions)[:, -num_scored:].clone()
        counts_WS[len(starts) :] = False
        positions_WL = positions_WL.clamp_max(self.num_positions - 1)
        ids_WL, targets_WL = self.tokens_T[positions_WL], self.tokens_T[positions_WL + 1]
        losses_WS = self.token_losses(ids_WL, targets_WL, num_scored, False)
        bytes_WS = self.token_bytes.target_bytes(ids_WL[:, -num_scored:], targets_WL[:, -num_scored:])
        nats = losses_WS.double().masked_fill(~counts_WS, 0.0).sum()
        num_bytes = bytes_WS.double().masked_fill(~counts_WS, 0.0).sum()
        return torch.stack((nats, counts_WS.sum().double(), num_bytes))
