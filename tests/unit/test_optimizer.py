"""Muon, the parameter groups, the schedule and the average against what defines them."""

import pytest
import torch
from torch import nn

from trainer.average import Ema
from trainer.model import new_model
from trainer.model_config import ModelConfig
from trainer.muon import Muon, orthogonalize
from trainer.optim import Optimizer, is_matrix
from trainer.schedule import learning_rate_scale, momentum_at
from trainer.train_config import EmaConfig, OptimConfig, ScheduleConfig

TINY = ModelConfig(vocab_size=32, num_layers=2, model_dim=16, num_heads=2, num_kv_heads=1)


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 40), (2, 40, 16)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalize(update, 10, torch.float32))
    assert singular.min() > 0.5
    assert singular.max() < 1.3


def test_orthogonalize_treats_stacked_matrices_one_by_one() -> None:
    update = torch.randn(4, 12, 20, generator=torch.Generator().manual_seed(0))
    together = orthogonalize(update, 5, torch.float32)
    for index in range(4):
        torch.testing.assert_close(together[index], orthogonalize(update[index : index + 1], 5, torch.float32)[0])


def test_muon_step_equals_the_definition_written_for_one_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 8, generator=generator)
    gradients = [torch.randn(24, 8, generator=generator) for _ in range(3)]
    parameter = nn.Parameter(weight.clone())
    muon = Muon([parameter], 5, 0.1, torch.float32)
    buffer = torch.zeros(24, 8)
    for gradient in gradients:
        parameter.grad = gradient
        muon.step(0.02, 0.9)
        buffer = 0.9 * buffer + gradient
        update = orthogonalize((gradient + 0.9 * buffer)[None], 5, torch.float32)[0]
        weight = weight * (1 - 0.02 * 0.1) - 0.02 * (24 / 8) ** 0.5 * update
    torch.testing.assert_close(parameter.detach(), weight)


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = new_model(TINY, torch.float32, 0)
    optimizer = Optimizer(model, OptimConfig())
    grouped = [p for group in optimizer.adam.param_groups for p in group["params"]]
    grouped += [p for group in optimizer.muon.groups for p in group]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))
    assert all(p.ndim == 2 for group in optimizer.muon.groups for p in group)
    assert not is_matrix("blocks.0.resid_mix", model.get_parameter("blocks.0.resid_mix"))


def test_clipping_bounds_the_update() -> None:
    model = new_model(TINY, torch.float32, 0)
    optimizer = Optimizer(model, OptimConfig(grad_clip_norm=0.5))
    norms: list[float] = []
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
        parameter.register_post_accumulate_grad_hook(lambda _: None)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    optimizer.adam.step = lambda: norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))  # type: ignore[method-assign]
    optimizer.step(1.0, 0.9)
    assert norms == [pytest.approx(0.5, rel=1e-4)]


def test_learning_rate_falls_linearly_to_its_floor() -> None:
    config = ScheduleConfig(warmdown_fraction=0.4, lr_floor=0.1)
    assert learning_rate_scale(0.0, config) == 1.0
    assert learning_rate_scale(0.6, config) == pytest.approx(1.0)
    assert learning_rate_scale(0.8, config) == pytest.approx(0.5)
    assert learning_rate_scale(1.0, config) == pytest.approx(0.1)
    assert learning_rate_scale(0.99, ScheduleConfig(warmdown_fraction=0.0)) == 1.0


def test_momentum_rises_then_stays() -> None:
    config = OptimConfig(muon_momentum_start=0.8, muon_momentum=0.9, muon_momentum_warmup_fraction=0.1)
    assert [momentum_at(p, config) for p in (0.0, 0.05, 0.1, 1.0)] == pytest.approx([0.8, 0.85, 0.9, 0.9])


@pytest.mark.parametrize("steps", [10, 100])
def test_ema_weight_halves_over_its_half_life_whatever_the_number_of_steps(steps: int) -> None:
    parameter = nn.Parameter(torch.ones(3))
    ema = Ema([parameter], EmaConfig(half_life_fraction=0.25))
    ema.update(0.0, 0.0)
    parameter.data.zero_()
    for step in range(steps // 2):
        ema.update((step + 1) / steps, 1 / steps)
    ema.copy_to_parameters()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.25))


def test_ema_starts_at_its_fraction_from_the_weights_of_then() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    ema = Ema([parameter], EmaConfig(half_life_fraction=0.1, start_fraction=0.5))
    ema.update(0.4, 0.1)
    ema.copy_to_parameters()
    assert parameter.tolist() == [0.0, 0.0]
    parameter.data.fill_(3.0)
    ema.update(0.5, 0.1)
    parameter.data.fill_(9.0)
    ema.copy_to_parameters()
    assert parameter.tolist() == [3.0, 3.0]
