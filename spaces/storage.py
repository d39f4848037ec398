"""Ready params: what quantization leaves of how weights are stored, such as exceptions, rounding and corrections."""

from spaces.quantization import has_hessian_clip, has_integer_embedding, has_row_clip
from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.store_config import LayerBitsConfig, LqerConfig


def params() -> tuple[Param, ...]:
    """All of QuantConfig that the family quantization does not have."""
    return _exception_params() + _rounding_params() + _correction_params()


def _exception_params() -> tuple[Param, ...]:
    """Tensors stored in other bits than the rest. Layers of their own only where bits are searched at all."""
    return (
        Param("quant.mlp_bits", Choice.of(None, 4, 5, 6, 7, 8), when=has_row_clip),  # 5 saves 1.86 MB (PR 180)
        Param("quant.table_bits", Choice.of(None, 6, 8), when=_has_tables),  # 6 in PR 162
        Param("quant.gate_bits", Choice.of(8, 16), when=_has_gates),  # 8 saves 40 KB of dense gates (PR 1736)
        Param("quant.control_bits", Choice.of(16, 32)),  # 32 at first, 16 in the records
        Param("quant.passthrough_numel", Choice.of(8_192, 65_536)),  # 65,536 in most, 8,192 in PR 162
        Param("quant.late_k_layers", Integer(0, 2), when=_has_no_gptq),  # 1 in PR 162, 2 in PR 333; none with GPTQ
        Param("quant.layer_bits", Choice({"off": None, "on": LayerBitsConfig()}), when=has_row_clip),  # PR 340 only
        Param("quant.layer_bits.first_layer", Integer(1, 4)),
        Param("quant.layer_bits.last_layer", Integer(5, 9)),
        Param("quant.layer_bits.bits", Integer(4, 8)),
    )


def _rounding_params() -> tuple[Param, ...]:
    return (
        Param("quant.hessian_clip", Real(0.05, 0.6, log=True), when=has_hessian_clip),  # .175 in PR 1412
        Param(
            "quant.gptq.calibration_tokens", Integer(393_216, 6_291_456, log=True), when=_has_gptq
        ),  # 4 to 64 batches
        Param("quant.gptq.damping", Real(0.002, 0.05, log=True), when=_has_gptq),  # .01 in all
        Param("quant.gptq.rounds_embedding", Choice.of(True, False), when=_rounds_embedding),  # from PR 1394 on
    )


def _correction_params() -> tuple[Param, ...]:
    return (
        Param(
            "quant.prune_fraction", Choice.of(0.0, 0.01, 0.02, 0.03, 0.05)
        ),  # .02 in PR 333, .03 in PR 180: bytes only
        Param("quant.target_bytes", Choice.of(None, 15_950_000)),  # lets borderline runs fit (PR 1019)
        Param("quant.lqer", Choice({"off": None, "on": LqerConfig()})),  # -.0014 for 30 KB (PR 1851)
        Param("quant.lqer.rank", Integer(2, 8, log=True)),  # 4
        Param("quant.lqer.num_tensors", Integer(1, 6)),  # 3
        Param("quant.lqer.group_size", Choice.of(32, 64, 128)),  # 64; 32 in PR 2135
    )


def _has_tables(recipe: Recipe) -> bool:
    return recipe.model.bigram is not None or recipe.model.value_embed is not None


def _has_gates(recipe: Recipe) -> bool:
    return recipe.model.gate is not None


def _has_gptq(recipe: Recipe) -> bool:
    return recipe.quant.gptq is not None


def _has_no_gptq(recipe: Recipe) -> bool:
    return not _has_gptq(recipe)


def _rounds_embedding(recipe: Recipe) -> bool:
    return _has_gptq(recipe) and has_integer_embedding(recipe)
