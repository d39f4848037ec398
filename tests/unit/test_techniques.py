"""Recipes in words: every part that is on has its phrase."""

import re

import pytest
from hypothesis import given, settings
from random_recipes import recipes

from search.technique import BASELINE
from search.techniques import technique_phrases, techniques_by_part
from spaces.fields import get_value, optional_parent, recipe_paths
from spaces.recipes import named_recipe
from trainer.config import Recipe
from trainer.store_config import QuantConfig
from trainer.train_config import EmaConfig


def words(name: str) -> str:
    return ", ".join(technique_phrases(named_recipe(name)))


def test_techniques_name_what_the_recipe_has() -> None:
    recipe = Recipe(ema=EmaConfig(), quant=QuantConfig(matrix_bits=6, embed_bits=16))
    text = ", ".join(technique_phrases(recipe))
    assert "weights averaged (half-life 3.3% of the run)" in text
    assert "int6 rows clipped at their quantile, embedding fp16, zlib" in text
    assert "9 layers, width 512" in text


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        ("pr163", ["SwiGLU MLP of 768", "262,144 tokens a step"]),
        ("pr340", ["SwiGLU MLP of 682", "power-law initial embedding", "int6 in layers 3 to 7"]),
        ("pr333", ["XSA (mean share) in the last 4 layers", "(MLP int5)", "2.0% of each matrix pruned"]),
        ("pr122", ["NorMuon", "rounded weights in training from 0%", "zstd of packed codes"]),
        ("record_162", ["SmearGate", "bigram hash table of 4096 x 128", "fp16 keys in the last layer"]),
        ("record_414", ["rotary on 16 of 64 channels", "value embeddings of 128", "quantile of least error"]),
        ("record_1218", ["coprime-stride order of the data", "GPTQ over 6,291,456 training tokens"]),
        ("record_1493", ["layers 3 to 5 passed 3 times from 35%", "parallel blocks", "score-first SGD"]),
        (
            "record_1855",
            ["two-lane blocks", "sparse attention gates of scale 0.5", "LQER", "residual SmearGate", "LoRA"],
        ),
    ],
)
def test_published_systems_in_words(name: str, phrases: list[str]) -> None:
    for phrase in phrases:
        assert phrase in words(name), phrase


@settings(max_examples=60, deadline=None)
@given(recipes())
def test_every_part_that_is_on_adds_a_phrase(recipe: Recipe) -> None:
    sub_configs = {parent for path in recipe_paths() if (parent := optional_parent(path))}
    assert {"ema", "model.xsa", "quant.gptq", "evaluation.lora"} <= sub_configs
    num_on = sum(get_value(recipe, path) is not None for path in sub_configs)
    assert len(technique_phrases(recipe)) >= len(technique_phrases(Recipe())) + num_on


SOURCE = re.compile(rf"({re.escape(BASELINE)}|PR \d+|(.+ )?arXiv \d{{4}}\.\d{{4,5}}|Muon by Keller Jordan 2024|Caddie)")


@settings(max_examples=60, deadline=None)
@given(recipes())
def test_every_technique_names_a_pull_request_or_a_paper(recipe: Recipe) -> None:
    for part in techniques_by_part(recipe).values():
        for technique in part:
            assert all(SOURCE.fullmatch(one) for one in technique.source.split(", ")), technique


@pytest.mark.parametrize(
    ("name", "phrase", "source"),
    [
        ("pr163", "SwiGLU MLP of 768", "PR 163, arXiv 2002.05202"),
        ("pr163", "rotary base 50,000", "PR 163, arXiv 2104.09864"),
        ("pr122", "NorMuon and Adam", "PR 122, arXiv 2510.05491"),
        ("record_1218", "query gains from 4 on", "PR 1218"),
        ("record_1493", "XSA in all layers", "PR 265"),
        ("record_1855", "sparse attention gates of scale 0.5", "PR 1787"),
        ("record_1855", "LQER of rank 4 on 3 tensors", "PR 1851, arXiv 2402.02446"),
    ],
)
def test_sources_of_known_techniques(name: str, phrase: str, source: str) -> None:
    found = {one.phrase: one.source for part in techniques_by_part(named_recipe(name)).values() for one in part}
    assert found[phrase] == source
