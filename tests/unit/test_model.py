"""The model against its published size and against properties that any correct transformer of this kind has."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import APRIL, COMBINED, EVERY_MODEL, TINY, random_ids, randomized
from torch import Tensor, fx

from spaces.recipes import named_recipe
from trainer.environment import prepare_compiler
from trainer.layers import BOS_ID
from trainer.model import Gpt, new_model
from trainer.model_config import ModelConfig

PUBLISHED_PARAMETERS = {
    "naive_baseline": 17_059_912,
    "pr163": 16_864_760,
    "pr340": 18_887_248,
    "pr333": 25_388_121,
    "pr122": 19_941_440,
    "record_162": 22_368_841,
    "record_414": 26_993_756,
    "record_1218": 34_401_371,
    "record_1493": 35_944_536,
    "record_1855": 35_945_671,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED_PARAMETERS.items())
def test_recipes_have_the_published_numbers_of_parameters(name: str, published: int) -> None:
    with torch.device("meta"):
        model = Gpt(named_recipe(name).model, torch.float32, torch.Generator("cpu"))
    assert model.num_parameters == published


def test_the_seed_alone_decides_the_initial_weights() -> None:
    first, same, other = (dict(new_model(TINY, torch.float32, seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["tok_emb"], other["tok_emb"])


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("config", EVERY_MODEL.values(), ids=EVERY_MODEL.keys())
def test_hidden_states_do_not_depend_on_later_tokens(config: ModelConfig, is_masked: bool) -> None:
    model, ids = randomized(config).eval(), random_ids(2, 16)
    ids[0, 4] = BOS_ID
    changed = ids.clone()
    changed[:, 9:] = (changed[:, 9:] + 7) % 64
    before, after = model(ids, True, is_masked), model(changed, True, is_masked)
    torch.testing.assert_close(after[:, :9], before[:, :9])
    assert not torch.allclose(after[:, 9:], before[:, 9:])


def test_scoring_the_last_positions_equals_scoring_all() -> None:
    model = randomized(TINY)
    ids, targets = torch.randint(64, (2, 3, 16), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        model.token_losses(ids, targets, 5, False), model.token_losses(ids, targets, 16, False)[:, -5:]
    )
    torch.testing.assert_close(
        model.loss(ids, targets, False, False), model.token_losses(ids, targets, 16, False).mean()
    )


@pytest.mark.parametrize("config", COMBINED.values(), ids=COMBINED.keys())
def test_compiled_parts_give_what_eager_ones_do(config: ModelConfig) -> None:
    torch.compiler.reset()  # graphs are counted for each function, whatever the model
    prepare_compiler()
    eager, compiled, ids = randomized(config).eval(), randomized(config).eval(), random_ids(2, 16)
    compiled.compile_parts(backend="eager")
    torch.testing.assert_close(compiled.loss(ids, ids, False, False), eager.loss(ids, ids, False, False))
    torch.testing.assert_close(compiled.token_losses(ids, ids, 4, True), eager.token_losses(ids, ids, 4, True))


def test_graphs_do_not_grow_with_depth_or_loops() -> None:
    """A block with and without a skip, the embedding, the head: compiled once for all layers and passes."""
    torch.compiler.reset()
    graphs: list[fx.GraphModule] = []

    def keep(graph: fx.GraphModule, _: Sequence[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    for num_layers in (6, 9):
        model, ids = randomized(replace(APRIL, num_layers=num_layers, parallel=None)), random_ids(2, 16)
        model.compile_parts(backend=keep)
        for is_looped in (False, True):
            model.loss(ids, ids, is_looped, False)
        assert len(graphs) == 4, num_layers
        torch.compiler.reset()
        graphs.clear()


@pytest.mark.parametrize("config", EVERY_MODEL.values(), ids=EVERY_MODEL.keys())
def test_every_parameter_has_a_gradient_after_one_step_from_the_start(config: ModelConfig) -> None:
    """The first gradients are zero behind projections that start at zero; were two in a row zero, it stayed so."""
    model, ids = new_model(config, torch.float32, 0), random_ids(4, 16)
    for _ in range(3):
        model.zero_grad()
        model.loss(ids, ids.roll(-1, 1), True, False).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=0.1)
    for name, parameter in model.named_parameters():
        is_moved = parameter.grad is not None and bool(parameter.grad.any())
        assert is_moved or not parameter.numel(), name


def test_fresh_model_predicts_almost_uniformly() -> None:
    ids = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    loss = new_model(TINY, torch.float32, 0).loss(ids, ids.roll(-1), False, False)
    torch.testing.assert_close(loss, torch.tensor(64.0).log(), atol=0.05, rtol=0)


def test_logits_stay_within_the_softcap() -> None:
    model = randomized(TINY)
    with torch.no_grad():
        logits = model.logits(1000 * torch.randn(4, 32))
    assert logits.abs().max() <= TINY.logit_softcap


def test_forward_equals_a_reference_written_from_the_definition() -> None:
    model = randomized(TINY)
    ids = torch.randint(64, (1, 7), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(ids, False, False)[0], reference_forward(model, ids[0]), atol=1e-5, rtol=1e-4)


def reference_forward(model: Gpt, ids: Tensor) -> Tensor:
    """One token, one head at a time, for a single row."""
    config, weights = model.config, dict(model.named_parameters())

    def norm(x: Tensor) -> Tensor:
        return x / (x.square().mean() + torch.finfo(torch.float32).eps).sqrt()

    def rotate(x: Tensor, position: int) -> Tensor:
        half = config.head_dim // 2
        out = x.clone()
        for pair in range(half):
            angle = torch.tensor(position * config.rope_base ** (-2 * pair / config.head_dim))
            out[pair] = x[pair] * angle.cos() + x[pair + half] * angle.sin()
            out[pair + half] = x[pair + half] * angle.cos() - x[pair] * angle.sin()
        return out

    def attention(prefix: str, stream: list[Tensor]) -> list[Tensor]:
        size, group = config.head_dim, config.num_heads // config.num_kv_heads
        outputs: list[Tensor] = []
        for position in range(len(stream)):
            heads: list[Tensor] = []
            for head in range(config.num_heads):
                rows = slice(head * size, (head + 1) * size)
                kv_rows = slice(head // group * size, (head // group + 1) * size)
                query = rotate(norm((weights[f"{prefix}.c_q.weight"] @ stream[position])[rows]), position)
                query = query * weights[f"{prefix}.q_gain"][head]
                keys = [
                    rotate(norm((weights[f"{prefix}.c_k.weight"] @ stream[past])[kv_rows]), past)
                    for past in range(position + 1)
                ]
                scores = torch.stack([query @ key for key in keys]) / size**0.5
                values = [(weights[f"{prefix}.c_v.weight"] @ stream[past])[kv_rows] for past in range(position + 1)]
                heads.append(scores.softmax(0) @ torch.stack(values))
            outputs.append(weights[f"{prefix}.proj.weight"] @ torch.cat(heads))
        return outputs

    start = [norm(weights["tok_emb"][token]) for token in ids]
    stream, skips, half = start, list[list[Tensor]](), config.num_layers // 2
    for index in range(config.num_layers):
        prefix = f"blocks.{index}"
        if index >= half and skips:
            skip = skips.pop()
            stream = [x + weights["skip_weights"][index - half] * y for x, y in zip(stream, skip, strict=True)]
        mix = weights[f"{prefix}.resid_mix"]
        stream = [mix[0] * x + mix[1] * x0 for x, x0 in zip(stream, start, strict=True)]
        attended = attention(f"{prefix}.attn", [norm(x) for x in stream])
        stream = [x + weights[f"{prefix}.attn_scale"] * y for x, y in zip(stream, attended, strict=True)]
        fed = [
            weights[f"{prefix}.mlp.proj.weight"] @ (weights[f"{prefix}.mlp.fc.weight"] @ norm(x)).clamp_min(0).square()
            for x in stream
        ]
        stream = [x + weights[f"{prefix}.mlp_scale"] * y for x, y in zip(stream, fed, strict=True)]
        if index < half:
            skips.append(stream)
    return torch.stack([norm(x) for x in stream])
