"""Ready params: how a model is scored, and how it adapts to what has been scored."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.eval_config import LoraAdaptConfig, LoraTargets, SgdAdaptConfig

LONGEST_STRIDE = 256
SHORTEST_CHUNK = 16_384


def params() -> tuple[Param, ...]:
    """All of EvalConfig, around the records. A score gained by it costs scoring time, which has a limit of its own."""
    return (*_window_params(), *_sgd_params(), *_lora_params())


def _window_params() -> tuple[Param, ...]:
    return (
        Param("evaluation.seq_len", Choice.of(None, 2048, 4096)),
        Param("evaluation.stride", Choice.of(64, 128, LONGEST_STRIDE), when=_has_long_windows),
        Param("evaluation.document_mask", Choice.of(False, True)),
    )


def _sgd_params() -> tuple[Param, ...]:
    return (
        Param("evaluation.sgd", Choice({"off": None, "on": SgdAdaptConfig()}), when=_fills_chunks),
        Param("evaluation.sgd.lr", Real(0.0005, 0.02, log=True)),
        Param("evaluation.sgd.momentum", Real(0.0, 0.95)),
        Param("evaluation.sgd.epochs", Integer(1, 4)),
        Param("evaluation.sgd.chunk_tokens", Choice.of(SHORTEST_CHUNK, 32_768, 65_536)),
    )


def _lora_params() -> tuple[Param, ...]:
    return (
        Param("evaluation.lora", Choice({"off": None, "on": LoraAdaptConfig()}), when=_may_have_lora),
        Param("evaluation.lora.rank", Choice.of(8, 32, 64, 80, 96)),
        Param("evaluation.lora.alpha", Real(4.0, 192.0, log=True)),
        Param("evaluation.lora.targets", Choice.of(*LoraTargets)),
        Param("evaluation.lora.lr", Real(3e-5, 0.02, log=True)),
        Param("evaluation.lora.beta1", Real(0.0, 0.95)),
        Param("evaluation.lora.beta2", Real(0.9, 0.9995)),
        Param("evaluation.lora.weight_decay", Real(0.0, 2.0)),
        Param("evaluation.lora.chunk_tokens", Choice.of(32, 48, 64, 128, LONGEST_STRIDE)),
        Param("evaluation.lora.batch_documents", Choice.of(32, 64)),
        Param("evaluation.lora.keeps_a", Choice.of(False, True)),
        Param("evaluation.lora.phases", Integer(0, 3)),
        Param("evaluation.lora.prefix_fraction", Real(0.02, 0.2), when=_has_phases),
        Param("evaluation.lora.phase_lr", Real(0.0002, 0.005, log=True), when=_has_phases),
    )


def _has_long_windows(recipe: Recipe) -> bool:
    return recipe.eval_seq_len >= LONGEST_STRIDE


def _fills_chunks(recipe: Recipe) -> bool:
    return SHORTEST_CHUNK % recipe.eval_seq_len == 0


def _may_have_lora(recipe: Recipe) -> bool:
    return recipe.evaluation.sgd is None and _has_long_windows(recipe)


def _has_phases(recipe: Recipe) -> bool:
    return recipe.evaluation.lora is not None and recipe.evaluation.lora.phases > 0
