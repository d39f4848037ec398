"""What changes over a run, as functions of progress in [0, 1]."""

from typing import NamedTuple

from trainer.config import Recipe
from trainer.train_config import OptimConfig, ScheduleConfig


class Variant(NamedTuple):
    """The form of a training step: whether the model's loop is on, and whether weights are rounded as stored."""

    is_looped: bool
    is_quantized: bool


def learning_rate_scale(progress: float, config: ScheduleConfig) -> float:
    """Multiplier of every peak learning rate: 1, then linear down to lr_floor over the last warmdown_fraction."""
    if config.warmdown_fraction == 0:
        return 1.0
    return max(min((1.0 - progress) / config.warmdown_fraction, 1.0), config.lr_floor)


def momentum_at(progress: float, config: OptimConfig) -> float:
    """Muon momentum: linear from muon_momentum_start to muon_momentum over muon_momentum_warmup_fraction."""
    if config.muon_momentum_warmup_fraction == 0:
        return config.muon_momentum
    warmth = min(progress / config.muon_momentum_warmup_fraction, 1.0)
    return (1.0 - warmth) * config.muon_momentum_start + warmth * config.muon_momentum


def variant_at(progress: float, recipe: Recipe) -> Variant:
    """The form of a step that starts at a progress."""
    loop, qat = recipe.model.loop, recipe.qat
    return Variant(
        is_looped=loop is not None and progress >= loop.start_fraction,
        is_quantized=qat is not None and progress >= qat.start_fraction,
    )


def variant_starts(recipe: Recipe) -> list[float]:
    """The progress at which each variant of a run starts, in order; the first is 0."""
    switches = [part.start_fraction for part in (recipe.model.loop, recipe.qat) if part is not None]
    return sorted({0.0, *switches})


def slowdown(before: Variant, after: Variant, recipe: Recipe) -> float:
    """How many times as long a step of a variant takes at most, next to one of a variant before it.

    Loops cost no more than their share of passes through layers, since the rest of a step stays (1.45 where the bound
    is 17 / 11, PR 1493). Rounding costs less than a forward and backward pass.
    """
    factor = 1.0
    if after.is_looped and not before.is_looped:
        factor *= len(recipe.model.layer_order(True)) / recipe.model.num_layers
    if after.is_quantized and not before.is_quantized:
        factor *= 2.0
    return factor
