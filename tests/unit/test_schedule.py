"""What changes over a run, at chosen moments of it."""

import pytest

from trainer.config import Recipe
from trainer.model_config import LoopConfig, ModelConfig
from trainer.schedule import Variant, learning_rate_scale, momentum_at, slowdown, variant_at, variant_starts
from trainer.train_config import OptimConfig, QatConfig, ScheduleConfig

BOTH = Recipe(
    model=ModelConfig(num_layers=6, loop=LoopConfig(first_layer=2, last_layer=3, passes=3, start_fraction=0.35)),
    qat=QatConfig(start_fraction=0.75),
)


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


def test_loops_and_quantization_go_on_at_their_fractions_and_stay_on() -> None:
    assert variant_at(0.34999, BOTH) == Variant(is_looped=False, is_quantized=False)
    assert variant_at(0.35, BOTH) == Variant(is_looped=True, is_quantized=False)
    assert variant_at(0.75, BOTH) == variant_at(1.0, BOTH) == Variant(is_looped=True, is_quantized=True)
    assert variant_at(1.0, Recipe()) == Variant(is_looped=False, is_quantized=False)


def test_each_start_begins_another_variant() -> None:
    assert variant_starts(Recipe()) == [0.0]
    assert variant_starts(Recipe(qat=QatConfig())) == [0.0]
    assert variant_starts(BOTH) == [0.0, 0.35, 0.75]
    assert len({variant_at(start, BOTH) for start in variant_starts(BOTH)}) == 3


def test_a_switch_slows_a_step_by_the_passes_it_adds_at_most() -> None:
    plain, looped, quantized = (variant_at(start, BOTH) for start in variant_starts(BOTH))
    assert slowdown(plain, plain, BOTH) == slowdown(looped, looped, BOTH) == 1.0
    assert slowdown(plain, looped, BOTH) == 10 / 6
    assert slowdown(looped, quantized, BOTH) == 2.0
    assert slowdown(plain, quantized, BOTH) == 2.0 * 10 / 6
