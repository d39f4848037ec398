"""Quantization-aware training: what the passes of a step see, and what is left of it afterwards."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from trainer_on_cpu import TINY, lively_model, trainer_of, write_tokens

from trainer.config import Recipe
from trainer.model import Gpt
from trainer.qat import StoredWeights
from trainer.quantize import dequantize, quantize, storage_of
from trainer.schedule import variant_at
from trainer.store_config import ClipRule
from trainer.train_config import QatConfig, QatForm

RECIPE = dataclasses.replace(TINY, qat=QatConfig())
NOISY = dataclasses.replace(RECIPE, qat=QatConfig(form=QatForm.NOISE))


def weights_of(model: Gpt) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def is_integer(name: str, weight: Tensor, recipe: Recipe) -> bool:
    return storage_of(name, weight.shape, recipe.quant, recipe.model.num_layers).bits is not None


@pytest.mark.parametrize("clip", [ClipRule.ROW_MAX, ClipRule.QUANTILE, ClipRule.SIGMA])
def test_the_passes_see_the_weights_as_they_will_be_read_back(clip: ClipRule) -> None:
    quant = dataclasses.replace(TINY.quant, clip=clip, clip_sigmas=2.0)
    recipe = dataclasses.replace(RECIPE, quant=quant)
    model = lively_model(recipe.model)
    exact = weights_of(model)
    read_back = dequantize(quantize(exact, recipe.quant, recipe.model.num_layers, None))
    with StoredWeights(model, recipe) as stored:
        stored.refresh()
        for name, weight in weights_of(model).items():
            if is_integer(name, weight, recipe):
                torch.testing.assert_close(weight, read_back[name], rtol=3e-7, atol=0)
                assert not torch.equal(weight, exact[name])
            else:
                assert torch.equal(weight, exact[name])
    assert all(torch.equal(weight, exact[name]) for name, weight in weights_of(model).items())


def gradients_of(model: Gpt, batch: tuple[Tensor, Tensor]) -> Iterator[Tensor]:
    for parameter in model.parameters():
        parameter.grad = None
    model.loss(*batch, False, False).backward()
    return (parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)


def test_gradients_of_the_rounded_weights_land_on_the_exact_ones(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    trainer = trainer_of(tmp_path, RECIPE)
    batch = trainer.loader.next_batch()
    exact = weights_of(trainer.model)
    loss = trainer.accumulate(*batch, variant_at(0.0, RECIPE))
    gradients = [parameter.grad for parameter in trainer.optimizer.parameters]
    rounded = lively_model(RECIPE.model)
    with StoredWeights(rounded, RECIPE) as stored:
        stored.refresh()
        assert loss is not None
        assert torch.equal(loss, rounded.loss(*batch, False, False))
        for got, expected in zip(gradients, gradients_of(rounded, batch), strict=True):
            assert got is not None
            assert torch.equal(got, expected)
    assert not torch.equal(loss, rounded.loss(*batch, False, False))
    assert all(torch.equal(weight, exact[name]) for name, weight in weights_of(trainer.model).items())


def test_noise_is_at_most_half_a_step_and_new_for_each_micro_batch() -> None:
    torch.manual_seed(0)
    model = lively_model(NOISY.model)
    exact = weights_of(model)
    steps = {
        name: tensor.scale_R.float()[:, None]
        for name, tensor in quantize(exact, NOISY.quant, NOISY.model.num_layers, None).items()
        if tensor.scale_R.numel()
    }
    with StoredWeights(model, NOISY) as stored:
        stored.refresh()
        first = weights_of(model)
        stored.refresh()
        second = weights_of(model)
    for name, step in steps.items():
        noise = (first[name] - exact[name]) / step
        assert 0.4 < float(noise.abs().max()) < 0.501
        assert not torch.equal(first[name], second[name])
    assert set(steps) == {name for name in exact if not torch.equal(first[name], exact[name])}


def test_rounding_is_done_once_a_step() -> None:
    model = lively_model(RECIPE.model)
    with StoredWeights(model, RECIPE) as stored:
        stored.refresh()
        before = weights_of(model)
        stored.exact = [torch.zeros_like(weight) for weight in stored.exact]
        stored.refresh()
        assert all(torch.equal(weight, before[name]) for name, weight in weights_of(model).items())


def test_a_full_device_leaves_the_exact_weights(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    trainer = trainer_of(tmp_path, RECIPE)
    exact = weights_of(trainer.model)

    def loss_on_a_full_device(*arguments: object, **named: object) -> Tensor:
        assert not torch.equal(trainer.model.tok_emb, exact["tok_emb"])
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.model.loss = loss_on_a_full_device
    trainer.micro_sequences = 2
    assert trainer.accumulate(*trainer.loader.next_batch(), variant_at(0.0, RECIPE)) is None
    assert all(torch.equal(weight, exact[name]) for name, weight in weights_of(trainer.model).items())
