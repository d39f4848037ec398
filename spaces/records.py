"""Records of the challenge, from March to the best one merged, with the intended form of every technique.

Fractions are the published steps over the published run's steps in 600 s on 8 H100; a run on fewer GPUs sets
schedule.train_batch_tokens itself. Calibration tokens: every rank of those scripts gathered Hessians over batches of
its own, 786,432 / 8 = 98,304 tokens each, and the first rank's were used.
"""

from dataclasses import replace

from trainer.config import Recipe
from trainer.eval_config import EvalConfig, LoraAdaptConfig, LoraTargets, SgdAdaptConfig
from trainer.model_config import (
    BigramConfig,
    GateConfig,
    GateForm,
    LoopConfig,
    MatrixInit,
    MlpKind,
    ModelConfig,
    ParallelConfig,
    ParallelForm,
    SmearConfig,
    SmearForm,
    ValueEmbedConfig,
    XsaConfig,
)
from trainer.store_config import ClipRule, Compressor, GptqConfig, Layout, LqerConfig, QuantConfig
from trainer.train_config import (
    EmaConfig,
    Loader,
    MuonForm,
    NewtonSchulz,
    OptimConfig,
    ScheduleConfig,
    SwaConfig,
)

ALL_LAYERS = 11


def march_optim(steps: int) -> OptimConfig:
    """What the records' optimizers share, for a run of so many steps: 1,500 of momentum warm-up."""
    return OptimConfig(
        matrix_lr=0.02,
        embed_lr=0.03,
        scalar_lr=0.02,
        muon_momentum=0.99,
        muon_momentum_start=0.92,
        muon_momentum_warmup_fraction=round(1_500 / steps, 3),
        grad_clip_norm=0.3,
    )


def april_model() -> ModelConfig:
    """What April's models share."""
    return ModelConfig(
        vocab_size=8192,
        num_layers=11,
        mlp=MlpKind.LEAKY_RELU2,
        mlp_mult=4.0,
        rope_dims=16,
        matrix_init=MatrixInit.ORTHOGONAL,
        norm_scaled_by_depth=True,
        skip_gates=True,
        xsa=XsaConfig(last_layers=ALL_LAYERS),
    )


def record_162() -> Recipe:
    """PR 162 (03-20): int6, MLP of 3, bigram table, smear gate, weight decay, checkpoint averaging; 1.1458."""
    return Recipe(
        model=ModelConfig(
            mlp_mult=3.0,
            matrix_init=MatrixInit.ORTHOGONAL,
            bigram=BigramConfig(buckets=4096, dim=128),
            smear=SmearConfig(),  # published: it mixes the last token of a document into the next one's BOS
        ),
        optim=replace(march_optim(7_379), muon_weight_decay=0.04, embed_weight_decay=0.01, scalar_weight_decay=0.01),
        schedule=ScheduleConfig(
            train_batch_tokens=786_432,
            train_seq_len=2048,
            warmdown_fraction=0.407,  # 3,000 of 7,379 steps
        ),
        swa=SwaConfig(start_fraction=0.797, every_fraction=0.0068),  # below half the peak rate, every 50 steps
        quant=QuantConfig(
            matrix_bits=6,
            table_bits=6,
            embed_bits=16,
            clip=ClipRule.ROW_MAX,
            scale_is_floored=False,
            passthrough_numel=8_192,
            control_bits=16,
            late_k_layers=1,
        ),
        compressor=Compressor.ZSTD,
    )


def record_414() -> Recipe:
    """PR 414 (03-22): eleven layers, exclusive attention, partial rotary, EMA, clip search; 1.1233."""
    # Published with quantization-aware training from 0.15 of the peak rate on, which compilation had folded away, and
    # which a searched clip has no form of; so there is none here.
    return Recipe(
        model=ModelConfig(
            num_layers=11,
            mlp_mult=3.0,
            rope_dims=16,
            rope_ntk_length=1024,
            matrix_init=MatrixInit.ORTHOGONAL,
            norm_scaled_by_depth=True,
            xsa=XsaConfig(last_layers=4),
            bigram=BigramConfig(buckets=2048, dim=128),
            smear=SmearConfig(),  # published: as PR 162's
            value_embed=ValueEmbedConfig(dim=128, last_layers=2),
        ),
        optim=replace(
            march_optim(7_096),
            matrix_lr=0.025,
            embed_lr=0.035,
            scalar_lr=0.025,
            muon_weight_decay=0.04,
            embed_weight_decay=0.04,
            scalar_weight_decay=0.04,
        ),
        schedule=ScheduleConfig(
            train_batch_tokens=786_432,
            train_seq_len=2048,
            warmdown_fraction=0.493,  # 3,500 of 7,096 steps
        ),
        ema=EmaConfig(half_life_fraction=0.0325),  # 0.997 a step
        quant=QuantConfig(matrix_bits=6, clip=ClipRule.MSE, control_bits=16),
        compressor=Compressor.ZSTD,
    )


def record_1218() -> Recipe:
    """PR 1218 (04-01): vocabulary of 4096, MLP of 4, weight decay 0.085, full GPTQ; 1.0979."""
    return Recipe(
        model=replace(
            april_model(),
            vocab_size=4096,
            qk_gain_init=4.0,
            value_embed=ValueEmbedConfig(dim=128, last_layers=2),
        ),
        optim=replace(march_optim(5_967), muon_weight_decay=0.085, embed_weight_decay=0.085, scalar_weight_decay=0.02),
        schedule=ScheduleConfig(
            train_batch_tokens=786_432, train_seq_len=2048, loader=Loader.COPRIME_STRIDE, warmdown_fraction=0.667
        ),
        ema=EmaConfig(half_life_fraction=0.0387),  # 0.997 a step over 5,967
        quant=QuantConfig(
            matrix_bits=6,
            clip=ClipRule.MSE,
            control_bits=16,
            gptq=GptqConfig(calibration_tokens=64 * 98_304, rounds_embedding=False),
        ),
        compressor=Compressor.BROTLI,
        layout=Layout.SHUFFLED,
    )


def record_1493() -> Recipe:
    """PR 1493 (04-09): vocabulary of 8192, layers 3 to 5 three times, parallel blocks, sigma clip; 1.0810."""
    return Recipe(
        model=replace(
            april_model(),
            qk_gain_init=5.25,
            parallel=ParallelConfig(form=ParallelForm.GPT_J, last_layers=4),
            loop=LoopConfig(first_layer=3, last_layer=5, passes=3, start_fraction=0.35),
        ),
        optim=replace(
            march_optim(4_550),
            matrix_lr=0.022,
            muon=MuonForm.ROW_EQUALIZED,
            muon_weight_decay=0.095,
            embed_weight_decay=0.085,
            scalar_weight_decay=0.02,
        ),
        schedule=ScheduleConfig(
            train_batch_tokens=786_432, train_seq_len=2048, loader=Loader.SHUFFLED, warmdown_fraction=0.72
        ),
        ema=EmaConfig(half_life_fraction=0.0435),  # 0.9965 a step over 4,550
        quant=QuantConfig(
            matrix_bits=6,
            clip=ClipRule.SIGMA,
            clip_sigmas=12.85,
            mlp_clip_sigmas=12.85,
            embed_clip_sigmas=20.0,
            scale_is_floored=False,
            control_bits=16,
            gptq=GptqConfig(calibration_tokens=64 * 98_304),
        ),
        compressor=Compressor.BROTLI,  # with 16,630 bytes of code; RANS makes 0.2 MB of room for longer code
        layout=Layout.SHUFFLED,
        evaluation=EvalConfig(sgd=SgdAdaptConfig(lr=0.005, momentum=0.9, epochs=3, chunk_tokens=32_768)),
    )


def record_1855() -> Recipe:
    """PR 1855 (04-27), the best merged: two lanes, sparse gates, documents apart, adaptation by document; 1.0611."""
    # Its text is CaseOps, a transform of the letters with 4 symbols of its own: a dataset, not a field of a recipe.
    return Recipe(
        model=replace(
            april_model(),
            qk_gain_init=5.0,
            gate=GateConfig(form=GateForm.SPARSE, scale=0.5),
            smear=SmearConfig(form=SmearForm.RESIDUAL),
            parallel=ParallelConfig(form=ParallelForm.TWO_LANE, last_layers=3),
            loop=LoopConfig(first_layer=3, last_layer=5, passes=3, start_fraction=0.35),
        ),
        optim=replace(
            march_optim(4_945),
            matrix_lr=0.026,
            beta2=0.99,
            muon=MuonForm.ROW_EQUALIZED,
            newton_schulz=NewtonSchulz.POLAR_EXPRESS,
            muon_momentum=0.97,
            muon_weight_decay=0.095,
            embed_weight_decay=0.085,
            scalar_weight_decay=0.02,
        ),
        schedule=ScheduleConfig(
            train_batch_tokens=786_432,
            train_seq_len=2048,
            loader=Loader.DOCUMENTS,
            document_mask=True,
            warmdown_fraction=0.85,
            lr_floor=0.1,
        ),
        ema=EmaConfig(half_life_fraction=0.04),  # 0.9965 a step over 4,945
        quant=QuantConfig(
            matrix_bits=6,
            embed_bits=7,
            clip=ClipRule.SIGMA,
            clip_sigmas=13.0,
            mlp_clip_sigmas=11.5,
            embed_clip_sigmas=14.0,
            scale_is_floored=False,
            control_bits=16,
            gate_bits=8,
            gptq=GptqConfig(calibration_tokens=16 * 98_304),
            lqer=LqerConfig(rank=4, num_tensors=3, group_size=64),
        ),
        compressor=Compressor.BEST,  # published: lrzip, which is a program of its own and no package
        evaluation=EvalConfig(document_mask=True, lora=document_adaptation()),
    )


def document_adaptation() -> LoraAdaptConfig:
    """How PR 1855 adapts to each document, and to the longest ones for good."""
    return LoraAdaptConfig(
        rank=80,
        alpha=144.0,
        targets=LoraTargets.ALL,
        lr=1e-4,
        beta1=0.0,
        beta2=0.999,
        weight_decay=0.5,
        chunk_tokens=48,
        batch_documents=64,
        keeps_a=True,
        phases=3,
        prefix_fraction=0.05,  # 2,500 of 50,000 documents
        phase_lr=0.001,
    )
