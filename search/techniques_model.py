"""A model's shape and parts as techniques, each with its source; what is off goes without saying."""

from collections.abc import Iterator
from typing import assert_never

from search.technique import BASELINE, Technique
from trainer.model_config import (
    EmbedInit,
    GateForm,
    MatrixInit,
    MlpKind,
    ModelConfig,
    ParallelForm,
    ResidMixInit,
    SmearForm,
    XsaForm,
)

PLAIN = ModelConfig()


def shape_techniques(model: ModelConfig) -> Iterator[Technique]:
    """Sizes of the model."""
    yield Technique(f"{model.num_layers} layers, width {model.model_dim}", f"{BASELINE}, U-Net skips arXiv 1505.04597")
    heads = f"{model.num_heads} heads with {model.num_kv_heads} key/value heads"
    yield Technique(heads, f"{BASELINE}, arXiv 2305.13245, norm of queries and keys arXiv 2010.04245")
    yield mlp_technique(model)
    yield Technique(f"tied embedding of {model.vocab_size}", f"{BASELINE}, arXiv 1608.05859")


def mlp_technique(model: ModelConfig) -> Technique:
    """The feed-forward half of a block."""
    match model.mlp:
        case MlpKind.RELU2:
            return Technique(f"relu^2 MLP of {model.mlp_dim}", f"{BASELINE}, arXiv 2109.08668")
        case MlpKind.LEAKY_RELU2:
            return Technique(f"leaky relu^2 MLP of {model.mlp_dim}", "PR 493, arXiv 2109.08668")
        case MlpKind.SWIGLU:
            return Technique(f"SwiGLU MLP of {model.mlp_dim}", "PR 163, arXiv 2002.05202")
        case _:
            assert_never(model.mlp)


def part_techniques(model: ModelConfig) -> Iterator[Technique]:
    """Switchable parts of the model."""
    yield from _position_techniques(model)
    yield from _attention_techniques(model)
    yield from _token_techniques(model)
    yield from _order_techniques(model)
    yield from _start_techniques(model)
    if model.dropout:
        yield Technique(f"dropout {model.dropout:g}", "PR 340, arXiv 1207.0580")


def last_phrase(count: int, model: ModelConfig) -> str:
    """So many layers from the end."""
    if count >= model.num_layers:
        return "all layers"
    return "the last layer" if count == 1 else f"the last {count} layers"


def _position_techniques(model: ModelConfig) -> Iterator[Technique]:
    if model.rope_base != PLAIN.rope_base:
        yield Technique(f"rotary base {model.rope_base:,.0f}", "PR 163, arXiv 2104.09864")
    if model.rope_dims is not None:
        phrase = f"rotary on {model.rope_dims} of {model.head_dim} channels"
        yield Technique(phrase, "PR 315, arXiv 2104.09864")
    if model.rope_ntk_length is not None:
        yield Technique(f"NTK rotary base beyond {model.rope_ntk_length}", "PR 414, arXiv 2309.00071")


def _attention_techniques(model: ModelConfig) -> Iterator[Technique]:
    if model.qk_gain_init != PLAIN.qk_gain_init:
        yield Technique(f"query gains from {model.qk_gain_init:g} on", "PR 1218")
    if model.xsa is not None:
        form, source = ("", "PR 265") if model.xsa.form is XsaForm.PROJECTION else (" (mean share)", "PR 333")
        yield Technique(f"XSA{form} in {last_phrase(model.xsa.last_layers, model)}", source)
    if model.gate is not None:
        scale = f" of scale {model.gate.scale:g}" if model.gate.form is GateForm.SPARSE else ""
        source = {GateForm.NARROW: "PR 1667", GateForm.DENSE: "PR 1736", GateForm.SPARSE: "PR 1787"}
        yield Technique(f"{model.gate.form.value} attention gates{scale}", source[model.gate.form])
    if model.value_embed is not None:
        where = last_phrase(model.value_embed.last_layers, model)
        yield Technique(f"value embeddings of {model.value_embed.dim} in {where}", "PR 374")


def _token_techniques(model: ModelConfig) -> Iterator[Technique]:
    if model.bigram is not None:
        yield Technique(f"bigram hash table of {model.bigram.buckets} x {model.bigram.dim}", "PR 162")
    if model.smear is not None:
        is_convex = model.smear.form is SmearForm.CONVEX
        yield Technique("SmearGate", "PR 162") if is_convex else Technique("residual SmearGate", "PR 1667")


def _order_techniques(model: ModelConfig) -> Iterator[Technique]:
    if model.norm_scaled_by_depth:
        yield Technique("norms scaled by depth", "PR 315")
    if model.skip_gates:
        yield Technique("gated U-Net skips", "PR 1218")
    if model.loop is not None:
        loop = model.loop
        where = f"layers {loop.first_layer} to {loop.last_layer} passed {loop.passes} times"
        yield Technique(f"{where} from {loop.start_fraction:.0%} of the run on", "PR 340, PR 1204, PR 1285")
    if model.parallel is not None:
        is_two = model.parallel.form is ParallelForm.TWO_LANE
        form, source = ("two-lane", "PR 1529") if is_two else ("parallel", "PR 1412")
        yield Technique(f"{form} blocks in {last_phrase(model.parallel.last_layers, model)}", source)


def _start_techniques(model: ModelConfig) -> Iterator[Technique]:
    """Initial weights."""
    if model.matrix_init is MatrixInit.ORTHOGONAL:
        yield Technique("orthogonal initial matrices", "PR 162, arXiv 1312.6120")
    if model.embed_init is not EmbedInit.NORMAL:
        source = "PR 60" if model.embed_init is EmbedInit.OVERTONE else "PR 340"
        yield Technique(f"{model.embed_init.value.replace('_', '-')} initial embedding", source)
    if model.resid_mix_init is ResidMixInit.PHASE_TRANSITION:
        yield Technique("phase-transition residual mixing", "PR 60")
