"""Ready params: optimizer, schedule, data order, weight averaging and quantization-aware training."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.store_config import ClipRule
from trainer.train_config import EmaConfig, Loader, MuonForm, NewtonSchulz, QatConfig, QatForm, SwaConfig


def params() -> tuple[Param, ...]:
    """All of OptimConfig, ScheduleConfig, EmaConfig, SwaConfig and QatConfig, from the baseline to the records."""
    return _optim_params() + _schedule_params() + _weight_params()


def _optim_params() -> tuple[Param, ...]:
    return (
        Param("optim.matrix_lr", Real(0.01, 0.08, log=True)),
        Param("optim.embed_lr", Real(0.01, 0.2, log=True)),
        Param("optim.scalar_lr", Real(0.01, 0.1, log=True)),
        Param("optim.beta1", Real(0.8, 0.95)),
        Param("optim.beta2", Real(0.9, 0.999)),
        Param("optim.adam_eps", Real(1e-10, 1e-6, log=True)),
        Param("optim.embed_weight_decay", Real(0.0, 0.12)),
        Param("optim.scalar_weight_decay", Real(0.0, 0.06)),
        Param("optim.muon", Choice.of(*MuonForm)),
        Param("optim.newton_schulz", Choice.of(*NewtonSchulz)),
        Param("optim.muon_momentum", Real(0.9, 0.99)),
        Param("optim.muon_momentum_start", Real(0.8, 0.95)),
        Param("optim.muon_momentum_warmup_fraction", Real(0.0, 0.35)),
        Param("optim.muon_steps", Integer(3, 6)),
        Param("optim.muon_weight_decay", Real(0.0, 0.12)),
        Param("optim.grad_clip_norm", Choice.of(None, 0.3, 1.0)),
    )


def _schedule_params() -> tuple[Param, ...]:
    return (
        Param("schedule.train_batch_tokens", Choice.of(131_072, 262_144, 524_288, 786_432)),
        Param("schedule.train_seq_len", Choice.of(512, 1024, 2048, 4096)),  # each divides every batch
        Param("schedule.loader", Choice.of(*Loader)),
        Param("schedule.document_mask", Choice.of(False, True)),
        Param("schedule.warmdown_fraction", Real(0.05, 0.9)),
        Param("schedule.lr_floor", Real(0.0, 0.2)),
    )


def _weight_params() -> tuple[Param, ...]:
    return (
        Param("ema", Choice({"off": None, "on": EmaConfig()})),
        Param("ema.half_life_fraction", Real(0.003, 0.1, log=True)),
        Param("ema.start_fraction", Real(0.0, 0.8)),
        Param("swa", Choice({"off": None, "on": SwaConfig()}), when=_has_no_ema),
        Param("swa.start_fraction", Real(0.5, 0.95)),
        Param("swa.every_fraction", Real(0.002, 0.03, log=True)),
        Param("qat", Choice({"off": None, "on": QatConfig()}), when=_clips_by_row),
        Param("qat.form", Choice.of(*QatForm)),
        Param("qat.start_fraction", Real(0.0, 0.95)),
    )


def _has_no_ema(recipe: Recipe) -> bool:
    return recipe.ema is None


def _clips_by_row(recipe: Recipe) -> bool:
    """Whether training can round as the weight file will: by what a row alone tells."""
    return recipe.quant.clip in {ClipRule.ROW_MAX, ClipRule.QUANTILE, ClipRule.SIGMA}
