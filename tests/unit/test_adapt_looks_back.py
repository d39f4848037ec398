"""No score looks ahead: what comes later changes nothing that was recorded, not one bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_streams import (
    FORMS,
    LORA,
    VOCAB,
    lora_scorer,
    random_tokens,
    sgd_scorer,
)
from torch import Tensor

from trainer.adapt import final_record
from trainer.adapt_lora import Document, documents_by_length, groups_of
from trainer.eval_config import LoraAdaptConfig
from trainer.layers import BOS_ID


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 66), st.booleans(), st.integers(0, 10**6))
def test_sgd_scores_of_the_past_do_not_depend_on_the_future(position: int, is_one: bool, seed: int) -> None:
    """Other tokens after a position, all of them or its own target alone, change no score before it: not one bit."""
    tokens = random_tokens(70, seed)
    changed = tokens.clone()
    end = position + 2 if is_one else 70
    changed[position + 1 : end] = (tokens[position + 1 : end] + 1) % VOCAB
    first, second = (final_record(sgd_scorer(stream)).losses_P for stream in (tokens, changed))
    assert torch.equal(first[:position], second[:position])
    assert not torch.equal(first[position:], second[position:])


def test_sgd_fixes_a_normalised_distribution_before_it_looks_at_the_token() -> None:
    """The probabilities of all values a token could have, each scored in a stream that has it, sum to 1."""
    tokens, position = random_tokens(50, 3), 37
    total = torch.zeros(())
    for value in range(VOCAB):
        tokens[position + 1] = value
        total += (-final_record(sgd_scorer(tokens)).losses_P[position]).exp()
    assert float(total) == pytest.approx(1.0, rel=1e-4)


def scoring_order(tokens: Tensor, config: LoraAdaptConfig) -> dict[int, tuple[int, int, int, Document]]:
    """Of each position: group, batch, slot in the batch, and document."""
    places: dict[int, tuple[int, int, int, Document]] = {}
    for group_index, group in enumerate(groups_of(documents_by_length(tokens), config)):
        for index, document in enumerate(group):
            batch, slot = divmod(index, config.batch_documents)
            span = range(document.start, document.start + document.length)
            places.update(dict.fromkeys(span, (group_index, batch, slot, document)))
    return places


def may_depend(tokens: Tensor, config: LoraAdaptConfig, token: int) -> set[int]:
    """Positions whose score may depend on a token.

    Its own as a target and later ones of its document; what is scored after the weights were trained on it; and where A
    carries over, later documents of its slot.
    """
    places = scoring_order(tokens, config)
    group, batch, slot, document = places[token - 1]
    allowed: set[int] = set()
    for position, (other_group, other_batch, other_slot, other) in places.items():
        is_later_here = other == document and position >= token - 1
        inherits = config.keeps_a and other_group == group and other_slot == slot and other_batch > batch
        if is_later_here or inherits or other_group > group:
            allowed.add(position)
    return allowed


@pytest.mark.parametrize("form", FORMS)
def test_lora_scores_do_not_depend_on_what_comes_later_in_scoring_order(form: str) -> None:
    for seed in range(6):
        tokens = random_tokens(80, seed, bos_every=9)
        generator = torch.Generator().manual_seed(seed)
        inside = [token for token in range(1, 80) if tokens[token] != BOS_ID]
        pick = int(torch.randint(len(inside), (), generator=generator))
        changed_tokens = inside[pick : pick + 1] if seed % 2 else inside[pick:]
        changed = tokens.clone()
        for token in changed_tokens:
            changed[token] = 2 + (tokens[token] - 1) % (VOCAB - 2)
        scorers = [lora_scorer(stream, FORMS[form]) for stream in (tokens, changed)]
        first, second = (final_record(scorer).losses_P for scorer in scorers)
        allowed = set[int]().union(*(may_depend(tokens, FORMS[form], token) for token in changed_tokens))
        moved = set((first != second).nonzero().flatten().tolist())
        assert moved <= allowed
        assert changed_tokens[0] - 1 in moved


def test_a_documents_last_target_is_scored_with_what_its_earlier_chunks_taught() -> None:
    """The order above is no pretence: a phase and a kept A do change what is scored after them."""
    tokens = random_tokens(80, 0, bos_every=9)
    plain = final_record(lora_scorer(tokens, LORA)).losses_P
    for form in ("keeps_a", "phases_and_keeps_a"):
        assert not torch.equal(final_record(lora_scorer(tokens, FORMS[form])).losses_P, plain)


def test_the_last_token_of_a_document_may_be_any_but_only_its_own_score_moves() -> None:
    tokens = random_tokens(60, 4, bos_every=9)
    tokens[-1] = 2
    changed = tokens.clone()
    changed[-1] = 7
    first, second = (final_record(lora_scorer(stream)).losses_P for stream in (tokens, changed))
    assert (first != second).nonzero().flatten().tolist() == [58]
