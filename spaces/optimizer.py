"""Ready params: optimizer, schedule and weight averaging."""

from spaces.space import Choice, Integer, Param, Real
from trainer.train_config import EmaConfig


def params() -> tuple[Param, ...]:
    """All of OptimConfig, ScheduleConfig and EmaConfig, around the naive baseline and the records."""
    return (
        Param("optim.matrix_lr", Real(0.01, 0.08, log=True)),
        Param("optim.embed_lr", Real(0.01, 0.2, log=True)),
        Param("optim.scalar_lr", Real(0.01, 0.1, log=True)),
        Param("optim.beta1", Real(0.8, 0.95)),
        Param("optim.beta2", Real(0.9, 0.999)),
        Param("optim.adam_eps", Real(1e-10, 1e-6, log=True)),
        Param("optim.muon_momentum", Real(0.9, 0.99)),
        Param("optim.muon_momentum_start", Real(0.8, 0.95)),
        Param("optim.muon_momentum_warmup_fraction", Real(0.0, 0.3)),
        Param("optim.muon_steps", Integer(3, 6)),
        Param("optim.muon_weight_decay", Real(0.0, 0.12)),
        Param("optim.grad_clip_norm", Choice.of(None, 0.3, 1.0)),
        Param("schedule.train_batch_tokens", Choice.of(131_072, 262_144, 524_288, 786_432)),
        Param("schedule.train_seq_len", Choice.of(512, 1024, 2048)),  # each divides every batch
        Param("schedule.warmdown_fraction", Real(0.05, 0.9)),
        Param("schedule.lr_floor", Real(0.0, 0.2)),
        Param("ema", Choice({"off": None, "on": EmaConfig()})),
        Param("ema.half_life_fraction", Real(0.003, 0.1, log=True)),
        Param("ema.start_fraction", Real(0.0, 0.8)),
    )
