"""The trained tensors of a recipe, by parameter name: what the model has without making it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from trainer.config import Recipe
from trainer.model_config import GateForm, MlpKind, ModelConfig, ParallelForm, SmearForm

GATE_WINDOW = 12  # leading channels that narrow and sparse gates and the residual smear look at


@dataclass(frozen=True, slots=True)
class NamedShape:
    """A trained tensor's name and shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Numbers in it."""
        return prod(self.shape)


def shapes_of(recipe: Recipe) -> tuple[NamedShape, ...]:
    """Every trained tensor of the recipe's model."""
    return _shapes_of(recipe.model)


@lru_cache(maxsize=256)
def _shapes_of(model: ModelConfig) -> tuple[NamedShape, ...]:
    """A millisecond, and a prediction of bytes asks four times."""
    named = [*_token_tensors(model), *_skip_tensors(model)]
    for index in range(model.num_layers):
        named += [(f"blocks.{index}.{name}", shape) for name, shape in _block_tensors(model)]
    return tuple(NamedShape(name, shape) for name, shape in named)


def num_parameters(recipe: Recipe) -> int:
    """Trained numbers of the recipe's model."""
    return sum(tensor.numel for tensor in shapes_of(recipe))


Named = tuple[str, tuple[int, ...]]


def _token_tensors(model: ModelConfig) -> Iterator[Named]:
    dim, kv_dim = model.model_dim, model.num_kv_heads * model.head_dim
    yield "tok_emb", (model.vocab_size, dim)
    if model.bigram is not None:
        yield "bigram.table", (model.bigram.buckets, model.bigram.dim)
        yield "bigram.proj.weight", (dim, model.bigram.dim)
        yield "bigram.scale", ()
    if model.smear is not None:
        if model.smear.form is SmearForm.CONVEX:
            yield "smear.gate", (dim,)
        else:
            yield "smear.gate", (GATE_WINDOW,)
            yield "smear.scale", ()
    if model.value_embed is not None:
        yield "value_embed.table", (model.vocab_size, model.value_embed.dim)
        yield "value_embed.proj.weight", (kv_dim, model.value_embed.dim)
        yield "value_embed.scale", ()
        yield "value_embed.layer_scales", (min(model.value_embed.last_layers, model.num_layers),)


def _skip_tensors(model: ModelConfig) -> Iterator[Named]:
    yield "skip_weights", (model.num_skips, model.model_dim)
    if model.skip_gates:
        yield "skip_gates", (model.num_skips, model.model_dim)
    if model.parallel is not None and model.parallel.form is ParallelForm.TWO_LANE:
        yield "lane_post", (model.num_layers, 2, 2)  # of all layers, though only the last use it
        yield "lane_resid", (model.num_layers, 2)


def _block_tensors(model: ModelConfig) -> Iterator[Named]:
    dim, kv_dim = model.model_dim, model.num_kv_heads * model.head_dim
    yield "attn.c_q.weight", (dim, dim)
    yield "attn.c_k.weight", (kv_dim, dim)
    yield "attn.c_v.weight", (kv_dim, dim)
    yield "attn.proj.weight", (dim, dim)
    yield "attn.q_gain", (model.num_heads,)
    if model.gate is not None:
        width = dim if model.gate.form is GateForm.DENSE else min(GATE_WINDOW, dim)
        yield "attn.gate", (model.num_heads, width)
    for name in ("gate", "up") if model.mlp is MlpKind.SWIGLU else ("fc",):
        yield f"mlp.{name}.weight", (model.mlp_dim, dim)
    yield "mlp.proj.weight", (dim, model.mlp_dim)
    yield "attn_scale", (dim,)
    yield "mlp_scale", (dim,)
    yield "resid_mix", (2, dim)
