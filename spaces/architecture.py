"""Ready params: the rest of the model. Numbers of attention, initial weights, switchable parts.

Dropout is no param: with every token seen once it has nothing to prevent, and no record has it.
"""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.model_config import (
    BigramConfig,
    EmbedInit,
    GateConfig,
    GateForm,
    LoopConfig,
    MatrixInit,
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
# Up to these vocabularies token pairs and a convex smear gate pay, and a table of values (records since PR 1218 have
# neither of the first two, those since PR 1394 none of it).
SMALL_VOCAB, MIDDLE_VOCAB = 2048, 4096


def params() -> tuple[Param, ...]:
    """Every technique of ModelConfig, around what the records use."""
    return _attention_params() + _block_params() + _token_params() + _order_params()


def _attention_params() -> tuple[Param, ...]:
    return (
        Param("model.rope_base", Real(2_000.0, 200_000.0, log=True)),  # 10,000 in most; 50,000 -.001 (PR 163)
        Param("model.rope_dims", Choice.of(None, 8, 16, 32), when=_has_wide_heads),  # 16: -.0023 (PR 315)
        Param("model.rope_ntk_length", Choice.of(None, 512, 1024)),  # 1024 in PR 414, off in the last records
        Param("model.qk_gain_init", Real(1.0, 6.0)),  # 1.5 at first, then better up to 5.25 (PR 1218, PR 1493)
        Param("model.logit_softcap", Real(15.0, 60.0, log=True)),  # 30 in all
        Param("model.xsa", Choice({"off": None, "on": XsaConfig()})),  # -.002 (PR 265)
        Param("model.xsa.form", Choice.of(*XsaForm)),
        Param("model.xsa.last_layers", Integer(2, 14)),  # 4 at first; all of 11 -.0016 (PR 609)
        Param("model.gate", Choice({"off": None, "on": GateConfig()})),  # -.0005 (PR 1667)
        Param("model.gate.form", Choice.of(*GateForm)),  # one of three, never two: sparse saves 44 KB (PR 1787)
        Param("model.gate.scale", Real(0.25, 2.0, log=True), when=_has_scaled_gate),  # 1, then .5 (PR 1855)
    )


def _block_params() -> tuple[Param, ...]:
    return (
        Param("model.embed_init", Choice.of(*EmbedInit)),  # overtone in PR 60, power_law in PR 340; not isolated
        Param("model.embed_init_std", Real(0.001, 0.025, log=True)),  # .005 in all
        Param("model.matrix_init", Choice.of(*MatrixInit)),  # orthogonal from PR 162 on
        Param("model.resid_mix_init", Choice.of(*ResidMixInit)),  # phase_transition in PR 60 and PR 333
        Param("model.norm_scaled_by_depth", Choice.of(False, True)),  # on from PR 315 on
        Param("model.skip_gates", Choice.of(False, True)),  # on from March 31 on
    )


def _token_params() -> tuple[Param, ...]:
    return (
        Param("model.bigram", Choice({"off": None, "on": BigramConfig()}), when=_has_small_vocab),
        Param("model.bigram.buckets", Integer(1024, 12_288, log=True)),  # 4096 to 8192 -.0012 (PR 180)
        Param("model.bigram.dim", Integer(64, 160, step=16)),  # 128, or 112 (PR 1019)
        Param("model.smear", Choice({"off": None, "on": SmearConfig()})),
        # The convex form needs orthogonal weights and a small vocabulary to pay; the residual one neither (PR 1667).
        Param("model.smear.form", Choice.of(*SmearForm), when=_may_be_convex, otherwise=SmearForm.RESIDUAL),
        Param("model.smear.gate_init", Real(-3.0, 1.0), when=_has_convex_smear),  # 0 in PR 162, -3 on March 19
        Param("model.value_embed", Choice({"off": None, "on": ValueEmbedConfig()}), when=_has_middle_vocab),
        Param("model.value_embed.dim", Choice.of(64, 128)),  # 128 from PR 414 to PR 1218
        Param("model.value_embed.last_layers", Integer(1, 4)),  # 2, as above
    )


def _order_params() -> tuple[Param, ...]:
    return (
        # Off their place loops cost .0007 to .0025, a fourth pass .0016; of the whole stack .025 (PR 363).
        Param("model.loop", Choice({"off": None, "on": LoopConfig(first_layer=4, last_layer=5)}), when=_has_middle),
        Param("model.loop.first_layer", Integer(2, 4)),  # 4 -.002 to -.003 (PR 1204, PR 1285), 3 in PR 1493
        Param("model.loop.last_layer", Integer(4, LAST_LOOPED)),  # 5 in all
        Param("model.loop.passes", Integer(2, 3)),  # 2 at first, 3 from PR 1394 on
        Param("model.loop.start_fraction", Real(0.0, 0.7)),  # .5, then .35; later than 0 -.001 (PR 1285)
        Param("model.loop.scales_skips", Choice.of(False, True)),  # on in PR 340 only
        Param("model.parallel", Choice({"off": None, "on": ParallelConfig(last_layers=1)}), when=_has_free_end),
        Param("model.parallel.form", Choice.of(*ParallelForm)),  # gpt_j -.0006 (PR 1477), two_lane -.002 (PR 1529)
        Param("model.parallel.last_layers", Integer(1, MOST_LANES)),  # 4, then 3 of 11
    )


def _has_wide_heads(recipe: Recipe) -> bool:
    return recipe.model.head_dim >= 32


def _has_scaled_gate(recipe: Recipe) -> bool:
    return recipe.model.gate is not None and recipe.model.gate.form is GateForm.SPARSE


def _has_small_vocab(recipe: Recipe) -> bool:
    return recipe.model.vocab_size <= SMALL_VOCAB


def _has_middle_vocab(recipe: Recipe) -> bool:
    return recipe.model.vocab_size <= MIDDLE_VOCAB


def _may_be_convex(recipe: Recipe) -> bool:
    return _has_small_vocab(recipe) and recipe.model.matrix_init is MatrixInit.ORTHOGONAL


def _has_convex_smear(recipe: Recipe) -> bool:
    return recipe.model.smear is not None and recipe.model.smear.form is SmearForm.CONVEX


def _has_middle(recipe: Recipe) -> bool:
    return recipe.model.num_layers > LAST_LOOPED


def _has_free_end(recipe: Recipe) -> bool:
    """Whether two lanes of any searched length lie behind the loop."""
    loop = recipe.model.loop
    return loop is None or loop.last_layer < recipe.model.num_layers - MOST_LANES
