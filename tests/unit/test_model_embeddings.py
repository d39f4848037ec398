"""What enters the stream beside the token embedding, and where it stops at BOS."""

from dataclasses import replace

import pytest
import torch
from tiny_models import TINY, random_ids, randomized, recorded
from torch.nn import functional as F

from trainer.embeddings import Bigram, Smear, ValueEmbed, bigram_rows
from trainer.layers import BOS_ID, rms_norm
from trainer.model_config import BigramConfig, ModelConfig, SmearConfig, SmearForm, ValueEmbedConfig

BIGRAM = BigramConfig(buckets=97, dim=8)
VALUES = ValueEmbedConfig(dim=8, last_layers=2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_bigram_rows_hash_a_token_with_the_one_before() -> None:
    ids = torch.tensor([[9, 60_000, 7, BOS_ID, 12], [BOS_ID, 3, 4, 5, 6]])

    def int32(value: int) -> int:
        return (value + 2**31) % 2**32 - 2**31

    def row(current: int, before: int) -> int:
        return (int32(36_313 * current) ^ int32(27_191 * before)) % 2047

    last = 2047
    expected = [
        [last, row(60_000, 9), row(7, 60_000), last, row(12, BOS_ID)],
        [last, row(3, BOS_ID), row(4, 3), row(5, 4), row(6, 5)],
    ]
    assert bigram_rows(ids, 2048).tolist() == expected


def test_bigram_adds_nothing_at_first_and_its_scaled_projection_later() -> None:
    bigram, ids = Bigram(TINY, BIGRAM, generator()), random_ids(2, 6)
    assert not bigram(ids, torch.float32).any()
    with torch.no_grad():
        bigram.table.normal_(generator=generator())
    expected = 0.05 * bigram.table[bigram_rows(ids, 97)] @ bigram.proj.weight.T
    torch.testing.assert_close(bigram(ids, torch.float32), expected)


def test_smear_mixes_in_the_token_before_by_its_gate() -> None:
    x, ids = torch.randn(1, 5, 32, generator=generator()), random_ids(1, 5)
    half, little = (Smear(TINY, SmearConfig(gate_init=gate)) for gate in (0.0, -3.0))
    torch.testing.assert_close(half(x, ids)[0, 1:], (x[0, 1:] + x[0, :-1]) / 2)
    share = torch.sigmoid(torch.tensor(-3.0))
    torch.testing.assert_close(little(x, ids)[0, 1:], (1 - share) * x[0, 1:] + share * x[0, :-1])
    torch.testing.assert_close(half(x, ids)[0, 0], x[0, 0] / 2)


def test_residual_smear_is_nothing_at_first_and_its_formula_later() -> None:
    smear = Smear(TINY, SmearConfig(form=SmearForm.RESIDUAL))
    x, ids = torch.randn(1, 5, 32, generator=generator()), random_ids(1, 5)
    assert torch.equal(smear(x, ids), x)
    assert smear.scale is not None
    with torch.no_grad():
        smear.scale.fill_(0.7)
        smear.gate.normal_(generator=generator())
    for position in range(1, 5):
        share = 0.7 * torch.sigmoid(smear.gate @ x[0, position, :12])
        torch.testing.assert_close(smear(x, ids)[0, position], x[0, position] + share * x[0, position - 1])
    torch.testing.assert_close(smear(x, ids)[0, 0], x[0, 0])


@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, smear=SmearConfig()),
        replace(TINY, smear=SmearConfig(form=SmearForm.RESIDUAL)),
        replace(TINY, bigram=BIGRAM),
    ],
    ids=["convex", "residual", "bigram"],
)
def test_no_embedding_sees_the_document_before(config: ModelConfig) -> None:
    model, ids = randomized(config), random_ids(2, 12)
    ids[:, 5] = BOS_ID
    changed = ids.clone()
    changed[:, :5] = (ids[:, :5] + 7) % 64
    before, after = model.embed(ids), model.embed(changed)
    assert torch.equal(after[:, 5:], before[:, 5:])
    assert not torch.allclose(after[:, :5], before[:, :5])
    # The token after BOS does see it.
    changed = ids.clone()
    changed[:, 6] = 63 - ids[:, 6]
    assert not torch.allclose(model.embed(changed)[:, 7], before[:, 7])


def test_the_order_is_pairs_then_residual_smear_then_norm_then_convex_smear() -> None:
    ids = random_ids(1, 6)
    for form in SmearForm:
        model = randomized(replace(TINY, bigram=BIGRAM, smear=SmearConfig(form=form)))
        assert model.bigram is not None
        assert model.smear is not None
        x = F.embedding(ids, model.tok_emb) + model.bigram(ids, torch.float32)
        is_convex = form is SmearForm.CONVEX
        expected = model.smear(rms_norm(x), ids) if is_convex else rms_norm(model.smear(x, ids))
        torch.testing.assert_close(model.embed(ids), expected)


def test_value_embeddings_reach_the_last_layers_scaled_and_the_others_not_at_all() -> None:
    embed, ids = ValueEmbed(TINY, VALUES, generator()), random_ids(1, 6)
    assert not any(value.any() for value in embed(ids, torch.float32) if value is not None)
    with torch.no_grad():
        embed.proj.weight.normal_(generator=generator())
        embed.layer_scales.copy_(torch.tensor([1.0, 3.0]))
    values = embed(ids, torch.float32)
    expected = 0.1 * embed.table[ids] @ embed.proj.weight.T
    assert [value is None for value in values] == [True, True, True, False, False]
    for value, scale in zip(values[-2:], (1.0, 3.0), strict=True):
        assert value is not None
        torch.testing.assert_close(value, scale * expected)


def test_value_embeddings_of_more_layers_than_there_are_reach_all() -> None:
    embed = ValueEmbed(TINY, replace(VALUES, last_layers=11), generator())
    assert embed.layer_scales.shape == (5,)
    assert None not in embed(random_ids(1, 3), torch.float32)


def test_a_value_embedding_is_added_to_the_values_that_attention_means_over() -> None:
    """In a row of one token attention is that token's value."""
    model, ids = randomized(replace(TINY, value_embed=VALUES)), random_ids(1, 1)
    attention = model.get_submodule("blocks.4.attn")
    assert model.value_embed is not None
    own, joined = recorded(attention.get_submodule("c_v")), recorded(attention.get_submodule("proj"))
    model(ids, False, False)
    value = model.value_embed(ids, torch.float32)[4]
    assert value is not None
    expected = (own[0][1] + value).view(2, 1, 8).expand(2, 2, 8).flatten()
    torch.testing.assert_close(joined[0][0].flatten(), expected)
