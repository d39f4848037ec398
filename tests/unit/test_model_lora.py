"""Low-rank additions: what they add, to which pass, for which row."""

from dataclasses import replace

import pytest
import torch
from tiny_models import APRIL, MARCH, TINY, random_ids, randomized, recorded

from trainer.layers import LayerLora, Lora, LowRank
from trainer.model import Gpt
from trainer.model_config import LoopConfig, ModelConfig

ROWS, RANK = 2, 3
IDS = random_ids(ROWS, 8)


def low_rank(out_features: int, in_features: int, seed: int, *, is_zero: bool = False) -> LowRank:
    """Random A and B, or B zero."""
    generator = torch.Generator().manual_seed(seed)
    b_BOR = 0.3 * torch.randn(ROWS, out_features, RANK, generator=generator)
    a_BRI = 0.3 * torch.randn(ROWS, RANK, in_features, generator=generator)
    return LowRank(a_BRI, torch.zeros_like(b_BOR) if is_zero else b_BOR, 1.8)


def lora_of(config: ModelConfig, *, is_zero: bool) -> Lora:
    """An addition everywhere, other numbers in each."""
    dim, kv_dim = config.model_dim, config.num_kv_heads * config.head_dim
    layers = tuple(
        LayerLora(
            *(low_rank(out, dim, 10 * place + part, is_zero=is_zero) for part, out in enumerate((dim, kv_dim, kv_dim))),
            out=low_rank(dim, dim, 10 * place + 3, is_zero=is_zero),
            mlp=low_rank(dim, dim, 10 * place + 4, is_zero=is_zero),
        )
        for place in range(len(config.layer_order(True)))
    )
    return Lora(layers, low_rank(config.vocab_size, dim, 999, is_zero=is_zero))


def losses(model: Gpt, lora: Lora | None) -> torch.Tensor:
    return model.token_losses(IDS, IDS.roll(-1, 1), 8, False, lora)


@pytest.mark.parametrize("config", [TINY, APRIL, MARCH], ids=["baseline", "april", "march"])
def test_additions_with_zero_b_change_nothing(config: ModelConfig) -> None:
    model = randomized(config)
    torch.testing.assert_close(losses(model, lora_of(config, is_zero=True)), losses(model, None))
    assert not torch.allclose(losses(model, lora_of(config, is_zero=False)), losses(model, None))


@pytest.mark.parametrize("part", ["c_q", "c_k", "c_v", "proj"])
def test_an_addition_to_attention_is_one_to_its_weight(part: str) -> None:
    """Row by row, since each row of a batch has its own."""
    model, layer = randomized(TINY), 2
    weight = model.get_parameter(f"blocks.{layer}.attn.{part}.weight")
    addition = low_rank(*weight.shape, seed=1)
    field = {"c_q": "q", "c_k": "k", "c_v": "v", "proj": "out"}[part]
    layers = [LayerLora()] * 5
    layers[layer] = LayerLora()._replace(**{field: addition})
    together = losses(model, Lora(tuple(layers)))
    start = weight.detach().clone()
    for row in range(ROWS):
        with torch.no_grad():
            weight.copy_(start + 1.8 * addition.b_BOR[row] @ addition.a_BRI[row])
        torch.testing.assert_close(together[row], losses(model, None)[row], atol=1e-5, rtol=1e-4)


def test_an_addition_to_the_head_is_one_to_the_logits_weight_alone() -> None:
    model = randomized(TINY)
    addition = low_rank(64, 32, seed=1)
    together = losses(model, Lora((LayerLora(),) * 5, addition))
    hidden = model(IDS, True, False)
    for row in range(ROWS):
        weight = model.tok_emb + 1.8 * addition.b_BOR[row] @ addition.a_BRI[row]
        logits = 30.0 * torch.tanh(hidden[row] @ weight.T / 30.0)
        expected = torch.nn.functional.cross_entropy(logits, IDS.roll(-1, 1)[row], reduction="none")
        torch.testing.assert_close(together[row], expected, atol=1e-5, rtol=1e-4)


def test_an_addition_to_the_mlp_is_a_map_beside_it() -> None:
    model = randomized(TINY)
    addition = low_rank(32, 32, seed=1)
    mlp = model.get_submodule("blocks.4.mlp")
    calls = recorded(mlp)
    plain = model(IDS, True, False)
    x_BTD, y_BTD = calls[0]
    bypass_BTD = torch.stack([1.8 * x @ a.T @ b.T for x, a, b in zip(x_BTD, *addition[:2], strict=True)])
    layers = (*(LayerLora(),) * 4, LayerLora(mlp=addition))
    # The same by hand: the last block's MLP gives both, scaled, and nothing follows it but the norm.
    scale_D = model.get_parameter("blocks.4.mlp_scale")
    handle = mlp.register_forward_hook(lambda _m, _args, _out: y_BTD + scale_D * bypass_BTD)
    expected = model(IDS, True, False)
    handle.remove()
    torch.testing.assert_close(model(IDS, True, False, Lora(layers)), expected)
    assert not torch.allclose(expected, plain)


def test_each_pass_through_a_looped_layer_has_its_own_addition() -> None:
    config = replace(TINY, loop=LoopConfig(first_layer=1, last_layer=1, passes=2))
    model = randomized(config)
    assert config.layer_order(True) == (0, 1, 1, 2, 3, 4)
    outcomes: list[torch.Tensor] = []
    for place in (1, 2):
        layers = [LayerLora()] * 6
        layers[place] = LayerLora(q=low_rank(32, 32, seed=1), mlp=low_rank(32, 32, seed=2))
        outcomes.append(losses(model, Lora(tuple(layers))))
    assert not torch.allclose(outcomes[0], outcomes[1])


def test_a_forward_with_additions_is_one_graph_and_gives_them_gradients() -> None:
    torch.compiler.reset()  # graphs are counted for each function, whatever the model
    model, lora = randomized(APRIL), lora_of(APRIL, is_zero=False)
    for addition in (*(a for layer in lora.layers for a in layer), lora.head):
        assert addition is not None
        addition.a_BRI.requires_grad_()
        addition.b_BOR.requires_grad_()
    compiled = torch.compile(model.token_losses, fullgraph=True, dynamic=False, backend="eager")
    result = compiled(IDS, IDS, 8, True, lora)
    torch.testing.assert_close(result, model.token_losses(IDS, IDS, 8, True, lora))
    result.sum().backward()
    for addition in (*(a for layer in lora.layers for a in layer), lora.head):
        assert addition is not None
        for tensor in addition[:2]:
            assert tensor.grad is not None
            assert tensor.grad.any()
