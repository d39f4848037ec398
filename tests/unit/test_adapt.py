"""Adaptation to what has been scored, against slow loops written from the definitions."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_streams import (
    CONFIG,
    ENVIRONMENT,
    FORMS,
    LENGTH,
    LOOPED,
    LORA,
    SGD,
    lora_scorer,
    random_tokens,
    scorer_of,
    sgd_scorer,
)
from slow_adaptation import slow_lora_losses, slow_sgd_losses
from torch import Tensor
from torch.nn import functional as F

from trainer.adapt import final_record, final_score, warm_up_scoring
from trainer.adapt_lora import Document, documents_by_length, groups_of, window_lengths
from trainer.adapt_sgd import WeightTrainer, cosine_rate
from trainer.adapters import Adapters, adapted_maps
from trainer.config import Recipe
from trainer.eval_config import EvalConfig, LoraTargets, SgdAdaptConfig
from trainer.layers import BOS_ID
from trainer.model_config import ModelConfig

# --- SGD ---


@settings(max_examples=15, deadline=None)
@given(st.integers(1, LENGTH), st.integers(LENGTH + 1, 70), st.integers(0, 10**6))
def test_sgd_adaptation_equals_the_slow_loop_and_scores_each_token_once(stride: int, total: int, seed: int) -> None:
    tokens = random_tokens(total, seed)
    record = final_record(sgd_scorer(tokens, stride))
    assert record.times_P.tolist() == [1] * (total - 1)
    assert record.losses_P.tolist() == pytest.approx(slow_sgd_losses(tokens, stride, SGD), rel=2e-3, abs=1e-4)


def test_at_a_vanishing_rate_sgd_adaptation_is_the_sliding_score() -> None:
    scorer = sgd_scorer(random_tokens(75, 0), config=dataclasses.replace(SGD, lr=1e-30))
    assert torch.equal(final_record(scorer).losses_P, scorer.slide().losses_P)


def test_the_rate_falls_from_its_peak_along_a_cosine() -> None:
    assert [cosine_rate(step, 4) for step in range(4)] == pytest.approx([1.0, 0.853553, 0.5, 0.146447], rel=1e-5)


@pytest.mark.parametrize(("rows", "ranks"), [(4, 2), (3, 2), (2, 4)])
def test_gradients_of_ranks_average_to_that_of_all_rows(rows: int, ranks: int) -> None:
    tokens = random_tokens(rows * LENGTH + 1, 0)
    ids, targets = tokens[:-1].view(rows, LENGTH), tokens[1:].view(rows, LENGTH)
    scorer = sgd_scorer(tokens)
    whole = WeightTrainer(scorer, 0.9, False, 2).gradients(ids, targets)
    parts: list[list[Tensor]] = []
    for rank in range(ranks):
        scorer.environment = dataclasses.replace(ENVIRONMENT, rank=rank, world_size=ranks)
        parts.append(WeightTrainer(scorer, 0.9, False, 2).gradients(ids, targets))
    for mine, total in zip(zip(*parts, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.stack(mine).mean(0), total, rtol=1e-4, atol=1e-6)


# --- LoRA ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", [CONFIG, LOOPED], ids=["plain", "looped"])
def test_lora_adaptation_equals_the_slow_loop_and_scores_each_token_once(form: str, model: ModelConfig) -> None:
    for seed in range(3):
        tokens = random_tokens(70 + seed, seed, bos_every=9)
        record = final_record(lora_scorer(tokens, FORMS[form], model))
        assert record.times_P.tolist() == [1] * (len(tokens) - 1)
        slow = slow_lora_losses(tokens, FORMS[form], model)
        assert record.losses_P.tolist() == pytest.approx(slow, rel=5e-3, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([BOS_ID, 2, 3]), min_size=LENGTH + 1, max_size=60))
def test_documents_hold_every_position_once_and_end_with_the_next_bos(stream: list[int]) -> None:
    tokens = torch.tensor(stream)
    documents = documents_by_length(tokens)
    covered = [position for start, length in documents for position in range(start, start + length)]
    assert sorted(covered) == list(range(len(tokens) - 1))
    assert [document.length for document in documents] == sorted((d.length for d in documents), reverse=True)
    for start, length in documents:
        assert BOS_ID not in stream[start + 1 : start + length]
        assert start + length == len(stream) - 1 or stream[start + length] == BOS_ID


def test_phases_divide_the_longest_documents_and_leave_the_rest_for_the_end() -> None:
    documents = [Document(100 * index, 50 - index) for index in range(50)]
    config = dataclasses.replace(LORA, phases=3, prefix_fraction=0.5)
    assert [len(group) for group in groups_of(documents, config)] == [8, 8, 9, 25]
    assert [len(group) for group in groups_of(documents, LORA)] == [50]


def test_ranks_share_the_documents_without_gap_or_overlap() -> None:
    tokens = random_tokens(90, 1, bos_every=7)
    scorer = lora_scorer(tokens)
    whole, times, losses = final_record(scorer).losses_P, torch.zeros(89), torch.zeros(89)
    for rank in range(2):
        scorer.environment = dataclasses.replace(ENVIRONMENT, rank=rank, world_size=2)
        record = final_record(scorer)
        times += record.times_P
        losses += record.losses_P
    assert times.tolist() == [1] * 89
    # Without keeps_a a document's score is its own: no other order or company changes a bit of it.
    assert torch.equal(losses, whole)


def test_a_starts_uniform_by_its_width_and_b_at_zero() -> None:
    config = dataclasses.replace(LORA, targets=LoraTargets.ALL, rank=64)
    adapters = Adapters(ModelConfig(), config, 1, ENVIRONMENT)
    a, b = adapters.start_N[: adapters.num_a], adapters.start_N[adapters.num_a :]
    assert float(a.abs().max()) == pytest.approx(512**-0.5, rel=1e-3)
    assert float(a.std()) == pytest.approx((3 * 512) ** -0.5, rel=1e-2)
    assert not b.any()


def test_targets_decide_which_maps_adapt() -> None:
    assert list(adapted_maps(CONFIG, LoraTargets.QUERY_VALUE_HEAD)) == ["q", "v", "head"]
    assert list(adapted_maps(CONFIG, LoraTargets.ALL)) == ["q", "k", "v", "out", "mlp", "head"]
    layers = Adapters(LOOPED, FORMS["all"], 1, ENVIRONMENT)
    assert len(layers.lora(layers.values_BN).layers) == 4  # three blocks, one of them passed twice


def test_windows_have_few_lengths_and_one_where_numbers_depend_on_it() -> None:
    recipe = Recipe(evaluation=EvalConfig(seq_len=2048))
    assert window_lengths(recipe, 48) == [512, 1024, 2048]
    assert window_lengths(recipe, 600) == [1024, 2048]
    scaled = dataclasses.replace(recipe, model=ModelConfig(rope_ntk_length=1024))
    assert window_lengths(scaled, 48) == [2048]


def test_cross_entropy_of_the_scored_places_is_the_models_own() -> None:
    """Windows filled up on the right score as the model does without the fill."""
    tokens = random_tokens(30, 2)
    config = dataclasses.replace(LORA, chunk_tokens=LENGTH)
    scorer = lora_scorer(tokens.masked_fill(tokens == BOS_ID, 2), config)
    record = final_record(scorer)
    with torch.no_grad():
        logits = scorer.model.logits(scorer.model(scorer.tokens_T[None, :LENGTH], True, False))[0]
    expected = F.cross_entropy(logits, scorer.tokens_T[1 : LENGTH + 1], reduction="none")
    assert record.losses_P[:LENGTH].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


# --- both ---


@pytest.mark.parametrize(
    "evaluation",
    [EvalConfig(seq_len=LENGTH, stride=4, sgd=SGD), EvalConfig(seq_len=LENGTH, stride=4, lora=FORMS["phases"])],
)
def test_the_model_is_as_before_and_scores_the_same_again(evaluation: EvalConfig) -> None:
    scorer = scorer_of(random_tokens(80, 0, bos_every=9), evaluation)
    before = {name: parameter.detach().clone() for name, parameter in scorer.model.named_parameters()}
    first = final_score(scorer)
    for name, parameter in scorer.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad
        assert parameter.grad is None
    assert scorer.model.training
    assert final_score(scorer) == first


@pytest.mark.parametrize(
    "evaluation",
    [
        EvalConfig(seq_len=64, stride=32, sgd=SgdAdaptConfig(lr=0.1, chunk_tokens=64)),
        EvalConfig(seq_len=64, stride=32, lora=dataclasses.replace(FORMS["all"], chunk_tokens=8)),
    ],
)
def test_adaptation_learns_what_a_document_repeats(evaluation: EvalConfig) -> None:
    tokens = torch.tensor([BOS_ID, *([5, 9, 14, 3] * 80)])
    scorer = scorer_of(tokens, evaluation)
    assert final_score(scorer).val_bpb < 0.9 * scorer.sliding().val_bpb


@pytest.mark.parametrize(
    "evaluation",
    [EvalConfig(seq_len=LENGTH, stride=4, sgd=SGD), EvalConfig(seq_len=LENGTH, stride=4, lora=FORMS["phases"])],
)
def test_after_the_warm_up_scoring_brings_no_new_shape(evaluation: EvalConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shape is a graph, and a graph takes long to compile."""
    seen: set[object] = set()

    def compile_nothing(function: Callable[..., object], **options: bool) -> Callable[..., object]:
        def call(*values: object) -> object:
            shapes = [value.shape if isinstance(value, Tensor) else type(value) for value in values]
            seen.add((function.__name__, torch.is_grad_enabled(), *shapes))
            return function(*values)

        return call

    monkeypatch.setattr(torch, "compile", compile_nothing)
    tokens = random_tokens(300, 0, bos_every=20)
    scorer = scorer_of(tokens, evaluation, environment=dataclasses.replace(ENVIRONMENT, is_compiled=True))
    scorer.model.compile_parts()
    before = [parameter.detach().clone() for parameter in scorer.model.parameters()]
    warm_up_scoring(scorer)
    assert all(torch.equal(*pair) for pair in zip(scorer.model.parameters(), before, strict=True))
    warmed = seen.copy()
    assert len(warmed) > 3
    record = final_record(scorer)
    scorer.non_overlapping()
    assert seen == warmed
    # What shapes are filled up with changes no score.
    assert record.times_P.tolist() == [1] * 299
    eager = final_record(scorer_of(tokens, evaluation)).losses_P
    assert record.losses_P.tolist() == pytest.approx(eager.tolist(), rel=5e-3, abs=1e-3)
