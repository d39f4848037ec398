"""Predicted bytes against published files, runs of our own and the real codec."""

from typing import Any

import pytest
import torch

from search.growth import std_of
from search.shapes import shapes_of
from search.size import expected_steps, full_run_steps, predicted_bytes, predicted_weight_bytes
from spaces.fields import set_values
from spaces.recipes import NAMES, named_recipe
from trainer.codec import encode
from trainer.config import Budget, Recipe
from trainer.model_config import ModelConfig
from trainer.quantize import quantize
from trainer.roles import Role, role_of
from trainer.store_config import Compressor, Layout
from trainer.train_config import OptimConfig, ScheduleConfig

# Published scripts hold the token embedding in bfloat16: stored as fp16, its numbers end in three zeros, which saves
# 0.31 bytes each (measured, zstd and zlib). This trainer holds it in float32.
BFLOAT16_SAVES = 0.31

PUBLISHED = {
    "naive_baseline": (13_780, 15_815_847),
    "pr122": (11_132, 15_289_740),
    "pr163": (10_169, 13_187_707),
    "pr333": (7_910, 15_924_324),
    "pr340": (8_300, 15_484_261),
    "record_162": (7_379, 15_810_407),
    "record_414": (7_096, 15_487_414),
    "record_1218": (5_967, 15_847_061),
    "record_1493": (4_550, 15_975_300),
    "record_1855": (4_945, 15_865_260),
}

SMALL_BATCH = {"schedule.train_batch_tokens": 131_072}
PLAIN_LR = {**SMALL_BATCH, "schedule.warmdown_fraction": 0.0, "optim.muon_momentum_warmup_fraction": 0.5}
OWN = {**SMALL_BATCH, "schedule.warmdown_fraction": 0.3}
INT6 = {**OWN, "quant.matrix_bits": 6, "quant.embed_bits": 16}
FREE = {"quant.scale_is_floored": False}
RUNS = [
    # Scripts of others on the baseline's shape, where the floor acts; logs in the challenge's repository.
    pytest.param(PLAIN_LR, 1_000, 14_918_346, 0.025, id="no_decay"),
    pytest.param(
        {**PLAIN_LR, "optim.muon_weight_decay": 0.1, "optim.embed_weight_decay": 0.1},
        1_000,
        12_222_586,
        0.02,
        id="decay",
    ),
    pytest.param(
        {
            "optim.matrix_lr": 0.03,
            "optim.muon_momentum_warmup_fraction": 0.31,
            "schedule.warmdown_fraction": 0.746,
        },
        1_608,
        13_475_201,
        0.02,
        id="lower_lr_for_1608_steps",
    ),
    pytest.param(
        {"optim.muon_momentum_warmup_fraction": 0.183, "schedule.warmdown_fraction": 0.439},
        2_735,
        15_577_728,
        0.02,
        id="baseline_for_2735_steps",
    ),
    # Runs of this trainer on one H100, 24 to 120 s.
    pytest.param(OWN, 642, 13_945_617, 0.02, id="own_baseline"),
    pytest.param({}, 89, 11_628_271, 0.02, id="own_baseline_for_89_steps"),
    pytest.param(
        {
            **INT6,
            "compressor": "lzma",
            "model.mlp_mult": 3.0,
            "optim.matrix_lr": 0.0301,
            "optim.muon_weight_decay": 0.036,
            "schedule.warmdown_fraction": 0.258,
        },
        582,
        10_552_837,
        0.02,
        id="own_floored_int6",
    ),
    pytest.param({**INT6, **FREE, "compressor": "zstd"}, 647, 11_834_866, 0.03, id="own_int6"),
    pytest.param(
        {
            **INT6,
            **FREE,
            "quant.clip": "row_max",
            "compressor": "lzma",
            "optim.muon_weight_decay": 0.02,
        },
        425,
        11_903_746,
        0.03,
        id="own_int6_for_425_steps",
    ),
    pytest.param(
        {
            **INT6,
            **FREE,
            "quant.matrix_bits": 7,
            "compressor": "lzma",
            "model.num_layers": 7,
            "model.mlp_mult": 1.5,
            "optim.matrix_lr": 0.0351,
            "optim.muon_weight_decay": 0.0386,
            "schedule.warmdown_fraction": 0.149,
        },
        2_313,
        9_854_012,
        0.02,
        id="own_int7_for_2313_steps",
    ),
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_bytes_are_within_two_percent_of_published_files(name: str) -> None:
    recipe, (steps, published) = named_recipe(name), PUBLISHED[name]
    num_halves = recipe.model.vocab_size * recipe.model.model_dim if recipe.quant.embed_bits == 16 else 0
    expected = published + BFLOAT16_SAVES * num_halves
    assert predicted_weight_bytes(recipe, steps) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("values", "steps", "measured", "tolerance"), RUNS)
def test_bytes_are_near_those_of_other_runs(
    values: dict[str, Any], steps: int, measured: int, tolerance: float
) -> None:
    assert predicted_weight_bytes(set_values(Recipe(), values), steps) == pytest.approx(measured, rel=tolerance)


def gaussian_weights(recipe: Recipe, steps: int) -> dict[str, torch.Tensor]:
    """Weights as the size model takes them to be."""
    generator, weights = torch.Generator().manual_seed(0), dict[str, torch.Tensor]()
    for tensor in shapes_of(recipe):
        mean, std = (1.0, 0.2) if role_of(tensor.name) in {Role.CONTROL, Role.GATE} else (0.0, None)
        std = std_of(tensor, recipe, steps) if std is None else std
        weights[tensor.name] = torch.empty(tensor.shape).normal_(mean, std, generator=generator)
    return weights


SMALL = {"model.num_layers": 2, "model.model_dim": 128, "model.num_heads": 4, "quant.passthrough_numel": 0}
FREE_INT6 = {"quant.matrix_bits": 6, "quant.embed_bits": 6, **FREE}
SIGMAS = {"quant.clip": "sigma", "quant.clip_sigmas": 12.85, **FREE_INT6}
FLOORED = {"quant.matrix_bits": 6, "quant.embed_bits": 8}
INT4 = {"quant.matrix_bits": 4, "quant.embed_bits": 4, **FREE}
TECHNIQUES = {
    **SIGMAS,
    "quant.embed_bits": 8,
    "quant.control_bits": 16,
    "quant.gate_bits": 8,
    "quant.late_k_layers": 1,
    "quant.prune_fraction": 0.3,
    "quant.lqer": {},
    "model.gate.form": "dense",
    "model.bigram": {},
    "model.value_embed": {},
    "model.mlp": "swiglu",
    "model.skip_gates": True,
}
GENERAL = (Compressor.ZLIB, Compressor.LZMA, Compressor.ZSTD, Compressor.BROTLI)
# ZSTD's files of grouped codes are 2 to 12 % larger than of plain ones, which is not modelled: it is never the best.
FILES = [
    *((values, compressor, Layout.PLAIN) for values in (FREE_INT6, INT4) for compressor in GENERAL),
    *((FLOORED, compressor, Layout.PLAIN) for compressor in Compressor),
    *((SIGMAS, compressor, layout) for compressor in (Compressor.ZLIB, Compressor.BROTLI) for layout in Layout),
    *((values, Compressor.ZSTD, Layout.PACKED) for values in (FREE_INT6, INT4, FLOORED)),
    *((TECHNIQUES, compressor, Layout.PLAIN) for compressor in (Compressor.ZSTD, Compressor.RANS)),
    ({**FREE_INT6, "quant.clip": "mse"}, Compressor.ZSTD, Layout.SHUFFLED),
    ({**INT4, "quant.clip": "mse"}, Compressor.RANS, Layout.PLAIN),
]


@pytest.mark.parametrize(("values", "compressor", "layout"), FILES)
def test_bytes_are_those_of_the_codec_on_gaussian_weights(
    values: dict[str, Any], compressor: Compressor, layout: Layout
) -> None:
    recipe = set_values(Recipe(), {**SMALL, **values, "compressor": compressor, "layout": layout})
    stored = quantize(gaussian_weights(recipe, 200), recipe.quant, 2, None)
    actual = len(encode(stored, recipe.quant, 2, compressor, layout))
    assert predicted_weight_bytes(recipe, 200) == pytest.approx(actual, rel=0.05)


def test_the_artifact_is_code_and_weights() -> None:
    assert predicted_bytes(Recipe(), 30_000, 100) == 30_000 + predicted_weight_bytes(Recipe(), 100)
    assert predicted_weight_bytes(Recipe()) == predicted_weight_bytes(Recipe(), full_run_steps(Recipe()))
    assert predicted_bytes(Recipe(), 30_000, 100, factor=0.5) == 30_000 + round(
        predicted_weight_bytes(Recipe(), 100) / 2
    )


def test_a_target_is_met() -> None:
    recipe = set_values(Recipe(), {"quant.target_bytes": 15_000_000})
    assert predicted_bytes(recipe, 30_000) == 15_000_000
    assert predicted_bytes(set_values(recipe, {"quant.target_bytes": 16_000_000}), 30_000) < 15_900_000


@pytest.mark.parametrize(
    "values",
    [
        {"model.num_layers": 10},
        {"model.model_dim": 576},
        {"model.num_kv_heads": 8},
        {"model.mlp_mult": 2.5},
        {"model.vocab_size": 2048},
        {"model.bigram": {}},
        {"model.value_embed": {}},
        {"model.mlp": "swiglu"},
        {"model.gate.form": "dense"},
        {"quant.embed_bits": 16},
        {"quant.late_k_layers": 2},
        {"quant.lqer": {}},
        {"quant.passthrough_numel": 200_000},
    ],
)
def test_more_weights_or_bits_take_more_bytes(values: dict[str, Any]) -> None:
    assert predicted_weight_bytes(set_values(Recipe(), values)) > predicted_weight_bytes(Recipe())


@pytest.mark.parametrize(
    "values",
    [
        {"quant.control_bits": 16},
        {"quant.mlp_bits": 7},
        {"quant.layer_bits": {}},
        {"quant.prune_fraction": 0.05},
        {"quant.clip": "sigma", "quant.scale_is_floored": False},
        {"compressor": "brotli"},
        {"compressor": "rans"},
    ],
)
def test_less_precision_and_better_coding_take_fewer_bytes(values: dict[str, Any]) -> None:
    assert predicted_weight_bytes(set_values(Recipe(), values)) < predicted_weight_bytes(Recipe())


def test_best_is_the_least() -> None:
    sizes = {name: predicted_weight_bytes(set_values(Recipe(), {"compressor": name})) for name in Compressor}
    assert sizes[Compressor.BEST] == min(sizes.values())


def test_twice_the_deviations_at_one_bit_more_are_the_same_bytes() -> None:
    one = {"quant.clip": "sigma", "quant.clip_sigmas": 10.0, "quant.matrix_bits": 6, **FREE}
    other = {**one, "quant.clip_sigmas": 20.0, "quant.matrix_bits": 7, "quant.embed_clip_sigmas": 10.0}
    assert predicted_weight_bytes(set_values(Recipe(), one)) == pytest.approx(
        predicted_weight_bytes(set_values(Recipe(), other)), rel=0.01
    )


def test_weight_decay_saves_bytes_only_where_the_scale_is_floored() -> None:
    floored = Recipe(optim=OptimConfig(matrix_lr=0.02))
    free = set_values(floored, {"quant.scale_is_floored": False})
    decay = {"optim.muon_weight_decay": 0.1}
    assert predicted_weight_bytes(set_values(floored, decay)) < 0.95 * predicted_weight_bytes(floored)
    assert predicted_weight_bytes(set_values(free, decay)) == pytest.approx(predicted_weight_bytes(free), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_named_recipes_fit_the_cap_or_nearly(name: str) -> None:
    assert 11_500_000 < predicted_bytes(named_recipe(name), 40_000) < 16_050_000


@pytest.mark.parametrize("schedule", [ScheduleConfig(warmdown_fraction=0.0), ScheduleConfig(warmdown_fraction=1.0)])
def test_any_schedule_has_a_size(schedule: ScheduleConfig) -> None:
    assert predicted_weight_bytes(Recipe(schedule=schedule), 5) > 0


def test_a_budget_gives_the_steps() -> None:
    assert expected_steps(Recipe(), Budget(train_tokens=524_289)) == 2
    assert expected_steps(Recipe(), Budget(train_seconds=0.001)) == 1
    assert 12_000 < full_run_steps(Recipe()) < 20_000  # 13,780 of the published script
    looped = named_recipe("record_1493")
    assert 3_500 < full_run_steps(looped) < 5_000  # 4,550
    assert full_run_steps(looped) < full_run_steps(set_values(looped, {"model.loop": None}))
    assert isinstance(full_run_steps(Recipe(model=ModelConfig(num_layers=1))), int)
