"""Bits per byte of a validation stream, as the challenge scores it.

BPB = sum of nats / (ln 2 * sum of bytes), both summed in float64 over all ranks before the division.

Shapes: T tokens of the stream, P its positions (T - 1), W windows, L window length, S scored positions of a window.
"""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import Recipe
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


class Record:
    """What one rank has scored: the nats of every position of a stream, from which its score is summed.

    Position p predicts token p + 1. Scores are added, not set, so a position scored twice weighs twice.
    """

    def __init__(self, num_positions: int, device: torch.device) -> None:
        # The cell after the last takes what padding writes: a mask would need its size on the host, and so a wait.
        self.num_positions = num_positions
        self.cells = torch.zeros(num_positions + 1, device=device)
        self.counts = torch.zeros(num_positions + 1, dtype=torch.int32, device=device)

    @property
    def losses_P(self) -> Tensor:
        """(P,) float32 nats; 0 where nothing was scored."""
        return self.cells[:-1]

    @property
    def times_P(self) -> Tensor:
        """(P,) int32, how often each position was scored."""
        return self.counts[:-1]

    def add(self, positions: Tensor, is_scored: Tensor, losses: Tensor) -> None:
        """Write nats at positions where is_scored holds; all three of one shape."""
        cells = torch.where(is_scored, positions, self.num_positions).flatten()
        self.cells.index_add_(0, cells, losses.detach().float().flatten())
        self.counts.index_add_(0, cells, torch.ones_like(cells, dtype=torch.int32))


class Scorer:
    """Scores a stream with one model. Windows of equal shape run in batches of one size, so nothing recompiles.

    Args:
        tokens_T: (T,) integers, the validation stream, BOS tokens included; position i predicts token i + 1.
        recipe: its eval_seq_len is the window length L, its evaluation says the rest.

    Raises:
        DataError: the stream is shorter than one window and its next token.
    """

    def __init__(
        self, model: Gpt, tokens_T: Tensor, token_bytes: TokenBytes, recipe: Recipe, environment: Environment
    ) -> None:
        self.model, self.recipe, self.environment = model, recipe, environment
        self.seq_len, self.stride = recipe.eval_seq_len, recipe.evaluation.stride
        self.document_mask = recipe.evaluation.document_mask
        if len(tokens_T) <= self.seq_len:
            raise DataError(f"validation stream: needs over {self.seq_len} tokens for one window, got {len(tokens_T)}")
        self.tokens_T = tokens_T.to(environment.device, torch.int64)
        self.token_bytes = token_bytes.to(environment.device)
        batch_tokens = CUDA_BATCH_TOKENS if environment.device.type == "cuda" else CPU_BATCH_TOKENS
        self.batch_windows = max(1, batch_tokens // self.seq_len)

    @property
    def num_positions(self) -> int:
        """Tokens that can be predicted."""
        return len(self.tokens_T) - 1

    @property
    def window_starts(self) -> range:
        """Starts of the sliding windows after the first, which scores all its positions; each of these a stride."""
        return range(self.stride, self.num_positions - (self.seq_len - self.stride), self.stride)

    def new_record(self) -> Record:
        """A record of this stream without a score."""
        return Record(self.num_positions, self.environment.device)

    def non_overlapping(self) -> Score:
        """Score the stream, cut to whole windows, each token in one window; its mean context is half a window.

        Source: the challenge's baseline.
        """
        record = self.new_record()
        num_windows = self.num_positions // self.seq_len
        starts = [window * self.seq_len for window in self.share(range(num_windows))]
        self.add_windows(record, starts, self.seq_len)
        return self.score(record)

    def sliding(self) -> Score:
        """Score every token of the stream once, with as much left context as a window holds."""
        return self.score(self.slide())

    def slide(self) -> Record:
        """Sliding windows over the stream.

        They start every stride tokens; the first scores all its positions, each other only those past
        seq_len - stride, and the last may be ragged.

        Source: openai/parameter-golf PR 50 (stride 64).
        """
        record = self.new_record()
        self.add_first_window(record)
        self.add_windows(record, self.share(self.window_starts), self.stride)
        return record

    def share(self, items: range) -> range:
        """This rank's contiguous part of a range."""
        rank, ranks = self.environment.rank, self.environment.world_size
        return items[len(items) * rank // ranks : len(items) * (rank + 1) // ranks]

    def score(self, record: Record) -> Score:
        """The score of what all ranks recorded.

        Raises:
            DivergedError: it is not finite.
        """
        times_P = record.times_P
        bytes_P = self.token_bytes.target_bytes(self.tokens_T[:-1], self.tokens_T[1:])
        sums = (record.losses_P.sum(dtype=torch.float64), times_P.sum(), (bytes_P * times_P).sum())
        nats, num_tokens, num_bytes = self.environment.sum_over_ranks([float(value) for value in sums])
        if not math.isfinite(nats):
            raise DivergedError(f"val_loss: expected a finite number, got {nats}")
        return score_of(nats, round(num_tokens), round(num_bytes))

    def add_first_window(self, record: Record) -> None:
        """Score all positions of the stream's first window, on rank 0."""
        self.add_windows(record, [0] if self.environment.is_main else [], self.seq_len)

    @torch.no_grad()
    def add_windows(self, record: Record, starts: Sequence[int], num_scored: int) -> None:
        """Score the last num_scored positions of the windows at starts."""
        with scoring(self.model):
            for first in range(0, len(starts), self.batch_windows):
                self.add_batch(record, list(starts[first : first + self.batch_windows]), num_scored)

    def add_batch(self, record: Record, starts: list[int], num_scored: int) -> None:
        """The same of at most one batch; a short one is filled up with repeats that do not count."""
        device, length = self.environment.device, self.seq_len
        padded = starts + starts[-1:] * (self.batch_windows - len(starts) if self.environment.is_compiled else 0)
        positions_WL = torch.tensor(padded, device=device)[:, None] + torch.arange(length, device=device)
        # Past the stream's end lie positions of the last, ragged window; causality keeps them from the others.
        is_scored_WS = (positions_WL < self.num_positions)[:, -num_scored:].clone()
        is_scored_WS[len(starts) :] = False
        positions_WL = positions_WL.clamp_max(self.num_positions - 1)
        ids_WL, targets_WL = self.tokens_T[positions_WL], self.tokens_T[positions_WL + 1]
        losses_WS = self.model.token_losses(ids_WL, targets_WL, num_scored, self.document_mask)
        record.add(positions_WL[:, -num_scored:], is_scored_WS, losses_WS)


@contextmanager
def scoring(model: Gpt) -> Generator[None]:
    """Within it the model drops nothing out, whatever mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
