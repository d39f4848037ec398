"""Hypothesis strategies of valid configs: every field of every config varies, and contradictions are not drawn."""

from dataclasses import fields, replace
from enum import Enum
from typing import Any, TypeVar

from hypothesis import strategies as st

from trainer.config import Recipe
from trainer.eval_config import EvalConfig, LoraAdaptConfig, SgdAdaptConfig
from trainer.model_config import (
    BigramConfig,
    GateConfig,
    LoopConfig,
    ModelConfig,
    ParallelConfig,
    ParallelForm,
    SmearConfig,
    ValueEmbedConfig,
    XsaConfig,
)
from trainer.store_config import (
    ClipRule,
    Compressor,
    GptqConfig,
    LayerBitsConfig,
    Layout,
    LqerConfig,
    QuantConfig,
)
from trainer.train_config import EmaConfig, OptimConfig, QatConfig, ScheduleConfig, SwaConfig

Config = TypeVar("Config")
LENGTH = 1024  # windows and batches are multiples of it

POSITIVE = st.floats(1e-12, 1e12)
FRACTIONS = st.floats(0.0, 1.0)
STARTS = st.floats(0.0, 1.0, exclude_max=True)
COUNTS = st.integers(1, 12)
BITS = st.integers(4, 8)


def configs(config: type[Config], **drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Config]:
    """A config with every field drawn: enums and booleans by their type, the others as given."""
    for field in fields(config):  # pyright: ignore[reportArgumentType]
        if isinstance(field.type, type) and issubclass(field.type, Enum):
            drawn.setdefault(field.name, st.sampled_from(list(field.type)))
        elif field.type is bool:
            drawn.setdefault(field.name, st.booleans())
        assert field.name in drawn, f"{config.__name__}.{field.name}: needs a strategy"
    return st.builds(config, **drawn)


def maybe(strategy: st.SearchStrategy[Config]) -> st.SearchStrategy[Config | None]:
    """Off, or on."""
    return st.none() | strategy


@st.composite
def loops(draw: st.DrawFn, num_layers: int) -> LoopConfig:
    """A loop inside so many layers."""
    first = draw(st.integers(0, num_layers - 1))
    last = st.integers(first, num_layers - 1)
    return draw(
        configs(
            LoopConfig, first_layer=st.just(first), last_layer=last, passes=st.integers(2, 4), start_fraction=STARTS
        )
    )


@st.composite
def models(draw: st.DrawFn, max_layers: int = 16, max_width: int = 64) -> ModelConfig:
    """A model of width 32, 48, ... 16 max_width."""
    num_layers = draw(st.integers(1, max_layers))
    model = draw(
        configs(
            ModelConfig,
            vocab_size=st.integers(8, 65_536),
            num_layers=st.just(num_layers),
            model_dim=st.integers(2, max_width).map(lambda n: 16 * n),
            num_heads=st.sampled_from([4, 8]),
            num_kv_heads=st.sampled_from([1, 2, 4]),
            mlp_mult=st.floats(0.5, 8.0),
            rope_base=POSITIVE,
            rope_dims=st.sampled_from([None, 4]),
            rope_ntk_length=st.none() | st.integers(1, 4096),
            qk_gain_init=st.floats(-8.0, 8.0),
            logit_softcap=POSITIVE,
            embed_init_std=POSITIVE,
            dropout=STARTS,
            xsa=maybe(configs(XsaConfig, last_layers=COUNTS)),
            gate=maybe(configs(GateConfig, scale=POSITIVE)),
            bigram=maybe(configs(BigramConfig, buckets=st.integers(2, 4096), dim=st.integers(1, 128))),
            smear=maybe(configs(SmearConfig, gate_init=st.floats(-4.0, 4.0))),
            value_embed=maybe(configs(ValueEmbedConfig, dim=st.integers(1, 128), last_layers=COUNTS)),
            parallel=maybe(configs(ParallelConfig, last_layers=COUNTS)),
            loop=st.none(),
        )
    )
    loop = draw(maybe(loops(num_layers)))
    first_lane = num_layers - model.parallel.last_layers if model.parallel else num_layers
    crosses = model.parallel is not None and model.parallel.form is ParallelForm.TWO_LANE
    return model if loop and crosses and loop.last_layer >= first_lane else replace(model, loop=loop)


@st.composite
def quants(draw: st.DrawFn) -> QuantConfig:
    """A way to store; the rule that needs Hessians comes with them."""
    gptq = configs(GptqConfig, calibration_tokens=st.integers(1, 10**7), damping=POSITIVE)
    first = draw(st.integers(0, 8))
    clip = draw(st.sampled_from(ClipRule))
    needs_gptq = clip is ClipRule.HESSIAN_SIGMA
    return draw(
        configs(
            QuantConfig,
            matrix_bits=BITS,
            mlp_bits=st.none() | BITS,
            embed_bits=st.sampled_from([4, 5, 6, 7, 8, 16]),
            table_bits=st.sampled_from([None, 4, 6, 8, 16]),
            clip=st.just(clip),
            clip_sigmas=POSITIVE,
            mlp_clip_sigmas=st.none() | POSITIVE,
            embed_clip_sigmas=st.none() | POSITIVE,
            hessian_clip=FRACTIONS,
            passthrough_numel=st.integers(0, 10**7),
            control_bits=st.sampled_from([16, 32]),
            gate_bits=st.sampled_from([8, 16]),
            late_k_layers=st.integers(0, 3),
            layer_bits=maybe(
                configs(
                    LayerBitsConfig, first_layer=st.just(first), last_layer=st.integers(first, first + 8), bits=BITS
                )
            ),
            prune_fraction=FRACTIONS,
            target_bytes=st.none() | st.integers(1, 10**8),
            gptq=gptq if needs_gptq else maybe(gptq),
            lqer=maybe(
                configs(
                    LqerConfig, rank=st.integers(1, 8), num_tensors=st.integers(1, 9), group_size=st.integers(1, 128)
                )
            ),
        )
    )


@st.composite
def evaluations(draw: st.DrawFn) -> EvalConfig:
    """A way to score."""
    sgd = configs(
        SgdAdaptConfig,
        lr=POSITIVE,
        momentum=STARTS,
        epochs=COUNTS,
        chunk_tokens=st.integers(1, 16).map(lambda n: n * 4 * LENGTH),
    )
    lora = configs(
        LoraAdaptConfig,
        rank=st.integers(1, 96),
        alpha=POSITIVE,
        lr=POSITIVE,
        beta1=STARTS,
        beta2=STARTS,
        weight_decay=FRACTIONS,
        chunk_tokens=st.integers(1, LENGTH),
        batch_documents=st.integers(1, 64),
        phases=st.integers(0, 3),
        prefix_fraction=FRACTIONS,
        phase_lr=POSITIVE,
    )
    is_sgd = draw(st.booleans())
    return draw(
        configs(
            EvalConfig,
            seq_len=st.sampled_from([None, LENGTH, 2 * LENGTH, 4 * LENGTH]),
            stride=st.integers(1, LENGTH),
            sgd=maybe(sgd) if is_sgd else st.none(),
            lora=st.none() if is_sgd else maybe(lora),
        )
    )


OPTIMS = configs(
    OptimConfig,
    matrix_lr=POSITIVE,
    embed_lr=POSITIVE,
    scalar_lr=POSITIVE,
    beta1=STARTS,
    beta2=STARTS,
    adam_eps=POSITIVE,
    embed_weight_decay=FRACTIONS,
    scalar_weight_decay=FRACTIONS,
    muon_momentum=STARTS,
    muon_momentum_start=STARTS,
    muon_momentum_warmup_fraction=FRACTIONS,
    muon_steps=st.integers(1, 8),
    muon_weight_decay=FRACTIONS,
    grad_clip_norm=st.none() | POSITIVE,
)
SCHEDULES = configs(
    ScheduleConfig,
    train_batch_tokens=st.integers(1, 64).map(lambda n: n * 4 * LENGTH),
    train_seq_len=st.sampled_from([LENGTH, 2 * LENGTH, 4 * LENGTH]),
    warmdown_fraction=FRACTIONS,
    lr_floor=FRACTIONS,
)
EMAS = configs(EmaConfig, half_life_fraction=POSITIVE, start_fraction=STARTS)
SWAS = configs(SwaConfig, start_fraction=STARTS, every_fraction=POSITIVE)
QATS = configs(QatConfig, start_fraction=STARTS)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """A recipe, whose parts fit together."""
    quant, compressor = draw(quants()), draw(st.sampled_from(Compressor))
    has_layout = compressor not in {Compressor.RANS, Compressor.BEST}
    knows_row = quant.clip in {ClipRule.ROW_MAX, ClipRule.QUANTILE, ClipRule.SIGMA}
    average = draw(st.none() | EMAS | SWAS)
    return draw(
        configs(
            Recipe,
            model=models(),
            optim=OPTIMS,
            schedule=SCHEDULES,
            ema=st.just(average if isinstance(average, EmaConfig) else None),
            swa=st.just(average if isinstance(average, SwaConfig) else None),
            qat=maybe(QATS) if knows_row else st.none(),
            quant=st.just(quant),
            compressor=st.just(compressor),
            layout=st.sampled_from(Layout) if has_layout else st.just(Layout.PLAIN),
            evaluation=evaluations(),
        )
    )
