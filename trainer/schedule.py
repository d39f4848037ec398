"""What changes over a run, as functions of progress in [0, 1]."""

from trainer.train_config import OptimConfig, ScheduleConfig


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
