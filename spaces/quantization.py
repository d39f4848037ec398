"""Ready params: how weights are quantized and compressed."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.store_config import ClipRule, Compressor, GptqConfig, LayerBitsConfig, Layout, LqerConfig

BATCH_TOKENS = 98_304  # a rank's share of a batch of the records, which count calibration in batches


def params() -> tuple[Param, ...]:
    """All of QuantConfig, the compressor and its layout."""
    return _bits_params() + _clip_params() + _rounding_params() + _file_params()


def _bits_params() -> tuple[Param, ...]:
    return (
        Param("quant.matrix_bits", Integer(4, 8)),
        Param("quant.mlp_bits", Choice.of(None, 4, 5, 6, 7, 8)),
        Param("quant.embed_bits", Choice.of(6, 7, 8, 16)),
        Param("quant.table_bits", Choice.of(None, 6, 8), when=_has_tables),
        Param("quant.gate_bits", Choice.of(8, 16), when=_has_gates),
        Param("quant.control_bits", Choice.of(16, 32)),
        Param("quant.passthrough_numel", Choice.of(8_192, 65_536)),
        Param("quant.late_k_layers", Integer(0, 2)),
        Param("quant.layer_bits", Choice({"off": None, "on": LayerBitsConfig()})),
        Param("quant.layer_bits.first_layer", Integer(1, 4)),
        Param("quant.layer_bits.last_layer", Integer(5, 9)),
        Param("quant.layer_bits.bits", Integer(4, 8)),
    )


def _clip_params() -> tuple[Param, ...]:
    return (
        Param("quant.clip", Choice.of(*ClipRule)),
        # A step that follows the row's deviation has no use for a floor.
        Param("quant.scale_is_floored", Choice.of(True, False), when=_has_row_clip, otherwise=False),
        # Twice the deviations at one bit more are nearly the same codes: bytes go by bits - log2 sigmas.
        Param("quant.clip_sigmas", Real(4.0, 24.0, log=True), when=_has_sigmas),
        Param("quant.mlp_clip_sigmas", Real(4.0, 24.0, log=True), when=_has_sigmas),
        Param("quant.embed_clip_sigmas", Real(6.0, 32.0, log=True), when=_has_embed_sigmas),
        Param("quant.hessian_clip", Real(0.05, 0.5), when=_has_hessian_sigmas),
    )


def _rounding_params() -> tuple[Param, ...]:
    return (
        Param("quant.prune_fraction", Real(0.0, 0.05)),
        Param("quant.target_bytes", Choice.of(None, 15_950_000)),
        # The clip that goes by Hessians needs them: there it is on.
        Param("quant.gptq", Choice({"off": None, "on": GptqConfig()}), when=_is_free_of_gptq, otherwise=GptqConfig()),
        Param("quant.gptq.calibration_tokens", Choice.of(*(n * BATCH_TOKENS for n in (4, 8, 16, 32, 64)))),
        Param("quant.gptq.damping", Real(0.002, 0.05, log=True)),
        Param("quant.gptq.rounds_embedding", Choice.of(True, False), when=_has_integer_embedding),
        Param("quant.lqer", Choice({"off": None, "on": LqerConfig()})),
        Param("quant.lqer.rank", Choice.of(2, 4, 8)),
        Param("quant.lqer.num_tensors", Integer(1, 6)),
        Param("quant.lqer.group_size", Choice.of(32, 64, 128)),
    )


def _file_params() -> tuple[Param, ...]:
    return (
        Param("compressor", Choice.of(*Compressor)),
        Param("layout", Choice.of(*Layout), when=_has_layout),
    )


def _has_tables(recipe: Recipe) -> bool:
    return recipe.model.bigram is not None or recipe.model.value_embed is not None


def _has_gates(recipe: Recipe) -> bool:
    return recipe.model.gate is not None


def _has_sigmas(recipe: Recipe) -> bool:
    return recipe.quant.clip in {ClipRule.SIGMA, ClipRule.HESSIAN_SIGMA}


def _has_row_clip(recipe: Recipe) -> bool:
    return not _has_sigmas(recipe)


def _has_integer_embedding(recipe: Recipe) -> bool:
    return recipe.quant.embed_bits < 16


def _has_embed_sigmas(recipe: Recipe) -> bool:
    return _has_sigmas(recipe) and _has_integer_embedding(recipe)


def _has_hessian_sigmas(recipe: Recipe) -> bool:
    return recipe.quant.clip is ClipRule.HESSIAN_SIGMA


def _is_free_of_gptq(recipe: Recipe) -> bool:
    return recipe.quant.clip is not ClipRule.HESSIAN_SIGMA


def _has_layout(recipe: Recipe) -> bool:
    return recipe.compressor not in {Compressor.RANS, Compressor.BEST}
