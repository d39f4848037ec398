"""Small models for tests: one of every option, with weights that let every path show."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from trainer.model import Gpt, new_model
from trainer.model_config import (
    BigramConfig,
    EmbedInit,
    GateConfig,
    GateForm,
    LoopConfig,
    MatrixInit,
    MlpKind,
    ModelConfig,
    ParallelConfig,
    ParallelForm,
    ResidMixInit,
    SmearConfig,
    SmearForm,
    ValueEmbedConfig,
    XsaConfig,
    XsaForm,
)

TINY = ModelConfig(vocab_size=64, num_layers=5, model_dim=32, num_heads=4, num_kv_heads=2)
LOOP = LoopConfig(first_layer=1, last_layer=2, passes=3)
ONE_CHANGE = {
    "baseline": TINY,
    **{f"mlp_{kind.value}": replace(TINY, mlp=kind) for kind in MlpKind},
    **{f"embed_{init.value}": replace(TINY, embed_init=init) for init in EmbedInit},
    **{f"matrix_{init.value}": replace(TINY, matrix_init=init) for init in MatrixInit},
    **{f"resid_mix_{init.value}": replace(TINY, resid_mix_init=init) for init in ResidMixInit},
    **{f"xsa_{form.value}": replace(TINY, xsa=XsaConfig(form=form, last_layers=3)) for form in XsaForm},
    **{f"gate_{form.value}": replace(TINY, gate=GateConfig(form=form)) for form in GateForm},
    **{f"smear_{form.value}": replace(TINY, smear=SmearConfig(form=form)) for form in SmearForm},
    **{f"parallel_{form.value}": replace(TINY, parallel=ParallelConfig(form=form)) for form in ParallelForm},
    "bigram": replace(TINY, bigram=BigramConfig(buckets=97, dim=8)),
    "value_embed": replace(TINY, value_embed=ValueEmbedConfig(dim=8, last_layers=2)),
    "loop": replace(TINY, loop=LOOP),
    "loop_scales_skips": replace(TINY, loop=replace(LOOP, scales_skips=True)),
    "skip_gates": replace(TINY, skip_gates=True),
    "norm_scaled_by_depth": replace(TINY, norm_scaled_by_depth=True),
    "partial_rope": replace(TINY, rope_dims=4),
    "ntk": replace(TINY, rope_ntk_length=8),
    "no_grouped_queries": replace(TINY, num_kv_heads=4),
    "one_layer": replace(TINY, num_layers=1),
}
# What the best merged record combines (PR 1855), and what the records of March did (PR 414).
APRIL = replace(
    TINY,
    mlp=MlpKind.LEAKY_RELU2,
    rope_dims=4,
    skip_gates=True,
    norm_scaled_by_depth=True,
    xsa=XsaConfig(last_layers=11),
    gate=GateConfig(),
    smear=SmearConfig(form=SmearForm.RESIDUAL),
    loop=LOOP,
    parallel=ParallelConfig(form=ParallelForm.TWO_LANE, last_layers=2),
)
MARCH = replace(
    TINY,
    xsa=XsaConfig(last_layers=2),
    bigram=BigramConfig(buckets=97, dim=8),
    smear=SmearConfig(),
    value_embed=ValueEmbedConfig(dim=8, last_layers=2),
    norm_scaled_by_depth=True,
)
# What neither of them has.
REST = replace(
    TINY,
    mlp=MlpKind.SWIGLU,
    rope_ntk_length=8,
    num_kv_heads=4,
    dropout=0.1,
    xsa=XsaConfig(form=XsaForm.MEAN_SHARE),
    gate=GateConfig(form=GateForm.DENSE),
    loop=replace(LOOP, scales_skips=True),
    parallel=ParallelConfig(last_layers=2),
)
COMBINED = {"baseline": TINY, "april": APRIL, "march": MARCH, "rest": REST}
EVERY_MODEL = {**ONE_CHANGE, **COMBINED}


def randomized(config: ModelConfig) -> Gpt:
    """A model whose zero and one parameters are random too, so that every path shows."""
    model = new_model(config, torch.float32, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def random_ids(rows: int, length: int, seed: int = 0) -> Tensor:
    """Token ids (B, T) without BOS."""
    return torch.randint(2, 64, (rows, length), generator=torch.Generator().manual_seed(seed))


def recorded(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Input and output of each later call of a module."""
    calls: list[tuple[Tensor, Tensor]] = []

    def record(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((given[0], output))

    module.register_forward_hook(record)
    return calls
