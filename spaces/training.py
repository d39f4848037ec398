"""Ready params: what optimizer leaves of training. Data order, averaging of weights, quantization-aware training."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.store_config import ClipRule
from trainer.train_config import EmaConfig, Loader, NewtonSchulz, QatConfig, QatForm, SwaConfig


def params() -> tuple[Param, ...]:
    """OptimConfig and ScheduleConfig without what the family optimizer has, EmaConfig, SwaConfig and QatConfig."""
    return _optim_params() + _schedule_params() + _weight_params()


def _optim_params() -> tuple[Param, ...]:
    return (
        Param("optim.beta1", Real(0.8, 0.95)),  # .9 in all
        Param("optim.beta2", Real(0.9, 0.999)),  # .95; .99 in PR 163 and PR 1855
        Param("optim.adam_eps", Real(1e-10, 1e-6, log=True)),  # 1e-8 in all
        Param("optim.scalar_weight_decay", Real(0.0, 0.06)),  # .04 in March, .02 in April
        Param("optim.newton_schulz", Choice.of(*NewtonSchulz)),  # polar_express from PR 1787 on
        Param("optim.muon_momentum_start", Real(0.8, 0.95)),  # .85 at first, then .92
        Param("optim.muon_momentum_warmup_fraction", Real(0.0, 0.4)),  # 500, then 1,500 steps
        Param("optim.muon_steps", Integer(4, 6)),  # 5 in all
    )


def _schedule_params() -> tuple[Param, ...]:
    return (
        Param("schedule.train_batch_tokens", Choice.of(131_072, 262_144, 524_288, 786_432)),  # largest from PR 162 on
        # 2048 -.007 with sliding windows, 4096 as good and slower. Each divides every batch.
        Param("schedule.train_seq_len", Choice.of(512, 1024, 2048, 4096)),
        Param("schedule.loader", Choice.of(*Loader)),  # coprime_stride -.0025 with GPTQ (PR 1060), documents PR 1530
        Param("schedule.document_mask", Choice.of(False, True)),  # -.0006 and 2 % faster (PR 1530)
    )


def _weight_params() -> tuple[Param, ...]:
    return (
        Param("ema", Choice({"off": None, "on": EmaConfig()})),  # -.0006 against swa (PR 414)
        Param("ema.half_life_fraction", Real(0.01, 0.13, log=True)),  # .0325 to .0435
        Param("ema.start_fraction", Real(0.0, 0.8)),  # 0 in all
        Param("swa", Choice({"off": None, "on": SwaConfig()}), when=_has_no_ema),
        Param("swa.start_fraction", Real(0.5, 0.95)),  # .8 (PR 162) to .87
        Param("swa.every_fraction", Real(0.002, 0.03, log=True)),  # every 50 steps is best: .0068 (PR 162)
        Param("qat", Choice({"off": None, "on": QatConfig()}), when=_may_have_qat),
        Param("qat.form", Choice.of(*QatForm)),  # straight_through in PR 122, noise in PR 363
        Param("qat.start_fraction", Real(0.0, 0.95)),  # 0 in PR 122; .75 to .9 where it came late
    )


def _has_no_ema(recipe: Recipe) -> bool:
    return recipe.ema is None


def _may_have_qat(recipe: Recipe) -> bool:
    """Whether training can round as the weight file will, by what a row alone tells. GPTQ makes it superfluous."""
    knows_row = recipe.quant.clip in {ClipRule.ROW_MAX, ClipRule.QUANTILE, ClipRule.SIGMA}
    return knows_row and recipe.quant.gptq is None
