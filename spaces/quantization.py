"""Ready params for a first study: how weights are quantized and compressed. storage has the rest of it."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.store_config import ClipRule, Compressor, GptqConfig, Layout

SIGMA_BITS = 6  # of matrices that clip at deviations, as in all records since PR 1394


def params() -> tuple[Param, ...]:
    """Bits, clip, GPTQ and compressor."""
    return (
        Param("quant.clip", Choice.of(*ClipRule)),  # sigma in all records since PR 1394
        # Bytes go by bits - log2 sigmas: twice the deviations at one bit more are nearly the same codes. So with
        # deviations the clip is searched and the bits are not.
        Param("quant.matrix_bits", Integer(4, 8), when=has_row_clip, otherwise=SIGMA_BITS),  # 8 at first, 6 from March
        Param("quant.embed_bits", Choice.of(6, 7, 8, 16)),  # 16 -.007 at V 1024 (PR 42); 8, then 7 at V 8192 (PR 1586)
        # A step that follows the row's deviation has no use for a floor.
        Param("quant.scale_is_floored", Choice.of(True, False), when=has_row_clip, otherwise=False),  # off in PR 162
        Param("quant.clip_sigmas", Real(5.0, 32.0, log=True), when=_has_sigmas),  # 12.85 (PR 1394), 13 (PR 1855)
        Param("quant.mlp_clip_sigmas", Real(5.0, 32.0, log=True), when=_has_sigmas),  # 10 to 12 (PR 1769, PR 1855)
        Param("quant.embed_clip_sigmas", Real(6.0, 40.0, log=True), when=_has_embed_sigmas),  # 20 of 8 bits, 14 of 7
        # The clip that goes by Hessians needs them: there it is on.
        Param("quant.gptq", Choice({"off": None, "on": GptqConfig()}), when=_is_free_of_gptq, otherwise=GptqConfig()),
        # rans makes record 1493's file 0.2 MB smaller than brotli does; best is the smaller of the two.
        Param("compressor", Choice.of(*Compressor)),
        Param("layout", Choice.of(*Layout), when=_has_layout),  # shuffled from PR 1218 on, grouped in PR 1855
    )


def has_row_clip(recipe: Recipe) -> bool:
    """Whether rows are clipped by their largest values, and bits make the step."""
    return not _has_sigmas(recipe)


def has_integer_embedding(recipe: Recipe) -> bool:
    """Whether token tables are rounded at all."""
    return recipe.quant.embed_bits < 16


def has_hessian_clip(recipe: Recipe) -> bool:
    """Whether the clip goes by Hessians."""
    return recipe.quant.clip is ClipRule.HESSIAN_SIGMA


def _has_sigmas(recipe: Recipe) -> bool:
    return recipe.quant.clip in {ClipRule.SIGMA, ClipRule.HESSIAN_SIGMA}


def _has_embed_sigmas(recipe: Recipe) -> bool:
    return _has_sigmas(recipe) and has_integer_embedding(recipe)


def _is_free_of_gptq(recipe: Recipe) -> bool:
    return not has_hessian_clip(recipe)


def _has_layout(recipe: Recipe) -> bool:
    return recipe.compressor not in {Compressor.RANS, Compressor.BEST}
