"""The way of the stream: loops, skips, lanes, blocks in parallel, dropout. Each against a loop written out by hand."""

from dataclasses import replace

import pytest
import torch
from tiny_models import APRIL, LOOP, TINY, random_ids, randomized
from torch import Tensor

from trainer.block import Block, Pass, with_skip
from trainer.layers import rms_norm
from trainer.mlp import SquaredMlp, SwigluMlp
from trainer.model import Gpt
from trainer.model_config import MlpKind, ModelConfig, ParallelConfig, ParallelForm

IDS = random_ids(2, 8)


def parts_of(model: Gpt, is_looped: bool) -> tuple[Tensor, list[Block], list[Pass]]:
    """The embedding, and block and arguments of each pass through a layer."""
    order = model.config.layer_order(is_looped)
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    x0 = model.embed(IDS)
    return x0, [blocks[layer] for layer in order], model.passes(IDS, x0, order, False, None)


@pytest.mark.parametrize("scales_skips", [False, True])
def test_a_loop_is_its_layers_written_out(scales_skips: bool) -> None:
    """Layers 0 1 2 1 2 | 1 2 3 4, looked at as one deep U-Net with skips by place, not by layer."""
    model = randomized(replace(TINY, num_layers=4, loop=replace(LOOP, scales_skips=scales_skips)))
    assert model.config.layer_order(True) == (0, 1, 2, 1, 2, 1, 2, 3)
    assert model.skip_weights.shape == (4, 32)
    x, blocks, given = parts_of(model, True)
    w = model.skip_weights * (3**-0.5 if scales_skips else 1.0)
    pushed: list[Tensor] = []
    for place in range(4):
        x = blocks[place](x, given[place])
        pushed.append(x)
    x = blocks[4](x + w[0] * pushed[3], given[4])
    x = blocks[5](x + w[1] * pushed[2], given[5])
    x = blocks[6](x + w[2] * pushed[1], given[6])
    x = blocks[7](x + w[3] * pushed[0], given[7])
    torch.testing.assert_close(model(IDS, True, False), rms_norm(x))


def test_with_the_loop_off_the_model_is_the_plain_one_with_the_first_skips() -> None:
    looped, plain = randomized(replace(TINY, loop=LOOP)), randomized(TINY)
    weights = looped.state_dict()
    weights["skip_weights"] = weights["skip_weights"][:2]
    plain.load_state_dict(weights)
    assert torch.equal(looped(IDS, False, False), plain(IDS, False, False))
    assert not torch.allclose(looped(IDS, True, False), plain(IDS, True, False))


def test_scoring_has_the_loop_on() -> None:
    model = randomized(replace(TINY, loop=LOOP))
    torch.testing.assert_close(model.token_losses(IDS, IDS, 8, False).mean(), model.loss(IDS, IDS, True, False))


def test_a_skip_gate_moves_from_the_skip_to_the_stream() -> None:
    model = randomized(replace(TINY, skip_gates=True))
    assert model.skip_gates is not None
    x, skip = torch.randn(2, 2, 8, 32, generator=torch.Generator().manual_seed(0))
    gate = torch.sigmoid(model.skip_gates[1])
    expected = gate * x + (1 - gate) * model.skip_weights[1] * skip
    torch.testing.assert_close(with_skip(x, model.skip(skip, 1, False)), expected)


def test_parallel_blocks_read_and_write_one_stream() -> None:
    model = randomized(replace(TINY, parallel=ParallelConfig(last_layers=2)))
    x, blocks, given = parts_of(model, False)
    block, place = blocks[4], given[4]
    mixed = block.resid_mix[0] * x + block.resid_mix[1] * x
    normal = rms_norm(mixed)
    expected = (
        mixed
        + block.attn_scale * block.attn(normal, place.rotation, place.documents, None, place.lora)
        + block.mlp_scale * block.mlp(normal)
    )
    torch.testing.assert_close(block(x, place), expected)
    assert [block.is_parallel for block in blocks] == [False, False, False, True, True]


@pytest.mark.parametrize("last_layers", [2, 4, 5, 11])
def test_two_lanes_are_their_layers_written_out(last_layers: int) -> None:
    model = randomized(replace(TINY, parallel=ParallelConfig(form=ParallelForm.TWO_LANE, last_layers=last_layers)))
    assert model.lane_post is not None
    assert model.lane_resid is not None
    x0, blocks, given = parts_of(model, False)
    first = max(0, 5 - last_layers)
    lane0 = x0
    lane1: Tensor = torch.full_like(x0, torch.nan)
    pushed: list[Tensor] = []
    for layer, (block, place) in enumerate(zip(blocks, given, strict=True)):
        if layer == first:
            lane1 = lane0
        if layer in {2, 3}:
            lane0 = lane0 + model.skip_weights[layer - 2] * pushed[3 - layer]
        if layer < first:
            lane0 = block(lane0, place)
        else:
            post, resid = model.lane_post[layer], model.lane_resid[layer]
            read = rms_norm(block.resid_mix[0] * lane0 + block.resid_mix[1] * x0)
            attended = block.attn_scale * block.attn(read, place.rotation, place.documents, None, place.lora)
            fed = block.mlp_scale * block.mlp(rms_norm(lane1))
            lane0 = resid[0] * lane0 + post[0][0] * attended + post[1][0] * fed
            lane1 = resid[1] * lane1 + post[0][1] * attended + post[1][1] * fed
        if layer < 2:
            pushed.append(lane0)
    torch.testing.assert_close(model(IDS, False, False), rms_norm((lane0 + lane1) / 2))


def test_lane_parameters_start_as_published_and_are_there_for_all_layers() -> None:
    model = Gpt(APRIL, torch.float32, torch.Generator().manual_seed(0))
    assert model.lane_post is not None
    assert model.lane_resid is not None
    assert torch.equal(model.lane_post, torch.ones(5, 2, 2))
    assert torch.equal(model.lane_resid, torch.full((5, 2), 1.1))


def test_norms_shrink_with_the_layer_and_not_with_the_pass() -> None:
    model = randomized(replace(TINY, norm_scaled_by_depth=True, loop=LOOP))
    x, blocks, _ = parts_of(model, True)
    assert model.config.layer_order(True) == (0, 1, 2, 1, 2, 1, 2, 3, 4)
    for block, layer in zip(blocks, model.config.layer_order(True), strict=True):
        torch.testing.assert_close(block.normalized(x), rms_norm(x) / (layer + 1) ** 0.5)


@pytest.mark.parametrize("kind", MlpKind)
def test_mlps_equal_their_formulas(kind: MlpKind) -> None:
    model = randomized(replace(TINY, mlp=kind))
    mlp = model.get_submodule("blocks.0.mlp")
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    if isinstance(mlp, SwigluMlp):
        gate, up, down = mlp.gate.weight, mlp.up.weight, mlp.proj.weight
        raw = x @ gate.T
        expected = (raw / (1 + (-raw).exp()) * (x @ up.T)) @ down.T
    else:
        assert isinstance(mlp, SquaredMlp)
        raw = x @ mlp.fc.weight.T
        slope = 0.5 if kind is MlpKind.LEAKY_RELU2 else 0.0
        expected = torch.where(raw > 0, raw, slope * raw) ** 2 @ mlp.proj.weight.T
    torch.testing.assert_close(mlp(x), expected)


def test_dropout_acts_in_training_and_not_in_scoring() -> None:
    model, plain = randomized(replace(TINY, dropout=0.2)), randomized(TINY)
    assert not torch.allclose(model.train()(IDS, False, False), model(IDS, False, False))
    assert torch.equal(model.eval()(IDS, False, False), plain(IDS, False, False))


def test_dropout_of_the_mlps_output_scales_what_it_keeps() -> None:
    model = randomized(replace(TINY, dropout=0.25))
    x, blocks, given = parts_of(model, False)
    kept, dropped = blocks[0].eval().fed(x, given[0]), blocks[0].train().fed(x, given[0])
    is_kept = dropped != 0
    torch.testing.assert_close(dropped[is_kept], kept[is_kept] / 0.75)
    assert float(is_kept.float().mean()) == pytest.approx(0.75, abs=0.1)


def test_lanes_may_follow_a_loop_and_start_at_the_first_of_their_layers() -> None:
    model = randomized(APRIL)
    assert model.first_lane_layer == 3
    assert ModelConfig().loop is None
    assert model(IDS, True, True).isfinite().all()
