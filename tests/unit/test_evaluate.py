"""Scoring against slow loops written from the definitions."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.environment import Environment, open_environment
from trainer.errors import DataError
from trainer.evaluate import Scorer
from trainer.model import Gpt, new_model
from trainer.model_config import ModelConfig
from trainer.tokenizer import TokenBytes

VOCAB = 24
TABLE = TokenBytes(
    base_V=torch.arange(VOCAB, dtype=torch.int16) % 5,
    lead_V=torch.arange(VOCAB) % 3 == 0,
    boundary_V=torch.arange(VOCAB) < 4,
)


def environment_at(path: Path) -> Environment:
    return open_environment({"DATA_PATH": str(path), "TOKENIZER_PATH": str(path)})


ENVIRONMENT = environment_at(Path(__file__).parent)


def model_for() -> Gpt:
    config = ModelConfig(vocab_size=VOCAB, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1, embed_init_std=1.0)
    return new_model(config, torch.float32, 0)


def slow_sliding_score(model: Gpt, tokens: torch.Tensor, length: int, stride: int) -> tuple[float, int, int]:
    """Each target once: by the first window that reaches it as one of its scored positions."""
    positions = len(tokens) - 1
    nats, num_tokens, num_bytes = 0.0, 0, 0
    for start in range(0, positions, stride):
        if start > 0 and start + length - stride >= positions:
            break
        end = min(start + length, positions)
        first = 0 if start == 0 else length - stride
        losses = model.token_losses(tokens[None, start:end], tokens[None, start + 1 : end + 1], end - start, False)[0]
        for offset in range(first, end - start):
            previous, target = int(tokens[start + offset]), int(tokens[start + offset + 1])
            nats += float(losses[offset])
            num_tokens += 1
            num_bytes += int(TABLE.base_V[target])
            num_bytes += int(bool(TABLE.lead_V[target]) and not bool(TABLE.boundary_V[previous]))
    return nats, num_tokens, num_bytes


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 32), st.data(), st.integers(0, 10**6))
def test_sliding_score_equals_the_slow_loop_and_scores_each_token_once(
    length: int, data: st.DataObject, seed: int
) -> None:
    stride = data.draw(st.integers(1, length))
    total = data.draw(st.integers(length + 1, 6 * length))
    tokens = torch.randint(VOCAB, (total,), generator=torch.Generator().manual_seed(seed))
    model = model_for()
    with torch.no_grad():
        nats, num_tokens, num_bytes = slow_sliding_score(model, tokens, length, stride)
    score = Scorer(model, tokens, TABLE, length, ENVIRONMENT).sliding(stride)
    assert (score.num_tokens, score.num_bytes) == (num_tokens, num_bytes) == (total - 1, num_bytes)
    assert score.val_loss == pytest.approx(nats / num_tokens, rel=1e-5)
    assert score.val_bpb == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)


def test_non_overlapping_score_equals_whole_rows_and_drops_the_tail() -> None:
    tokens = torch.randint(VOCAB, (3 * 10 + 6,), generator=torch.Generator().manual_seed(0))
    model = model_for()
    score = Scorer(model, tokens, TABLE, 10, ENVIRONMENT).non_overlapping()
    with torch.no_grad():
        losses = model.token_losses(tokens[:30].view(3, 10), tokens[1:31].view(3, 10), 10, False)
    assert score.num_tokens == 30
    assert score.num_bytes == int(TABLE.target_bytes(tokens[:30], tokens[1:31]).sum())
    assert score.val_loss == pytest.approx(float(losses.double().mean()), rel=1e-6)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_share_the_windows_without_gap_or_overlap(ranks: int) -> None:
    scorer = Scorer(model_for(), torch.zeros(200, dtype=torch.int64), TABLE, 8, ENVIRONMENT)
    shared: list[int] = []
    for rank in range(ranks):
        scorer.environment = dataclasses.replace(ENVIRONMENT, rank=rank, world_size=ranks)
        shared += scorer.share(range(3, 100, 5))
    assert shared == list(range(3, 100, 5))


def test_more_context_scores_better_than_less_only_through_the_model() -> None:
    """A stride of the whole window is the non-overlapping score of the stream, tail included."""
    tokens = torch.randint(VOCAB, (41,), generator=torch.Generator().manual_seed(0))
    scorer = Scorer(model_for(), tokens, TABLE, 10, ENVIRONMENT)
    assert scorer.sliding(10).val_loss == pytest.approx(scorer.non_overlapping().val_loss, rel=1e-6)


def test_a_stream_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(DataError, match="needs over 16 tokens for one window, got 16"):
        Scorer(model_for(), torch.zeros(16, dtype=torch.int64), TABLE, 16, ENVIRONMENT)
