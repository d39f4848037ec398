"""GPTQ: against the definition, against plain rounding, and the Hessians it works by."""

import dataclasses
from functools import partial

import pytest
import torch
from torch import Tensor

from trainer.errors import DivergedError
from trainer.gptq import collect_hessians, inverse_factor, round_gptq
from trainer.layers import Linear
from trainer.model import Gpt, new_model
from trainer.model_config import LoopConfig, ModelConfig
from trainer.quantize import dequantize, quantize
from trainer.store_config import ClipRule, GptqConfig, QuantConfig

TINY = ModelConfig(vocab_size=64, num_layers=3, model_dim=16, num_heads=2, num_kv_heads=1)
PLAIN = QuantConfig(matrix_bits=4, embed_bits=4, clip=ClipRule.ROW_MAX, scale_is_floored=False, passthrough_numel=0)
WITH_GPTQ = dataclasses.replace(PLAIN, gptq=GptqConfig())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlated_hessian(width: int, seed: int, num_dead: int = 0) -> Tensor:
    """Of inputs that a few directions explain, as activations are."""
    generator = seeded(seed)
    mixing = torch.randn(width // 4, width, generator=generator)
    inputs = torch.randn(2000, width // 4, generator=generator) @ mixing
    inputs += 0.3 * torch.randn(inputs.shape, generator=generator)
    inputs[:, :num_dead] = 0
    return inputs.mT @ inputs


def loss_of(weight: Tensor, rounded: Tensor, hessian: Tensor) -> float:
    """What rounding costs: the squared error of the outputs over the inputs of the Hessian."""
    error = (weight - rounded).double()
    return float(torch.trace(error @ hessian.double() @ error.mT))


def round_by_definition(weight: Tensor, hessian: Tensor, scale: Tensor, q_max: int, damping: float) -> Tensor:
    """One column at a time, all later columns at once, in float64: OBQ's update with GPTQ's fixed order."""
    weight, hessian = weight.double().clone(), hessian.double().clone()
    is_dead = hessian.diagonal() == 0
    hessian[is_dead, is_dead] = 1
    weight[:, is_dead] = 0
    order = hessian.diagonal().argsort(descending=True, stable=True)
    hessian += damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    weight, hessian = weight[:, order], hessian[order][:, order]
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    codes = torch.zeros_like(weight)
    for column in range(weight.size(1)):
        codes[:, column] = (weight[:, column] / scale.double()).round().clamp(-q_max, q_max)
        error = (weight[:, column] - codes[:, column] * scale.double()) / factor[column, column]
        weight[:, column + 1 :] -= error[:, None] * factor[column, column + 1 :]
    return codes[:, order.argsort()].to(torch.int8)


def test_the_factor_is_the_upper_cholesky_of_the_inverse() -> None:
    hessians = torch.stack([correlated_hessian(40, seed) for seed in range(3)])
    factors = inverse_factor(hessians, 0.01)
    for hessian, factor in zip(hessians.double(), factors, strict=True):
        damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(40, dtype=torch.float64)
        expected = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
        torch.testing.assert_close(factor.double(), expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize(("rows", "columns", "num_dead"), [(12, 40, 0), (7, 300, 5), (5, 128, 1), (3, 129, 0)])
def test_rounding_is_that_of_the_definition(rows: int, columns: int, num_dead: int) -> None:
    weight = torch.randn(rows, columns, generator=seeded(columns))
    hessian = correlated_hessian(columns, rows, num_dead)
    scale = (weight.abs().amax(dim=1) / 7).half()
    codes = round_gptq(weight[None], hessian[None], scale[None], 4, 0.01)[0]
    expected = round_by_definition(weight, hessian, scale, 7, 0.01)
    # A weight that lies between two codes to the last digit of float32 may go either way, and those after it with it.
    assert (codes == expected).float().mean() > 0.97
    loss, expected_loss = (loss_of(weight, q * scale.float()[:, None], hessian) for q in (codes, expected))
    assert loss == pytest.approx(expected_loss, rel=0.02)
    assert not codes[:, :num_dead].any()


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_it_loses_far_less_than_plain_rounding_on_correlated_inputs(bits: int) -> None:
    config = dataclasses.replace(WITH_GPTQ, matrix_bits=bits)
    weights = {"blocks.0.attn.c_q.weight": torch.randn(32, 64, generator=seeded(0))}
    hessians = {name: correlated_hessian(64, 1) for name in weights}
    losses = [
        loss_of(weights[name], dequantize(quantize(weights, config, 1, known))[name], hessians[name])
        for known in (hessians, None)
        for name in weights
    ]
    assert losses[0] < 0.5 * losses[1]


def test_uncorrelated_inputs_give_plain_rounding() -> None:
    weights = {"tok_emb": torch.randn(24, 200, generator=seeded(0))}
    diagonal = {"tok_emb": torch.diag(torch.rand(200, generator=seeded(1)) + 0.1)}
    with_hessian, without = (quantize(weights, WITH_GPTQ, 1, known)["tok_emb"] for known in (diagonal, None))
    assert torch.equal(with_hessian.values, without.values)
    assert torch.equal(with_hessian.scale_R, without.scale_R)


def test_a_stack_is_rounded_as_its_matrices_one_by_one() -> None:
    weights = torch.randn(3, 10, 150, generator=seeded(0))
    hessians = torch.stack([correlated_hessian(150, seed, num_dead=seed) for seed in range(3)])
    scales = (weights.abs().amax(dim=2) / 15).half()
    together = round_gptq(weights, hessians, scales, 5, 0.01)
    alone = [round_gptq(weights[i, None], hessians[i, None], scales[i, None], 5, 0.01)[0] for i in range(3)]
    assert torch.equal(together, torch.stack(alone))


def test_names_choose_their_own_hessian_whatever_stacks_they_land_in() -> None:
    shapes = {f"blocks.{i}.attn.c_{part}.weight": (8, 16) for i in range(2) for part in "qk"}
    shapes |= {"blocks.0.mlp.fc.weight": (8, 16), "blocks.1.mlp.proj.weight": (16, 8), "bigram.table": (8, 16)}
    weights = {name: torch.randn(shape, generator=seeded(i)) for i, (name, shape) in enumerate(shapes.items())}
    hessians = {
        name: correlated_hessian(weight.size(1), i)
        for i, (name, weight) in enumerate(weights.items())
        if name != "bigram.table"
    }
    config = dataclasses.replace(WITH_GPTQ, mlp_bits=6, clip=ClipRule.HESSIAN_SIGMA, clip_sigmas=3.0)
    together = quantize(weights, config, 2, hessians)
    assert list(together) == list(weights)
    for name, weight in weights.items():
        alone = quantize({name: weight}, config, 2, hessians)[name]
        assert torch.equal(together[name].values, alone.values), name
        assert torch.equal(together[name].scale_R, alone.scale_R), name


def test_the_embedding_is_rounded_with_feedback_only_where_the_recipe_says_so() -> None:
    weights = {"tok_emb": torch.randn(40, 32, generator=seeded(0))}
    hessians = {"tok_emb": correlated_hessian(32, 0)}
    plain = quantize(weights, PLAIN, 1, None)["tok_emb"].values
    off = dataclasses.replace(PLAIN, gptq=GptqConfig(rounds_embedding=False))
    assert torch.equal(quantize(weights, off, 1, hessians)["tok_emb"].values, plain)
    assert not torch.equal(quantize(weights, WITH_GPTQ, 1, hessians)["tok_emb"].values, plain)
    assert torch.equal(quantize(weights, PLAIN, 1, hessians)["tok_emb"].values, plain)  # without quant.gptq


def test_a_hessian_that_float32_cannot_factor_is_damped_more() -> None:
    hessians = torch.stack([correlated_hessian(16, 0), 1 - 0.05 * torch.eye(16), correlated_hessian(16, 1)])
    factors = inverse_factor(hessians, 0.01)
    assert factors.isfinite().all()
    assert torch.equal(factors[[0, 2]], inverse_factor(hessians[[0, 2]], 0.01))


def test_a_hessian_that_is_not_finite_is_said_to_be() -> None:
    with pytest.raises(DivergedError, match=r"quant\.gptq: expected finite Hessians"):
        inverse_factor(torch.full((2, 4, 4), float("nan")), 0.01)


def keep_rows(rows: list[Tensor], _module: Linear, inputs: tuple[Tensor, ...]) -> None:
    rows.append(inputs[0].flatten(0, 1))


def inputs_of(model: Gpt, ids: Tensor) -> dict[str, list[Tensor]]:
    """Inputs of every linear map in a forward with loops on, by weight's name."""
    seen: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            module.register_forward_pre_hook(partial(keep_rows, seen.setdefault(f"{name}.weight", [])))
    with torch.no_grad():
        seen["tok_emb"] = [model(ids, True, False).flatten(0, 1)]
    return seen


@pytest.mark.parametrize("loop", [None, LoopConfig(first_layer=1, last_layer=1, passes=3)])
def test_hessians_sum_over_batches_and_over_all_passes_of_a_loop(loop: LoopConfig | None) -> None:
    config = dataclasses.replace(TINY, loop=loop)
    ids = torch.randint(0, 64, (4, 12), generator=seeded(0))
    model = new_model(config, torch.float32, 0)
    hessians = collect_hessians(model, ids.split(2), False)
    seen = inputs_of(model, ids)
    weights = {name for name, _ in model.named_parameters() if name.endswith(".weight")}
    assert set(hessians) == set(seen) == weights | {"tok_emb"}
    for name, parts in seen.items():
        num_passes = 3 if loop is not None and name.startswith("blocks.1.") else 1
        assert len(parts) == num_passes
        rows = torch.cat(parts)
        torch.testing.assert_close(hessians[name], rows.mT @ rows, rtol=1e-4, atol=1e-4)


def test_collecting_leaves_the_model_as_it_was() -> None:
    model = new_model(dataclasses.replace(TINY, dropout=0.5), torch.float32, 0).train()
    ids = torch.randint(0, 64, (2, 8), generator=seeded(0))
    first, again = (collect_hessians(model, [ids], True) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)  # dropout is off
    assert model.training
    before = {name: hessian.clone() for name, hessian in first.items()}
    model(ids, True, True)
    assert all(torch.equal(first[name], before[name]) for name in first)  # no hook is left
    assert all(parameter.grad is None for parameter in model.parameters())
