"""How a recipe's weights are stored, as techniques with their sources."""

from collections.abc import Iterator
from typing import assert_never

from search.technique import BASELINE, Technique
from search.techniques_model import last_phrase
from trainer.config import Recipe
from trainer.store_config import ClipRule, Compressor, Layout, QuantConfig

CLIP_SOURCES = {
    ClipRule.ROW_MAX: "PR 162",
    ClipRule.QUANTILE: BASELINE,
    ClipRule.MSE: "PR 374",
    ClipRule.SIGMA: "PR 1394",
    ClipRule.HESSIAN_SIGMA: "PR 1412",
}
COMPRESSOR_SOURCES = {
    Compressor.ZLIB: BASELINE,
    Compressor.LZMA: "PR 549",
    Compressor.ZSTD: "PR 162",
    Compressor.BROTLI: "PR 1218",
    Compressor.RANS: "arXiv 1311.2540",
    Compressor.BEST: "Caddie",
}
LAYOUT_SOURCES = {Layout.PACKED: "PR 122", Layout.SHUFFLED: "PR 1218", Layout.GROUPED: "PR 1855"}


def storage_techniques(recipe: Recipe) -> Iterator[Technique]:
    """Quantization and compression."""
    quant = recipe.quant
    yield rows_technique(recipe)
    if quant.layer_bits is not None:
        run = quant.layer_bits
        yield Technique(f"int{run.bits} in layers {run.first_layer} to {run.last_layer}", "PR 340")
    if quant.late_k_layers:
        yield Technique(f"fp16 keys in {last_phrase(quant.late_k_layers, recipe.model)}", "PR 162")
    if quant.gate_bits == 8 and recipe.model.gate is not None:
        yield Technique("attention gates in 8 bits", "PR 1736")
    yield from _correction_techniques(quant)
    if quant.prune_fraction:
        yield Technique(f"{quant.prune_fraction:.1%} of each matrix pruned", "PR 180")
    if quant.target_bytes is not None:
        yield Technique(f"codes pruned to {quant.target_bytes:,} bytes", "PR 1019")


def rows_technique(recipe: Recipe) -> Technique:
    """Bits, clip and compressor, which belong together."""
    quant, sources = recipe.quant, [CLIP_SOURCES[recipe.quant.clip]]
    embed = "fp16" if quant.embed_bits == 16 else f"int{quant.embed_bits}"
    mlp = "" if quant.mlp_bits in {None, quant.matrix_bits} else f" (MLP int{quant.mlp_bits})"
    rows = f"int{quant.matrix_bits}{mlp} rows clipped at {clip_phrase(quant)}"
    layout = "" if recipe.layout is Layout.PLAIN else f" of {recipe.layout.value} codes"
    sources += ["PR 42"] if quant.embed_bits == 16 else []
    sources += ["PR 180"] if mlp else []
    sources += [COMPRESSOR_SOURCES[recipe.compressor]]
    sources += [LAYOUT_SOURCES[recipe.layout]] if layout else []
    phrase = f"{rows}, embedding {embed}, {compressor_name(recipe.compressor)}{layout}"
    return Technique(phrase, ", ".join(dict.fromkeys(sources)))


def _correction_techniques(quant: QuantConfig) -> Iterator[Technique]:
    """What makes up for rounding errors."""
    if quant.gptq is not None:
        phrase = f"GPTQ over {quant.gptq.calibration_tokens:,} training tokens"
        yield Technique(phrase, "PR 1019, PR 1060, arXiv 2210.17323")
    if quant.lqer is not None:
        phrase = f"LQER of rank {quant.lqer.rank} on {quant.lqer.num_tensors} tensors"
        yield Technique(phrase, "PR 1851, arXiv 2402.02446")


def compressor_name(compressor: Compressor) -> str:
    """The compressor."""
    own = {Compressor.RANS: "rANS", Compressor.BEST: "the best of all compressors"}
    return own.get(compressor, compressor.value)


def clip_phrase(quant: QuantConfig) -> str:
    """Where rows are clipped."""
    match quant.clip:
        case ClipRule.ROW_MAX:
            return "their row maximum"
        case ClipRule.QUANTILE:
            return "their quantile"
        case ClipRule.MSE:
            return "their quantile of least error"
        case ClipRule.SIGMA | ClipRule.HESSIAN_SIGMA:
            own = (("MLP", quant.mlp_clip_sigmas), ("embedding", quant.embed_clip_sigmas))
            others = [f"{name} {sigmas:g}" for name, sigmas in own if sigmas not in {None, quant.clip_sigmas}]
            weighed = " by importance" if quant.clip is ClipRule.HESSIAN_SIGMA else ""
            return f"{quant.clip_sigmas:g} sigmas{weighed}" + (f" ({', '.join(others)})" if others else "")
        case _:
            assert_never(quant.clip)
