"""Recipes at sizes that a CPU trains in parts of a second: the same switches, small numbers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from spaces.fields import get_value, set_values
from trainer.config import Recipe

# Layers stay, for other fields count them; so does the vocabulary, which is the data's. Where a value is None in a
# recipe, or the sub-config that holds it is, it stays so.
TINY_SIZES: Mapping[str, Any] = MappingProxyType(
    {
        "model.model_dim": 32,
        "model.num_heads": 2,
        "model.num_kv_heads": 1,
        "model.rope_dims": 8,
        "model.rope_ntk_length": 32,
        "model.bigram.buckets": 128,
        "model.bigram.dim": 8,
        "model.value_embed.dim": 16,
        "schedule.train_batch_tokens": 256,
        "schedule.train_seq_len": 64,
        "quant.passthrough_numel": 256,
        "quant.gptq.calibration_tokens": 512,
        "quant.lqer.group_size": 8,
        "evaluation.seq_len": 64,
        "evaluation.stride": 32,
        "evaluation.sgd.chunk_tokens": 128,
        "evaluation.lora.rank": 2,
        "evaluation.lora.chunk_tokens": 16,
        "evaluation.lora.batch_documents": 4,
    }
)


def shrink(recipe: Recipe) -> Recipe:
    """The recipe with its switches as they are and its sizes tiny."""
    return set_values(
        recipe, {path: value for path, value in TINY_SIZES.items() if get_value(recipe, path) is not None}
    )
