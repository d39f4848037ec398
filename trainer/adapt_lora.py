"""Test-time training of low-rank additions, anew for each document, and of the weights between groups of documents.

Scoring order: groups of documents, in each group batches, in each batch chunk after chunk of all its documents side by
side. What is recorded depends on what comes earlier in this order and on the lengths of documents, on nothing else.

Shapes: B documents of a pass, W window length, C tokens of a chunk, N numbers of one document's additions, R rows of a
step on the weights, L tokens of a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.adapt_sgd import PASS_TOKENS, WeightTrainer, cosine_rate, restored_weights
from trainer.adapters import Adapters
from trainer.config import Recipe
from trainer.eval_config import LoraAdaptConfig
from trainer.evaluate import Record, Scorer, scoring
from trainer.layers import BOS_ID
from trainer.model_config import XsaForm

PHASE_CHUNK_TOKENS = 32_768  # a step of a phase's SGD (PR 1610)
PHASE_MOMENTUM = 0.9


class Document(NamedTuple):
    """A document of a stream: the position of its BOS and its number of targets, the next document's BOS included."""

    start: int
    length: int


def documents_by_length(tokens_T: Tensor) -> list[Document]:
    """The documents of a stream, longest first, ties in their order; together they hold every position once.

    Text before the first BOS counts as a document.
    """
    num_positions = len(tokens_T) - 1
    starts = (tokens_T[:-1] == BOS_ID).nonzero().flatten().tolist()
    starts = starts if starts[:1] == [0] else [0, *starts]
    ends = [*starts[1:], num_positions]
    documents = [Document(start, end - start) for start, end in zip(starts, ends, strict=True)]
    return sorted(documents, key=lambda document: (-document.length, document.start))


def groups_of(documents: Sequence[Document], config: LoraAdaptConfig) -> list[Sequence[Document]]:
    """The documents in groups; the weights are trained after each but the last. Without phases, one group."""
    prefix = round(config.prefix_fraction * len(documents))
    bounds = [prefix * phase // config.phases for phase in range(config.phases + 1)] if config.phases else [0]
    return [documents[first:end] for first, end in zip(bounds, [*bounds[1:], len(documents)], strict=True)]


def window_lengths(recipe: Recipe, chunk_tokens: int) -> list[int]:
    """The lengths windows are filled up to, shortest first: each is to be compiled for, the fill is wasted work.

    At a window of 2,048, chunks of 48 and log-normal documents of 1,210 tokens on average, these three cost 27.9
    forward tokens for each token scored; exact lengths 22.2, the full length alone 43.5, a fourth 26.5. A model whose
    numbers depend on the length has only the one it is else scored at.
    """
    full, xsa = recipe.eval_seq_len, recipe.model.xsa
    if recipe.model.rope_ntk_length is not None or (xsa is not None and xsa.form is XsaForm.MEAN_SHARE):
        return [full]
    return [length for length in (full // 4, full // 2, full) if length >= chunk_tokens]


class DocumentScorer:
    """Scores the documents of a stream, each with additions that its own earlier chunks trained.

    A chunk's window holds the tokens of its document up to the chunk's end, at most seq_len. One forward gives both the
    scores, which are recorded at once, and the gradient of the step that follows.
    """

    def __init__(self, scorer: Scorer, config: LoraAdaptConfig, record: Record) -> None:
        self.scorer, self.config, self.record = scorer, config, record
        self.model, self.tokens_T, self.device = scorer.model, scorer.tokens_T, scorer.environment.device
        self.window_lengths = window_lengths(scorer.recipe, config.chunk_tokens)
        self.documents = documents_by_length(scorer.tokens_T)
        # Passes take a power of two of rows, so that they fill a batch of any size they do not exceed.
        self.num_slots = 1 << (config.batch_documents - 1).bit_length()
        self.adapters = Adapters(self.model.config, config, self.num_slots, scorer.environment)

    def pass_rows(self, length: int) -> int:
        """Documents of one pass at a window length: a power of two, so that a batch of 2^n is whole passes."""
        return min(self.num_slots, 1 << (max(1, PASS_TOKENS // length).bit_length() - 1))

    def add_group(self, documents: Sequence[Document]) -> None:
        """Score documents with fresh additions, batches dealt out to the ranks in turn."""
        environment, size = self.scorer.environment, self.config.batch_documents
        self.adapters.reset(keeps_a=False)
        for first in range(environment.rank * size, len(documents), environment.world_size * size):
            self.add_batch(documents[first : first + size])
            self.adapters.reset(self.config.keeps_a)

    def add_batch(self, documents: Sequence[Document]) -> None:
        """Score a batch of documents, longest first, chunk after chunk."""
        padded = [*documents, *[Document(0, 0)] * (self.num_slots - len(documents))]
        places_B2 = torch.tensor(padded, device=self.device)
        chunk_tokens = self.config.chunk_tokens
        for start in range(0, documents[0].length, chunk_tokens):
            needed = min(start + chunk_tokens, self.scorer.seq_len)
            length = next(length for length in self.window_lengths if length >= needed)
            size = self.pass_rows(length)
            num_active = sum(document.length > start for document in documents)
            # A compiled pass has one shape; an eager one leaves out what follows the last document with a chunk.
            end = self.num_slots if self.scorer.environment.is_compiled else num_active
            for first in range(0, num_active, size):
                rows = slice(first, min(first + size, end))
                is_last = documents[first].length <= start + chunk_tokens
                self.add_pass(rows, places_B2[rows], start, length, is_last)

    def add_pass(self, rows: slice, places_B2: Tensor, chunk_start: int, length: int, is_last: bool) -> None:
        """Score one chunk of some documents of a batch, then train their additions on it.

        Args:
            places_B2: (B, 2), start and length of each document.
            chunk_start: where the chunk starts in each document.
            length: W, at least the window's tokens; what lies past the chunk is filled with BOS.
            is_last: whether it is every document's last chunk, after which none is trained.
        """
        chunk_tokens, (starts_B1, lengths_B1) = self.config.chunk_tokens, places_B2.split(1, dim=1)
        window_start = max(0, chunk_start + chunk_tokens - self.scorer.seq_len)
        window_W = torch.arange(window_start, window_start + length, device=self.device)
        chunk_C = torch.arange(chunk_start, chunk_start + chunk_tokens, device=self.device)
        is_past_BW = (window_W >= lengths_B1) | (window_W >= chunk_start + chunk_tokens)
        ids_BW = self.tokens_T[(starts_B1 + window_W).clamp_max(self.scorer.num_positions)]
        ids_BW = ids_BW.masked_fill(is_past_BW, BOS_ID)
        positions_BC, is_scored_BC = starts_B1 + chunk_C, chunk_C < lengths_B1
        targets_BC = self.tokens_T[(positions_BC + 1).clamp_max(self.scorer.num_positions)]
        values_BN = self.adapters.values_BN[rows].detach().requires_grad_()
        losses_BC = self.chunk_losses(values_BN, ids_BW, targets_BC, chunk_C - window_start)
        self.record.add(positions_BC, is_scored_BC, losses_BC)
        if is_last:
            return
        # A document with tokens past this chunk has all of it, so its mean is over C.
        is_trained_B = lengths_B1[:, 0] > chunk_start + chunk_tokens
        objective = losses_BC.mean(dim=1).masked_fill(~is_trained_B, 0.0).sum()
        (gradient_BN,) = torch.autograd.grad(objective, values_BN)
        step = torch.full((), 1.0 + chunk_start // chunk_tokens, device=self.device)
        self.adapters.step(rows, gradient_BN, is_trained_B, step)

    def chunk_losses(self, values_BN: Tensor, ids_BW: Tensor, targets_BC: Tensor, places_C: Tensor) -> Tensor:
        """Nats (B, C) of the targets at some places of windows that hold one document each."""
        lora = self.adapters.lora(values_BN)
        x_BWD = self.model.stream(ids_BW, True, False, lora)
        return self.model.parts.losses(x_BWD.index_select(1, places_C), targets_BC, "none", lora.head)


def train_on_documents(scorer: Scorer, documents: Sequence[Document], config: LoraAdaptConfig) -> None:
    """One pass of SGD over documents that have been scored, in rows of seq_len that no document is seen across.

    Source: openai/parameter-golf PR 1610.
    """
    device, length = scorer.environment.device, scorer.seq_len
    positions = torch.cat([torch.arange(start, start + count, device=device) for start, count in documents])
    num_rows, full_chunk = len(positions) // length, max(1, PHASE_CHUNK_TOKENS // length)
    # Few tokens are one short chunk; of more, the last short chunk is left out.
    chunk_rows = min(full_chunk, max(1, num_rows))
    trainer = WeightTrainer(scorer, PHASE_MOMENTUM, document_mask=True, step_rows=full_chunk)
    num_chunks = num_rows // chunk_rows
    for chunk in range(num_chunks):
        first, count = chunk * chunk_rows * length, chunk_rows * length
        positions_RL = positions[first : first + count].view(chunk_rows, length)
        rate = config.phase_lr * cosine_rate(chunk, num_chunks)
        trainer.step(scorer.tokens_T[positions_RL], scorer.tokens_T[positions_RL + 1], rate)


def score_with_lora(scorer: Scorer, config: LoraAdaptConfig) -> Record:
    """Every token of the stream, scored with additions to the model that its document's earlier chunks trained.

    With phases, the weights too are trained, after each group of documents on all documents scored so far. The model's
    weights are the same afterwards as before.

    Source: openai/parameter-golf PR 77, PR 1530, PR 1610, PR 1767.
    """
    record = scorer.new_record()
    scored: list[Document] = []
    with restored_weights(scorer.model), scoring(scorer.model):
        document_scorer = DocumentScorer(scorer, config, record)
        for group in filter(None, groups_of(document_scorer.documents, config)):
            if scored:
                train_on_documents(scorer, scored, config)
            scorer.model.requires_grad_(False)
            document_scorer.add_group(group)
            scored += group
    return record
