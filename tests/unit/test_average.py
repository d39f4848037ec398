"""Averages of the weights over training against what defines them."""

import pytest
import torch
from torch import nn

from trainer.average import Ema, Swa
from trainer.train_config import EmaConfig, SwaConfig


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


def average_of_values(values: list[float], config: SwaConfig) -> float:
    """The average over a run whose weight has these values after its steps."""
    parameter = nn.Parameter(torch.zeros(()))
    swa = Swa([parameter], config)
    for step, value in enumerate(values):
        parameter.data.fill_(value)
        swa.update((step + 1) / len(values), 1 / len(values))
    swa.copy_to_parameters()
    return float(parameter.detach())


def test_swa_is_the_mean_of_the_checkpoints_at_its_fractions() -> None:
    # Steps end at 0.1, 0.2, ... 1.0; checkpoints are due at 0.5, 0.7, 0.9, and at the end.
    values = [float(value) for value in range(1, 11)]
    assert average_of_values(values, SwaConfig(start_fraction=0.45, every_fraction=0.2)) == (5 + 7 + 9 + 10) / 4
    # Each step where checkpoints are nearer than steps; the end is not counted twice.
    assert average_of_values(values, SwaConfig(start_fraction=0.75, every_fraction=0.001)) == (8 + 9 + 10) / 3


def test_swa_of_a_run_too_short_for_a_checkpoint_keeps_the_last_weights() -> None:
    parameter = nn.Parameter(torch.tensor(3.25))
    swa = Swa([parameter], SwaConfig(start_fraction=0.8))
    swa.update(0.7, 0.7)  # a budget in seconds ends before 1
    swa.copy_to_parameters()
    assert float(parameter.detach()) == 3.25


def test_swa_keeps_what_checkpoints_differ_in_by_parts_of_a_bit() -> None:
    """A hundred checkpoints a few units of the last place apart: float32 carries the mean to half a unit."""
    generator = torch.Generator().manual_seed(0)
    checkpoints = [1.0 + torch.randint(0, 16, (1000,), generator=generator) * 2.0**-23 for _ in range(100)]
    parameter = nn.Parameter(torch.empty(1000))
    swa = Swa([parameter], SwaConfig(start_fraction=0.0, every_fraction=0.0099))
    for index, checkpoint in enumerate(checkpoints):
        parameter.data.copy_(checkpoint)
        swa.update((index + 1) / 100, 0.01)
    swa.copy_to_parameters()
    exact = torch.stack(checkpoints).double().mean(dim=0)
    assert swa.num_checkpoints == 100
    error = (parameter.double() - exact).abs()
    assert error.max() < 4 * 2.0**-23
    assert error.mean() < 2.0**-23
