"""Fast paths that need no kernel of our own, against the slow forms, in float32 on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from tiny_models import COMBINED, EVERY_MODEL, TINY, random_ids, randomized
from torch import Tensor, fx, nn
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses import FakeTensorMode

from trainer.fast import FastPaths, fast_paths_of
from trainer.gptq import collect_hessians
from trainer.layers import BOS_ID, LayerLora, Lora, LowRank
from trainer.model import Gpt
from trainer.model_config import ModelConfig
from trainer.muon import orthogonalize, triples_of
from trainer.optim import Optimizer
from trainer.train_config import NewtonSchulz, OptimConfig

COPIES = FastPaths(copies=True)


def loss_and_gradients(model: Gpt, document_mask: bool) -> tuple[Tensor, list[Tensor]]:
    ids_BT = random_ids(4, 24)
    ids_BT[1, 5] = BOS_ID
    torch.manual_seed(0)  # of dropout
    loss = model.loss(ids_BT, ids_BT.roll(-1, 1), True, document_mask)
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return loss.detach(), [g for g in gradients if g is not None]


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_copies_of_weights_change_neither_loss_nor_gradients(name: str) -> None:
    model = randomized(EVERY_MODEL[name])
    slow_loss, slow = loss_and_gradients(model, document_mask=True)
    model.take(COPIES)
    fast_loss, fast = loss_and_gradients(model, document_mask=True)
    torch.testing.assert_close(fast_loss, slow_loss, rtol=1e-5, atol=1e-6)
    assert len(fast) == len(slow)
    for got, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)
    model.take(FastPaths())
    assert torch.equal(loss_and_gradients(model, document_mask=True)[0], slow_loss)


def test_copies_in_bf16_are_as_exact_as_casts() -> None:
    """Scale * weight is rounded once, instead of weight, scale and product. Gains and scales sum much noise each."""
    exact = loss_and_gradients(randomized(TINY), document_mask=False)[1]
    errors: list[float] = []
    for fast in (FastPaths(), COPIES):
        model = randomized(TINY)
        model.compute_dtype = model.copies.dtype = torch.bfloat16
        model.take(fast)
        pairs = zip(loss_and_gradients(model, document_mask=False)[1], exact, strict=True)
        errors.append(sum(float((g - e).norm() / e.norm()) for g, e in pairs if e.dim() == 2 and len(e) > 2))
    assert errors[1] < 1.1 * errors[0]


def changed_by_optimizer(model: Gpt, config: OptimConfig) -> None:
    optimizer = Optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1.0, 0.9)


def changed_in_place(model: Gpt, _config: OptimConfig) -> None:
    with torch.no_grad():
        model.get_parameter("blocks.1.attn_scale").mul_(2)


def changed_by_loading(model: Gpt, _config: OptimConfig) -> None:
    model.load_state_dict({name: tensor + 0.1 for name, tensor in model.state_dict().items()})


@pytest.mark.parametrize("change", [changed_by_optimizer, changed_in_place, changed_by_loading])
def test_copies_follow_the_weights(change: object) -> None:
    assert callable(change)
    model = randomized(TINY)
    model.take(COPIES)
    before = loss_and_gradients(model, document_mask=False)[0]
    change(model, OptimConfig())
    fast = loss_and_gradients(model, document_mask=False)[0]
    model.take(FastPaths())
    torch.testing.assert_close(fast, loss_and_gradients(model, document_mask=False)[0])
    assert abs(float(fast - before)) > 1e-4


def test_copies_follow_scales_that_fused_adam_alone_changes() -> None:
    model = randomized(TINY)
    model.take(COPIES)
    optimizer = Optimizer(model, OptimConfig())
    optimizer.adam = torch.optim.AdamW([{"params": [model.get_parameter("blocks.0.mlp_scale")], "peak_lr": 1.0}])
    optimizer.adam.param_groups[0]["fused"] = True
    before = loss_and_gradients(model, document_mask=False)[0]
    model.get_parameter("blocks.0.mlp_scale").grad = torch.ones(TINY.model_dim)
    optimizer.muon.groups = []
    optimizer.muon.momentum_buffers = optimizer.muon.row_moments = []
    optimizer.step(1.0, 0.9)
    assert loss_and_gradients(model, document_mask=False)[0] != before


def test_copies_are_made_once_for_the_same_weights() -> None:
    model = randomized(TINY)
    model.take(COPIES)
    loss_and_gradients(model, document_mask=False)
    copies = [module.copy_OI for module in model.copies.linears]
    versions = [copy._version for copy in copies if copy is not None]
    loss_and_gradients(model, document_mask=False)
    assert versions == [copy._version for copy in copies if copy is not None]


def test_hessians_are_those_of_the_slow_form_and_copies_come_back() -> None:
    model, ids = randomized(TINY), random_ids(2, 16)
    expected = collect_hessians(model, [ids], document_mask=False)
    model.take(COPIES)
    got = collect_hessians(model, [ids], document_mask=False)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert model.fast == COPIES


def test_a_scaled_copy_is_not_used_without_its_scale() -> None:
    model = randomized(TINY)
    model.take(COPIES)
    with pytest.raises(AssertionError):
        model.copies.scaled[0][0](torch.zeros(1, TINY.model_dim))


def test_copies_are_no_weights() -> None:
    model = randomized(TINY)
    names, state = [name for name, _ in model.named_parameters()], model.state_dict().keys()
    model.take(COPIES)
    assert names == [name for name, _ in model.named_parameters()]
    assert state == model.state_dict().keys()


@pytest.mark.parametrize("form", NewtonSchulz)
@pytest.mark.parametrize("shape", [(3, 24, 24), (3, 16, 40), (3, 40, 16)])
def test_batched_newton_schulz_is_the_plain_one(form: NewtonSchulz, shape: tuple[int, ...]) -> None:
    update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = orthogonalize(update, triples_of(form, 5), torch.float32)
    torch.testing.assert_close(
        orthogonalize(update, triples_of(form, 5), torch.float32, is_batched=True), expected, rtol=1e-3, atol=1e-4
    )


def test_batched_newton_schulz_in_bf16_is_as_near_to_float32() -> None:
    update, triples = (
        torch.randn(2, 64, 128, generator=torch.Generator().manual_seed(0)),
        triples_of(NewtonSchulz.QUINTIC, 5),
    )
    exact = orthogonalize(update, triples, torch.float32)
    plain, batched = (
        float((orthogonalize(update, triples, torch.bfloat16, is_batched).float() - exact).norm())
        for is_batched in (False, True)
    )
    assert batched < 1.05 * plain


def test_a_cpu_takes_none() -> None:
    assert fast_paths_of(torch.device("cpu"), torch.float32) == FastPaths()
    assert not FastPaths().named


@pytest.mark.parametrize("name", COMBINED)
def test_compiled_parts_take_copies_where_no_gradients_are_wanted(name: str) -> None:
    model, ids_BT = randomized(replace(COMBINED[name], dropout=0.0)), random_ids(2, 16)
    torch.compiler.reset()  # graphs of other tests count towards a limit
    with torch.no_grad():
        slow = model.token_losses(ids_BT, ids_BT.roll(-1, 1), 16, document_mask=False)
        model.take(COPIES)
        model.compile_parts("eager")
        fast = model.token_losses(ids_BT, ids_BT.roll(-1, 1), 16, document_mask=False)
    torch.compiler.reset()
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [EVERY_MODEL["april"], EVERY_MODEL["march"]], ids=["april", "march"])
def test_compiled_parts_take_copies_in_one_graph_a_kind_of_block(config: ModelConfig) -> None:
    """Dynamo traces them whole (fullgraph), and gradients of compiled parts are those of eager ones."""
    model = randomized(config)
    model.take(COPIES)
    expected_loss, expected = loss_and_gradients(model, document_mask=True)
    model.compile_parts("aot_eager")
    loss, gradients = loss_and_gradients(model, document_mask=True)
    torch.testing.assert_close(loss, expected_loss)
    for got, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_no_module_keeps_a_copy_after_they_are_dropped() -> None:
    model = randomized(EVERY_MODEL["rest"])
    model.take(COPIES)
    model.take(FastPaths())
    names = [name for name, _ in model.named_buffers()]
    assert not [name for name in names if name.endswith(("copy_OI", "joint_copy"))]
    assert isinstance(model, nn.Module)


def test_graphs_with_copies_do_not_grow_with_depth_or_loops() -> None:
    torch.compiler.reset()
    graphs: list[fx.GraphModule] = []

    def keep(graph: fx.GraphModule, _: Sequence[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    for num_layers in (6, 9):
        model, ids = randomized(replace(EVERY_MODEL["april"], num_layers=num_layers, parallel=None)), random_ids(2, 16)
        model.take(COPIES)
        model.compile_parts(backend=keep)
        for is_looped in (False, True):
            model.loss(ids, ids, is_looped, False)
        assert len(graphs) == 4, num_layers
        torch.compiler.reset()
        graphs.clear()


def test_additions_to_maps_are_added_to_scaled_and_joint_copies() -> None:
    model, ids = randomized(TINY), random_ids(2, 16)
    maps = {"q": (32, 32), "k": (32, 16), "v": (32, 16), "out": (32, 32), "mlp": (32, 32)}
    generator = torch.Generator().manual_seed(0)

    def low_rank(inputs: int, outputs: int) -> LowRank:
        a_BRI, b_BOR = (torch.randn(shape, generator=generator) / 8 for shape in ((2, 3, inputs), (2, outputs, 3)))
        return LowRank(a_BRI, b_BOR, 0.5)

    layers = tuple(LayerLora(**{name: low_rank(*shape) for name, shape in maps.items()}) for _ in range(5))
    lora = Lora(layers, None)
    expected = model.token_losses(ids, ids, 16, False, lora)
    model.take(COPIES)
    torch.testing.assert_close(model.token_losses(ids, ids, 16, False, lora), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", COMBINED)
def test_fused_heads_look_like_the_slow_ones(name: str) -> None:
    """Without their kernels' numbers, which tests/gpu compares: every gradient's shape, format and strides."""
    model, ids = randomized(EVERY_MODEL[name]), random_ids(2, 16)
    expected = loss_and_gradients(model, document_mask=True)[1]
    model.take(FastPaths(copies=True, heads=True))
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss = model.loss(ids, ids.roll(-1, 1), True, True)
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    given = [g for g in gradients if g is not None]
    assert len(given) == len(expected)
    for got, wanted in zip(given, expected, strict=True):
        assert (got.shape, got.dtype, got.stride()) == (wanted.shape, wanted.dtype, wanted.stride())


def test_fused_heads_are_one_node_each_way_of_a_graph() -> None:
    """The gradient of queries, keys and values reaches the product's backward whole: nothing joins or adds parts."""
    torch.compiler.reset()
    targets: list[list[str]] = []

    def keep(graph: fx.GraphModule, _: Sequence[Tensor]) -> Callable[..., Any]:
        targets.append([str(node.target) for node in graph.graph.nodes])
        return make_boxed_func(graph.forward)

    model, ids = randomized(replace(TINY, num_layers=1)), random_ids(2, 16)
    model.take(FastPaths(copies=True, heads=True))
    model.compile_parts(aot_autograd(fw_compiler=keep))
    with FakeTensorMode(allow_non_fake_inputs=True):
        loss = model.loss(ids, ids.roll(-1, 1), True, False)
        torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    torch.compiler.reset()
    assert [graph.count("caddie.heads.default") for graph in targets].count(1) == 1
    (backward,) = (graph for graph in targets if "caddie.heads_back.default" in graph)
    assert not [name for name in backward if "cat" in name or "slice" in name]


def test_additions_to_queries_keep_to_the_slow_heads() -> None:
    model, ids = randomized(TINY), random_ids(2, 16)
    addition = LowRank(torch.ones(2, 3, 32), torch.ones(2, 32, 3), 0.01)
    lora = Lora(tuple(LayerLora(q=addition) for _ in range(5)), None)
    expected = model.token_losses(ids, ids, 16, False, lora)
    model.take(FastPaths(copies=True, heads=True))
    torch.testing.assert_close(model.token_losses(ids, ids, 16, False, lora), expected, rtol=1e-4, atol=1e-5)


def test_copies_lie_where_they_lay_when_they_are_taken_again() -> None:
    """CUDA graphs that were captured before Hessians were collected go on writing there."""
    model = randomized(EVERY_MODEL["rest"])
    places: list[list[int]] = []
    for fast in (COPIES, FastPaths(), COPIES):
        model.take(fast)
        places.append([buffer.data_ptr() for name, buffer in model.named_buffers() if name.endswith("_copy")])
        places[-1] += [buffer.data_ptr() for name, buffer in model.named_buffers() if name.endswith("copy_OI")]
    assert places[0] == places[2]
    assert places[0]
    assert not places[1]
