"""Attention: positions, documents, what is taken out of heads and how they are gated."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_models import EVERY_MODEL, TINY, random_ids, randomized
from torch import Tensor

from trainer.attention import head_gate, without_own_value
from trainer.documents import TOKENS_PER_DOCUMENT, Documents, attend, attend_inside, bounds_of, documents_of, mask_of
from trainer.layers import BOS_ID
from trainer.model import new_model
from trainer.model_config import GateConfig, GateForm, ModelConfig, XsaForm
from trainer.rotary import Rotation, rotary_base, rotate, rotation_of

CPU = torch.device("cpu")
ONE_HEAD = ModelConfig(model_dim=8, num_heads=1, num_kv_heads=1, rope_base=100.0)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_rotary_keeps_lengths_and_depends_on_distance_only() -> None:
    rotation = rotation_of(32, ONE_HEAD, CPU, torch.float32)
    q, k = randn(2, 8)
    queries = rotate(q.expand(1, 32, 1, 8), rotation)[0, :, 0]
    keys = rotate(k.expand(1, 32, 1, 8), rotation)[0, :, 0]
    torch.testing.assert_close(queries.norm(dim=1), q.norm().expand(32))
    torch.testing.assert_close(queries[9] @ keys[4], queries[25] @ keys[20], atol=1e-5, rtol=1e-4)


def test_partial_rotary_turns_the_first_channels_as_a_narrow_head_and_leaves_the_rest() -> None:
    x = randn(1, 12, 2, 8)
    y = rotate(x, rotation_of(12, replace(ONE_HEAD, rope_dims=4), CPU, torch.float32))
    narrow = rotation_of(12, replace(ONE_HEAD, model_dim=4), CPU, torch.float32)
    assert torch.equal(y[..., 4:], x[..., 4:])
    assert torch.equal(y[..., :4], rotate(x[..., :4], narrow))


def test_ntk_stretches_the_slowest_angle_by_the_length_and_leaves_the_fastest() -> None:
    config = replace(ONE_HEAD, model_dim=64, rope_dims=16, rope_ntk_length=1024)
    assert rotary_base(1024, config) == 100.0
    assert rotary_base(2048, config) == pytest.approx(100.0 * 2 ** (16 / 14))
    short, long = (rotation_of(length, config, CPU, torch.float32) for length in (1024, 4096))

    def angles(rotation: Rotation) -> Tensor:
        return torch.atan2(rotation.sin_TF[1], rotation.cos_TF[1])

    torch.testing.assert_close(angles(long)[0], angles(short)[0])
    torch.testing.assert_close(angles(long)[-1] * 4, angles(short)[-1])


def test_exclusive_attention_leaves_nothing_along_the_tokens_own_value() -> None:
    y_BTHE, v_BTKE = randn(2, 5, 6, 8), randn(2, 5, 3, 8)
    out_BTHE = without_own_value(y_BTHE, v_BTKE, XsaForm.PROJECTION)
    for head in range(6):
        own = v_BTKE[:, :, head // 2]
        assert (out_BTHE[:, :, head] * own).sum(-1).abs().max() < 1e-5
        # What it takes out is along that value and nothing else.
        taken = y_BTHE[:, :, head] - out_BTHE[:, :, head]
        torch.testing.assert_close(taken.norm(dim=-1) * own.norm(dim=-1), (taken * own).sum(-1).abs())


def test_the_mean_share_is_the_tokens_own_value_over_the_sequences_length() -> None:
    y_BTHE, v_BTKE = randn(2, 5, 6, 8), randn(2, 5, 3, 8)
    expected = y_BTHE - v_BTKE.repeat_interleave(2, dim=2) / 5
    torch.testing.assert_close(without_own_value(y_BTHE, v_BTKE, XsaForm.MEAN_SHARE), expected)


@pytest.mark.parametrize(("form", "start"), [(GateForm.NARROW, 1.0), (GateForm.SPARSE, 0.5), (GateForm.DENSE, 0.5)])
def test_gates_start_at_identity_or_at_half(form: GateForm, start: float) -> None:
    model = new_model(replace(TINY, gate=GateConfig(form=form)), torch.float32, 0)
    x_BTD = randn(2, 5, 32)
    gate_BTH = head_gate(x_BTD, model.get_parameter("blocks.0.attn.gate"), GateConfig(form=form))
    tolerance = 0.05 if form is GateForm.DENSE else 0.0
    torch.testing.assert_close(gate_BTH, torch.full((2, 5, 4), start), atol=tolerance, rtol=0)
    assert gate_BTH.unique().numel() == (40 if form is GateForm.DENSE else 1)


def test_gates_equal_their_formulas() -> None:
    x, narrow, dense = randn(32), randn(4, 12), randn(4, 32)
    for form, weight, expected in (
        (GateForm.NARROW, narrow, [2 / (1 + math.exp(-float(row @ x[:12]))) for row in narrow]),
        (GateForm.SPARSE, narrow, [1 / (1 + math.exp(-0.25 * float(row @ x[:12]))) for row in narrow]),
        (GateForm.DENSE, dense, [1 / (1 + math.exp(-float(row @ x))) for row in dense]),
    ):
        gate = head_gate(x.view(1, 1, 32), weight, GateConfig(form=form, scale=0.25))
        torch.testing.assert_close(gate.flatten(), torch.tensor(expected))


def test_the_mask_lets_a_query_see_its_document_up_to_itself() -> None:
    ids = torch.tensor([[5, 5, BOS_ID, 5, BOS_ID, BOS_ID]])
    documents = [0, 0, 1, 1, 2, 3]
    expected = [[key <= query and documents[key] == documents[query] for key in range(6)] for query in range(6)]
    assert torch.equal(mask_of(ids), torch.tensor(expected).view(1, 1, 6, 6))


def test_bounds_are_those_of_documents_and_rows_then_empty_documents() -> None:
    ids = random_ids(2, 640)
    ids[0, 0] = ids[0, 7] = ids[1, 100] = ids[1, 639] = BOS_ID
    bounds = bounds_of(ids)
    assert bounds.dtype is torch.int32
    assert bounds.tolist() == [0, 7, 640, 740, 1279, *[1280] * (2 + 1280 // TOKENS_PER_DOCUMENT + 1 - 5)]


def test_bounds_beyond_their_number_are_dropped_but_never_those_of_rows() -> None:
    ids = torch.full((2, TOKENS_PER_DOCUMENT), BOS_ID)
    assert bounds_of(ids).tolist() == [0, 1, 2, TOKENS_PER_DOCUMENT, 2 * TOKENS_PER_DOCUMENT]


def test_bounds_and_mask_say_the_same() -> None:
    ids = random_ids(3, 1024)
    ids[torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.002] = BOS_ID
    bounds = bounds_of(ids)
    document_BT = torch.searchsorted(bounds, torch.arange(ids.numel(), dtype=torch.int32), right=True).view(3, 1024)
    is_same = document_BT[:, :, None] == document_BT[:, None, :]
    assert torch.equal(is_same.tril()[:, None], mask_of(ids))


def test_the_kernel_over_bounds_takes_these_arguments_and_has_gradients() -> None:
    """Shapes alone, without a device: tests/gpu compares its numbers with the mask's."""
    ids = torch.empty(2, 128, dtype=torch.int64, device="meta")
    shapes = ((2, 128, 8, 64), (2, 128, 4, 64), (2, 128, 4, 64))
    q, k, v = (torch.empty(shape, dtype=torch.bfloat16, device="meta", requires_grad=True) for shape in shapes)
    y = attend_inside(q, k, v, bounds_of(ids), 0.1)
    y.sum().backward()
    assert [y.shape] + [x.grad.shape for x in (q, k, v) if x.grad is not None] == [q.shape, q.shape, k.shape, v.shape]


@pytest.mark.parametrize("name", [name for name in EVERY_MODEL if name not in {"xsa_mean_share", "ntk", "rest"}])
def test_a_document_scores_as_if_it_were_alone(name: str) -> None:
    """Save by the two techniques that look at the row's length: the mean share and NTK scaling."""
    model, ids = randomized(EVERY_MODEL[name]).eval(), random_ids(1, 24)
    ids[0, 0] = ids[0, 9] = ids[0, 17] = BOS_ID
    together = model(ids, True, True)
    alone = [model(ids[:, first:end], True, False) for first, end in ((0, 9), (9, 17), (17, 24))]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=2e-5, rtol=1e-4)


def test_without_the_mask_documents_see_each_other() -> None:
    model, ids = randomized(TINY), random_ids(1, 24)
    ids[0, 9] = BOS_ID
    assert not torch.allclose(model(ids, True, True)[:, 9:], model(ids, True, False)[:, 9:])
    assert torch.equal(model(ids, True, True)[:, 0], model(ids, True, False)[:, 0])


def test_dropout_scales_what_it_keeps_of_the_attention() -> None:
    q, k, v = randn(1, 6, 2, 8), randn(1, 6, 1, 8), torch.eye(8)[:6].view(1, 6, 1, 8)
    documents = documents_of(random_ids(1, 6), 8, torch.float32)
    torch.manual_seed(0)
    kept, dropped = attend(q, k, v, Documents(), 0.0), attend(q, k, v, documents, 0.5)
    is_kept = dropped != 0
    torch.testing.assert_close(dropped[is_kept], 2 * kept[is_kept])
    assert 0.2 < float(is_kept.sum() / (kept != 0).sum()) < 0.8
