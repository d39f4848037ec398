"""Ready params: how weights are quantized and compressed."""

from spaces.space import Choice, Integer, Param
from trainer.store_config import ClipRule, Compressor


def params() -> tuple[Param, ...]:
    """All of QuantConfig, and the compressor."""
    return (
        Param("quant.matrix_bits", Integer(4, 8)),
        Param("quant.embed_bits", Choice.of(6, 7, 8, 16)),
        Param("quant.clip", Choice.of(*ClipRule)),
        Param("quant.scale_is_floored", Choice.of(True, False)),
        Param("quant.passthrough_numel", Choice.of(8_192, 65_536)),
        Param("compressor", Choice.of(*Compressor)),
    )
