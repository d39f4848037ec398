"""The weight file of a run: made from trained weights, written, and read back into a model."""

from pathlib import Path

import torch
from torch import Tensor

from trainer.codec import decode, encode
from trainer.config import Recipe
from trainer.fit import fit_to_target
from trainer.gptq import collect_hessians
from trainer.loop import Trainer
from trainer.model import Gpt
from trainer.quantize import StoredTensor, dequantize, quantize


def stored_weights(trainer: Trainer, most_tokens: int | None) -> dict[str, StoredTensor]:
    """The stored form of a trainer's weights.

    Args:
        most_tokens: of training text to read for Hessians, where not as many as the recipe asks for.
    """
    weights = {name: parameter.detach() for name, parameter in trainer.model.named_parameters()}
    return quantize(weights, trainer.recipe.quant, trainer.recipe.model.num_layers, hessians_of(trainer, most_tokens))


def hessians_of(trainer: Trainer, most_tokens: int | None) -> dict[str, Tensor] | None:
    """Hessians over the next training text, summed over ranks; None where nothing is rounded by them."""
    gptq = trainer.recipe.quant.gptq
    if gptq is None:
        return None
    tokens = gptq.calibration_tokens if most_tokens is None else min(gptq.calibration_tokens, most_tokens)
    batches = trainer.calibration_batches(tokens)
    hessians = collect_hessians(trainer.model, batches, trainer.recipe.schedule.document_mask)
    trainer.environment.sum_tensors(list(hessians.values()))
    return hessians


def write_weights(path: Path, stored: dict[str, StoredTensor], recipe: Recipe, code_bytes: int) -> int:
    """Write the weight file, thinned out to the recipe's target if it has one; returns its bytes.

    Args:
        code_bytes: that count towards the target too.
    """
    quant, num_layers, compressor, layout = recipe.quant, recipe.model.num_layers, recipe.compressor, recipe.layout
    if quant.target_bytes is not None:
        most = quant.target_bytes - code_bytes
        stored = fit_to_target(stored, quant, num_layers, compressor, layout, most)
    return path.write_bytes(encode(stored, quant, num_layers, compressor, layout))


@torch.no_grad()
def read_weights(path: Path, model: Gpt, recipe: Recipe) -> None:
    """Replace a model's weights by those of a weight file.

    Raises:
        ArtifactError: the file is damaged.
    """
    parameters = dict(model.named_parameters())
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    quant, num_layers = recipe.quant, recipe.model.num_layers
    weights = dequantize(decode(path.read_bytes(), shapes, quant, num_layers, recipe.compressor, recipe.layout))
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])
