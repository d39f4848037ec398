"""Scoring against slow loops written from the definitions."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_streams import ENVIRONMENT, TABLE, VOCAB, random_tokens, scorer_of

from trainer.errors import DataError
from trainer.eval_config import EvalConfig
from trainer.evaluate import Record, Scorer
from trainer.layers import BOS_ID
from trainer.model import Gpt


def scorer_for(tokens: torch.Tensor, length: int, stride: int = 1, document_mask: bool = False) -> Scorer:
    return scorer_of(tokens, EvalConfig(seq_len=length, stride=stride, document_mask=document_mask))


def slow_sliding_losses(model: Gpt, tokens: torch.Tensor, length: int, stride: int) -> list[float]:
    """Each target once, in order: by the first window that reaches it as one of its scored positions."""
    positions = len(tokens) - 1
    nats: list[float] = []
    for start in range(0, positions, stride):
        if start > 0 and start + length - stride >= positions:
            break
        end = min(start + length, positions)
        first = 0 if start == 0 else length - stride
        losses = model.token_losses(tokens[None, start:end], tokens[None, start + 1 : end + 1], end - start, False)[0]
        nats += losses[first:].tolist()
    return nats


def slow_bytes(tokens: torch.Tensor) -> int:
    total = 0
    for previous, target in zip(tokens.tolist(), tokens.tolist()[1:], strict=False):
        total += int(TABLE.base_V[target])
        total += int(bool(TABLE.lead_V[target]) and not bool(TABLE.boundary_V[previous]))
    return total


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 32), st.data(), st.integers(0, 10**6))
def test_sliding_score_equals_the_slow_loop_and_scores_each_token_once(
    length: int, data: st.DataObject, seed: int
) -> None:
    stride = data.draw(st.sampled_from([1, length, data.draw(st.integers(1, length))]))
    tokens = random_tokens(data.draw(st.integers(length + 1, 6 * length)), seed)
    scorer = scorer_for(tokens, length, stride)
    with torch.no_grad():
        losses = slow_sliding_losses(scorer.model, tokens, length, stride)
    record = scorer.slide()
    assert record.times_P.tolist() == [1] * (len(tokens) - 1)
    assert record.losses_P.tolist() == pytest.approx(losses, rel=1e-4, abs=1e-5)
    score = scorer.sliding()
    assert (score.num_tokens, score.num_bytes) == (len(tokens) - 1, slow_bytes(tokens))
    assert score.val_loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert score.val_bpb == pytest.approx(sum(losses) / math.log(2) / slow_bytes(tokens), rel=1e-5)


def documents_alone(model: Gpt, tokens: torch.Tensor) -> list[float]:
    """The losses of a stream where nothing before a document's BOS is seen."""
    starts = sorted({0, *(tokens[:-1] == BOS_ID).nonzero().flatten().tolist()})
    nats: list[float] = []
    for start, end in zip(starts, [*starts[1:], len(tokens) - 1], strict=True):
        nats += model.token_losses(
            tokens[None, start:end], tokens[None, start + 1 : end + 1], end - start, False
        ).tolist()[0]
    return nats


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(8, 60), st.integers(0, 10**6))
def test_with_the_document_mask_a_token_scores_as_its_document_alone(stride: int, total: int, seed: int) -> None:
    tokens = random_tokens(total, seed, bos_every=5)
    scorer = scorer_for(tokens, total - 1, min(stride, total - 1), document_mask=True)
    with torch.no_grad():
        alone = documents_alone(scorer.model, tokens)
    assert scorer.slide().losses_P.tolist() == pytest.approx(alone, rel=1e-4, abs=1e-5)
    assert scorer.non_overlapping().val_loss == pytest.approx(sum(alone) / len(alone), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.integers(20, 100), st.integers(0, 10**6))
def test_sliding_windows_see_no_document_but_the_tokens_own(stride: int, total: int, seed: int) -> None:
    """In windows that cut documents: other tokens before a BOS change nothing after it, bit for bit."""
    tokens = random_tokens(total, seed, bos_every=6)
    tokens[total // 2] = BOS_ID
    changed = tokens.clone()
    changed[: total // 2] = random_tokens(total // 2, seed + 1)
    records = [scorer_for(stream, 12, stride, document_mask=True).slide() for stream in (tokens, changed)]
    first, second = (record.losses_P[total // 2 :] for record in records)
    assert torch.equal(first, second)


def test_non_overlapping_score_equals_whole_rows_and_drops_the_tail() -> None:
    tokens = random_tokens(3 * 10 + 6, 0)
    scorer = scorer_for(tokens, 10)
    score = scorer.non_overlapping()
    with torch.no_grad():
        losses = scorer.model.token_losses(tokens[:30].view(3, 10), tokens[1:31].view(3, 10), 10, False)
    assert score.num_tokens == 30
    assert score.num_bytes == int(TABLE.target_bytes(tokens[:30], tokens[1:31]).sum())
    assert score.val_loss == pytest.approx(float(losses.double().mean()), rel=1e-6)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_share_the_windows_without_gap_or_overlap(ranks: int) -> None:
    scorer = scorer_for(random_tokens(60, 0), 8, 3)
    whole = scorer.slide()
    times = torch.zeros_like(whole.times_P)
    losses = torch.zeros_like(whole.losses_P)
    for rank in range(ranks):
        scorer.environment = dataclasses.replace(ENVIRONMENT, rank=rank, world_size=ranks)
        record = scorer.slide()
        times += record.times_P
        losses += record.losses_P
    assert times.tolist() == [1] * 59
    assert losses.tolist() == pytest.approx(whole.losses_P.tolist(), rel=1e-4, abs=1e-5)


def test_a_stride_of_the_whole_window_is_the_non_overlapping_score() -> None:
    scorer = scorer_for(random_tokens(41, 0), 10, 10)
    assert scorer.sliding().val_loss == pytest.approx(scorer.non_overlapping().val_loss, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 34), st.integers(1, 8), st.integers(0, 10**6), st.booleans())
def test_a_token_scores_the_same_whatever_follows(position: int, stride: int, seed: int, document_mask: bool) -> None:
    tokens = random_tokens(40, seed)
    changed = tokens.clone()
    changed[position + 2 :] = random_tokens(38 - position, seed + 1)
    records = [scorer_for(stream, 8, stride, document_mask).slide() for stream in (tokens, changed)]
    first, second = (record.losses_P[: position + 1] for record in records)
    assert torch.equal(first, second)


def test_the_distribution_is_normalised_and_fixed_before_its_token_is_looked_at() -> None:
    """The probabilities of all values a token could have, each scored in a stream that has it, sum to 1."""
    tokens, position = random_tokens(30, 3), 17
    total = 0.0
    for value in range(VOCAB):
        tokens[position + 1] = value
        total += math.exp(-float(scorer_for(tokens, 8, 2).slide().losses_P[position]))
    assert total == pytest.approx(1.0, rel=1e-5)


def test_a_position_scored_twice_weighs_twice_and_padding_nothing() -> None:
    record = Record(4, torch.device("cpu"))
    positions, losses = torch.tensor([[0, 1], [1, 3]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    record.add(positions, torch.tensor([[True, True], [True, False]]), losses)
    assert record.losses_P.tolist() == [1.0, 5.0, 0.0, 0.0]
    assert record.times_P.tolist() == [1, 2, 0, 0]


def test_a_stream_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(DataError, match="needs over 16 tokens for one window, got 16"):
        scorer_for(torch.zeros(16, dtype=torch.int64), 16)
