"""Ready params: how a model is scored, and how it adapts to what has been scored.

The stride is no param: 64 is what scores are compared at, 256 costs .002 and 32 gains nothing.
"""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.eval_config import LoraAdaptConfig, LoraTargets, SgdAdaptConfig

TRAINED_LENGTH, LONGER_WINDOW = 2048, 2560  # PR 1953; four times the trained length gives 1.57
SHORTEST_CHUNK, LONGEST_LORA_CHUNK = 16_384, 256


def params() -> tuple[Param, ...]:
    """EvalConfig, around the records. A score gained by it costs scoring time, which has a limit of its own."""
    return (*_window_params(), *_sgd_params(), *_lora_params())


def _window_params() -> tuple[Param, ...]:
    return (
        Param("evaluation.seq_len", Choice.of(None, LONGER_WINDOW), when=_may_have_longer_windows),
        Param("evaluation.document_mask", Choice.of(False, True)),  # -.011 (03-17)
    )


def _sgd_params() -> tuple[Param, ...]:
    return (
        Param("evaluation.sgd", Choice({"off": None, "on": SgdAdaptConfig()}), when=_fills_chunks),  # -.002 (PR 1493)
        Param("evaluation.sgd.lr", Real(0.0005, 0.02, log=True)),  # .002 (PR 549) to .005
        Param("evaluation.sgd.momentum", Real(0.0, 0.95)),  # .9
        Param("evaluation.sgd.epochs", Integer(1, 4)),  # 3
        Param("evaluation.sgd.chunk_tokens", Choice.of(SHORTEST_CHUNK, 32_768, 65_536)),  # 32,768
    )


def _lora_params() -> tuple[Param, ...]:
    return (
        Param(
            "evaluation.lora", Choice({"off": None, "on": LoraAdaptConfig()}), when=_may_have_lora
        ),  # -.008 (PR 1530)
        Param("evaluation.lora.rank", Integer(8, 96, log=True)),  # 8 (PR 77), 96 (PR 1530), 80 (PR 1855)
        Param("evaluation.lora.alpha", Real(4.0, 192.0, log=True)),  # 8, then 144: -.0006 (PR 1767)
        Param("evaluation.lora.targets", Choice.of(*LoraTargets)),  # all from PR 1530 on
        Param("evaluation.lora.lr", Real(3e-5, 0.02, log=True)),  # .01 of PR 77's, 1e-4 from PR 1530 on
        Param("evaluation.lora.beta1", Real(0.0, 0.95)),  # .9, then 0
        Param("evaluation.lora.beta2", Real(0.9, 0.9995)),  # .95, then .999
        Param("evaluation.lora.weight_decay", Real(0.0, 2.0)),  # 0, .5 (PR 1855), 2 (PR 2135)
        Param("evaluation.lora.chunk_tokens", Choice.of(32, 48, 64, 128, LONGEST_LORA_CHUNK)),  # 256, then 32 and 48
        Param("evaluation.lora.batch_documents", Choice.of(32, 64)),  # 64
        Param("evaluation.lora.keeps_a", Choice.of(False, True)),  # on from PR 1767 on
        Param("evaluation.lora.phases", Integer(0, 3)),  # 1 -.0006 (PR 1610), 3 -.0008 more (PR 1626)
        Param("evaluation.lora.prefix_fraction", Real(0.02, 0.2), when=_has_phases),  # 2,000 or 2,500 of 50,000
        Param("evaluation.lora.phase_lr", Real(0.0002, 0.005, log=True), when=_has_phases),  # .001
    )


def _may_have_longer_windows(recipe: Recipe) -> bool:
    return recipe.schedule.train_seq_len == TRAINED_LENGTH


def _fills_chunks(recipe: Recipe) -> bool:
    return SHORTEST_CHUNK % recipe.eval_seq_len == 0


def _may_have_lora(recipe: Recipe) -> bool:
    return recipe.evaluation.sgd is None and recipe.eval_seq_len >= LONGEST_LORA_CHUNK


def _has_phases(recipe: Recipe) -> bool:
    return recipe.evaluation.lora is not None and recipe.evaluation.lora.phases > 0
