"""Muon in all its forms and the parameter groups against what defines them."""

import math

import pytest
import torch
from torch import Tensor, nn

from trainer.model import new_model
from trainer.model_config import BigramConfig, GateConfig, ModelConfig, SmearConfig, ValueEmbedConfig
from trainer.muon import POLAR_EXPRESS_TRIPLES, Muon, orthogonalize, triples_of, with_even_rows, with_unit_rows
from trainer.optim import Optimizer
from trainer.train_config import MuonForm, NewtonSchulz, OptimConfig

TINY = ModelConfig(vocab_size=32, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1)
FIVE = {form: triples_of(form, 5) for form in NewtonSchulz}
# Where five iterations bring singular values of at least 0.002 of the norm.
BANDS = {NewtonSchulz.QUINTIC: (0.68, 1.21), NewtonSchulz.POLAR_EXPRESS: (0.85, 1.15)}


def random_matrices(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", NewtonSchulz)
@pytest.mark.parametrize("shape", [(2, 24, 24), (2, 16, 40), (2, 40, 16)])
def test_orthogonalize_brings_known_singular_values_near_one(form: NewtonSchulz, shape: tuple[int, ...]) -> None:
    left, _, right = torch.linalg.svd(random_matrices(*shape), full_matrices=False)
    spread = torch.logspace(math.log10(0.003), 0, min(shape[1:]))  # over their norm, which is below 1.5
    singular = torch.linalg.svdvals(orthogonalize(left * spread @ right, FIVE[form], torch.float32))
    low, high = BANDS[form]
    assert singular.min() > low
    assert singular.max() < high


def test_polar_express_is_nearer_to_the_polar_factor_than_the_quintic() -> None:
    update = random_matrices(1, 64, 128)
    left, _, right = torch.linalg.svd(update, full_matrices=False)
    polar = left @ right
    error = {form: float((orthogonalize(update, FIVE[form], torch.float32) - polar).norm() / 8) for form in FIVE}
    assert error[NewtonSchulz.POLAR_EXPRESS] < 0.13 < error[NewtonSchulz.QUINTIC] < 0.25


def test_polar_express_beyond_its_triples_repeats_the_last_and_short_of_them_takes_the_first() -> None:
    assert triples_of(NewtonSchulz.POLAR_EXPRESS, 3) == list(POLAR_EXPRESS_TRIPLES[:3])
    assert triples_of(NewtonSchulz.POLAR_EXPRESS, 7) == [*POLAR_EXPRESS_TRIPLES, *[POLAR_EXPRESS_TRIPLES[-1]] * 2]
    singular = torch.linalg.svdvals(
        orthogonalize(random_matrices(1, 16, 40), triples_of(NewtonSchulz.POLAR_EXPRESS, 10), torch.float32)
    )
    assert singular.min() > 0.95
    assert singular.max() < 1.1


@pytest.mark.parametrize("form", NewtonSchulz)
def test_orthogonalize_treats_stacked_matrices_one_by_one(form: NewtonSchulz) -> None:
    update = random_matrices(4, 12, 20)
    together = orthogonalize(update, FIVE[form], torch.float32)
    for index in range(4):
        torch.testing.assert_close(together[index], orthogonalize(update[index][None], FIVE[form], torch.float32)[0])


def test_unit_rows_have_unit_norm_and_their_direction() -> None:
    update = random_matrices(3, 8, 20) * torch.logspace(-3, 3, 8)[:, None]
    equalized = with_unit_rows(update)
    torch.testing.assert_close(equalized.norm(dim=-1), torch.ones(3, 8))
    torch.testing.assert_close(equalized * update.norm(dim=-1, keepdim=True), update)
    assert with_unit_rows(torch.zeros(1, 2, 3)).eq(0).all()


def test_even_rows_have_one_norm_at_first_and_keep_the_matrix_norm_always() -> None:
    moment = torch.zeros(3, 8, 1)
    updates = [random_matrices(3, 8, 20, seed=step) * torch.logspace(-1, 1, 8)[:, None] for step in range(4)]
    norms: list[Tensor] = []
    for update in updates:
        even = with_even_rows(update, moment)
        torch.testing.assert_close(even.norm(dim=(1, 2)), update.norm(dim=(1, 2)))
        norms.append(even.norm(dim=2))
    torch.testing.assert_close(norms[0], (updates[0].norm(dim=(1, 2)) / 8**0.5)[:, None].expand(3, 8))
    # Afterwards rows differ by how their second moment moved, not by their scale of 100 to 1.
    assert norms[-1].max() < 3 * norms[-1].min()
    assert with_even_rows(torch.zeros(1, 2, 3), torch.zeros(1, 2, 1)).eq(0).all()


def next_update(form: MuonForm, gradient: Tensor, state: dict[str, Tensor], momentum: float) -> Tensor:
    """One matrix's update before the factor of its shape, written from the definitions (techniques of each PR)."""
    if form is MuonForm.NORMUON:
        state["buffer"] = momentum * state["buffer"] + (1 - momentum) * gradient
        direction = (1 - momentum) * gradient + momentum * state["buffer"]
    else:
        state["buffer"] = momentum * state["buffer"] + gradient
        direction = gradient + momentum * state["buffer"]
    if form is MuonForm.ROW_EQUALIZED:
        direction = torch.stack([row / row.norm() for row in direction])
    polar = orthogonalize(direction[None], FIVE[NewtonSchulz.QUINTIC], torch.float32)[0]
    if form is not MuonForm.NORMUON:
        return polar
    state["moment"] = 0.95 * state["moment"] + 0.05 * (polar**2).mean(dim=1)
    even = torch.stack([row / moment.sqrt() for row, moment in zip(polar, state["moment"], strict=True)])
    return even * polar.norm() / even.norm()


@pytest.mark.parametrize("form", MuonForm)
def test_muon_step_equals_the_definition_written_for_one_matrix(form: MuonForm) -> None:
    weights = [random_matrices(24, 8, seed=1), random_matrices(24, 8, seed=2), random_matrices(8, 12, seed=3)]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    muon = Muon(parameters, OptimConfig(muon=form, muon_weight_decay=0.1), torch.float32)
    states = [{"buffer": torch.zeros_like(w), "moment": torch.zeros(len(w))} for w in weights]
    for step in range(3):
        for index, (parameter, state) in enumerate(zip(parameters, states, strict=True)):
            parameter.grad = random_matrices(*weights[index].shape, seed=10 * step + index)
            update = next_update(form, parameter.grad, state, 0.9)
            factor = max(1.0, update.size(0) / update.size(1)) ** 0.5
            weights[index] = weights[index] * (1 - 0.02 * 0.1) - 0.02 * factor * update
        muon.step(0.02, 0.9)
    for parameter, weight in zip(parameters, weights, strict=True):
        torch.testing.assert_close(parameter.detach(), weight)


def test_every_parameter_is_in_the_group_its_name_says() -> None:
    model = new_model(
        ModelConfig(
            vocab_size=32,
            num_layers=2,
            model_dim=16,
            num_heads=2,
            num_kv_heads=1,
            bigram=BigramConfig(buckets=8, dim=4),
            smear=SmearConfig(),
            value_embed=ValueEmbedConfig(dim=4, last_layers=1),
            gate=GateConfig(),
            skip_gates=True,
        ),
        torch.float32,
        0,
    )
    optimizer = Optimizer(model, OptimConfig(embed_lr=0.1, scalar_lr=0.2, embed_weight_decay=0.3))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tables, scalars = ({names[id(p)] for p in group["params"]} for group in optimizer.adam.param_groups)
    matrices = {names[id(p)] for group in optimizer.muon.groups for p in group}
    assert tables == {"tok_emb", "bigram.table", "value_embed.table"}
    assert matrices == {name for name in names.values() if name.endswith(".weight")}
    assert {"blocks.0.attn.gate", "blocks.1.resid_mix", "skip_gates", "smear.gate", "bigram.scale"} <= scalars
    assert sorted([*tables, *scalars, *matrices]) == sorted(names.values())
    assert [group["peak_lr"] for group in optimizer.adam.param_groups] == [0.1, 0.2]
    assert [group["weight_decay"] for group in optimizer.adam.param_groups] == [0.3, 0.0]


def test_decay_of_adam_is_decoupled_and_scaled_by_the_learning_rate_of_the_step() -> None:
    """Without a gradient's help: with one of zero, only decay moves the weights."""
    model = new_model(TINY, torch.float32, 0)
    config = OptimConfig(embed_lr=0.5, scalar_lr=0.25, embed_weight_decay=0.1, scalar_weight_decay=0.2)
    optimizer = Optimizer(model, config)
    embedding, mix = model.tok_emb.detach().clone(), model.get_parameter("blocks.0.resid_mix").detach().clone()
    matrix = model.get_parameter("blocks.0.mlp.fc.weight").detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.5, 0.9)
    torch.testing.assert_close(model.tok_emb.detach(), embedding * (1 - 0.5 * 0.5 * 0.1))
    torch.testing.assert_close(model.get_parameter("blocks.0.resid_mix").detach(), mix * (1 - 0.5 * 0.25 * 0.2))
    assert torch.equal(model.get_parameter("blocks.0.mlp.fc.weight"), matrix)


def test_without_decay_the_step_is_adam_s_bit_for_bit() -> None:
    models = [new_model(TINY, torch.float32, 0) for _ in range(2)]
    optimizer, adam = Optimizer(models[0], OptimConfig()), torch.optim.Adam([models[1].tok_emb], 0.05, (0.9, 0.95))
    for step in range(3):
        for model in models:
            for parameter in model.parameters():
                parameter.grad = random_matrices(*parameter.shape, seed=step)
        optimizer.step(1.0, 0.9)
        adam.step()
    assert torch.equal(models[0].tok_emb, models[1].tok_emb)


def test_clipping_bounds_the_update() -> None:
    model = new_model(TINY, torch.float32, 0)
    optimizer = Optimizer(model, OptimConfig(grad_clip_norm=0.5))
    norms: list[float] = []
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    optimizer.adam.step = lambda: norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))  # type: ignore[method-assign]
    optimizer.step(1.0, 0.9)
    assert norms == [pytest.approx(0.5, rel=1e-4)]
