"""Ready params: the model's switchable parts and its initial weights."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.model_config import (
    BigramConfig,
    EmbedInit,
    GateConfig,
    GateForm,
    LoopConfig,
    MatrixInit,
    MlpKind,
    ParallelConfig,
    ParallelForm,
    ResidMixInit,
    SmearConfig,
    SmearForm,
    ValueEmbedConfig,
    XsaConfig,
    XsaForm,
)

MOST_LANES = 4
LAST_LOOPED = 6


def params() -> tuple[Param, ...]:
    """Every technique of ModelConfig, around what the records use."""
    return _block_params() + _token_params() + _order_params()


def _block_params() -> tuple[Param, ...]:
    return (
        Param("model.mlp", Choice.of(*MlpKind)),
        Param("model.embed_init", Choice.of(*EmbedInit)),
        Param("model.matrix_init", Choice.of(*MatrixInit)),
        Param("model.resid_mix_init", Choice.of(*ResidMixInit)),
        Param("model.norm_scaled_by_depth", Choice.of(False, True)),
        Param("model.skip_gates", Choice.of(False, True)),
        Param("model.dropout", Real(0.0, 0.1)),
        Param("model.xsa", Choice({"off": None, "on": XsaConfig()})),
        Param("model.xsa.form", Choice.of(*XsaForm)),
        Param("model.xsa.last_layers", Integer(2, 14)),  # 4 at first, all from March 25 on
        Param("model.gate", Choice({"off": None, "on": GateConfig()})),
        Param("model.gate.form", Choice.of(*GateForm)),
        Param("model.gate.scale", Real(0.25, 2.0, log=True), when=_has_scaled_gate),
    )


def _token_params() -> tuple[Param, ...]:
    return (
        Param("model.bigram", Choice({"off": None, "on": BigramConfig()})),
        Param("model.bigram.buckets", Choice.of(1536, 2048, 3072, 4096, 8192, 10_240)),
        Param("model.bigram.dim", Choice.of(64, 112, 128)),
        Param("model.smear", Choice({"off": None, "on": SmearConfig()})),
        Param("model.smear.form", Choice.of(*SmearForm)),
        Param("model.smear.gate_init", Real(-3.0, 1.0), when=_has_convex_smear),
        Param("model.value_embed", Choice({"off": None, "on": ValueEmbedConfig()})),
        Param("model.value_embed.dim", Choice.of(64, 128)),
        Param("model.value_embed.last_layers", Integer(1, 4)),
    )


def _order_params() -> tuple[Param, ...]:
    return (
        Param("model.loop", Choice({"off": None, "on": LoopConfig(first_layer=4, last_layer=5)}), when=_has_middle),
        Param("model.loop.first_layer", Integer(2, 4)),
        Param("model.loop.last_layer", Integer(4, LAST_LOOPED)),
        Param("model.loop.passes", Integer(2, 3)),  # four made it worse
        Param("model.loop.start_fraction", Real(0.0, 0.7)),
        Param("model.loop.scales_skips", Choice.of(False, True)),
        Param("model.parallel", Choice({"off": None, "on": ParallelConfig(last_layers=1)}), when=_has_free_end),
        Param("model.parallel.form", Choice.of(*ParallelForm)),
        Param("model.parallel.last_layers", Integer(1, MOST_LANES)),
    )


def _has_scaled_gate(recipe: Recipe) -> bool:
    return recipe.model.gate is not None and recipe.model.gate.form is GateForm.SPARSE


def _has_convex_smear(recipe: Recipe) -> bool:
    return recipe.model.smear is not None and recipe.model.smear.form is SmearForm.CONVEX


def _has_middle(recipe: Recipe) -> bool:
    return recipe.model.num_layers > LAST_LOOPED


def _has_free_end(recipe: Recipe) -> bool:
    """Whether two lanes of any searched length lie behind the loop."""
    loop = recipe.model.loop
    return loop is None or loop.last_layer < recipe.model.num_layers - MOST_LANES
