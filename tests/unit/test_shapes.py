"""The tensors of a recipe as the size model lists them: those that the model has."""

import pytest
import torch
from hypothesis import given, settings
from random_recipes import models

from search.flops import flops_per_token
from search.shapes import num_parameters, shapes_of
from spaces.fields import set_values
from spaces.recipes import NAMES, named_recipe
from trainer.config import Recipe
from trainer.model import new_model
from trainer.model_config import ModelConfig

PUBLISHED = {
    "naive_baseline": 17_059_912,
    "pr122": 19_941_440,
    "pr163": 16_864_760,
    "pr333": 25_388_121,
    "pr340": 18_887_248,
    "record_162": 22_368_841,
    "record_414": 26_993_756,
    "record_1218": 34_401_371,
    "record_1493": 35_944_536,
    "record_1855": 35_945_671,
}


def shapes_of_model(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = new_model(config, torch.float32, seed=0)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def listed(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in shapes_of(recipe)}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_systems_have_their_published_parameters(name: str, count: int) -> None:
    assert num_parameters(named_recipe(name)) == count


@pytest.mark.parametrize("name", NAMES)
def test_named_recipes_have_the_models_tensors(name: str) -> None:
    recipe = named_recipe(name)
    assert listed(recipe) == shapes_of_model(recipe.model)


@settings(max_examples=60, deadline=None)
@given(models(max_layers=6, max_width=8))
def test_any_recipe_has_the_models_tensors(model: ModelConfig) -> None:
    assert listed(Recipe(model=model)) == shapes_of_model(model)


def test_arithmetic_of_the_naive_baseline() -> None:
    # 17,039,360 weights of matrices, the tied embedding once; 9 causal attentions over 1,024 tokens.
    assert flops_per_token(Recipe()) == 6 * 17_039_360 + 6 * 1024 * 512 * 9


def test_arithmetic_counts_every_pass_of_a_loop() -> None:
    recipe = set_values(Recipe(), {"model.loop": {"first_layer": 4, "last_layer": 4, "passes": 3}})
    plain, looped = flops_per_token(recipe, is_looped=False), flops_per_token(recipe)
    assert plain == flops_per_token(Recipe())
    block = 2 * 512 * 512 + 2 * 256 * 512 + 2 * 512 * 1024
    assert looped - plain == 2 * (6 * block + 6 * 1024 * 512)


def test_longer_sequences_and_gates_take_more_arithmetic() -> None:
    for values in ({"schedule.train_seq_len": 2048}, {"model.gate.form": "dense"}, {"model.mlp": "swiglu"}):
        assert flops_per_token(set_values(Recipe(), values)) > flops_per_token(Recipe())
