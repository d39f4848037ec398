"""Every switch of Recipe, found by walking its fields, in a whole run: train, quantize, pack, read back, score.

A new enum member, optional config or number is covered without a line here. Each must change what the run measures:
a setting without an effect is an error. Rows of NEEDS say what else must be on for an effect.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import TINY_SIZES, shrink
from tiny_runs import TINY, measurement_of

from spaces.fields import get_value, is_optional, optional_parent, plain_type, recipe_paths, set_values
from spaces.recipes import NAMES, named_recipe
from trainer.config import Budget, Recipe, check_fits
from trainer.errors import ConfigError

# Four steps, so that what starts at a fraction of a run has time to.
BUDGET = Budget(train_tokens=4 * 256, eval_tokens=384)
CLOCKED = {"train_seconds", "eval_seconds", "step_avg_ms", "peak_memory_bytes"}
NOT_WALKED = {"model.vocab_size"}  # the data's; another one is refused (test_run.py)

# Sizes of sub-configs that fit the tiny recipe's two layers and four steps; all else is their default.
SIZES: Mapping[str, Any] = {
    **TINY_SIZES,
    "model.xsa.last_layers": 1,
    "model.value_embed.last_layers": 1,
    "model.parallel.last_layers": 1,
    "model.loop.first_layer": 0,
    "model.loop.last_layer": 0,
    "model.loop.passes": 2,
    "swa.start_fraction": 0.25,
    "quant.layer_bits.first_layer": 0,
    "quant.layer_bits.last_layer": 0,
    "quant.lqer.num_tensors": 1,
    "evaluation.lora.prefix_fraction": 0.5,
}
SIGMA = {"quant.clip": "sigma", "quant.clip_sigmas": 3.0}
# What else must be on for a field, or for one value of it, to have an effect.
NEEDS: Mapping[str, Mapping[str, Any]] = {
    "model.loop.first_layer": {"model.loop.last_layer": 1},
    "model.matrix_init=orthogonal": {"model.model_dim": 64},  # narrower matrices stay uniform
    "layout=packed": {"quant.matrix_bits": 6},  # 8 bits are a byte anyway
    "quant.clip=hessian_sigma": {"quant.gptq": {}, "quant.clip_sigmas": 3.0},
    "quant.clip_sigmas": SIGMA,
    "quant.embed_clip_sigmas": SIGMA,
    "quant.gate_bits": {"model.gate": {}},
    "quant.hessian_clip": {"quant.clip": "hessian_sigma", "quant.clip_sigmas": 3.0, "quant.gptq": {}},
    "quant.layer_bits.first_layer": {"quant.layer_bits.last_layer": 1},
    "quant.mlp_clip_sigmas": SIGMA,
    "quant.table_bits": {"model.bigram": {}},
    "evaluation.lora.batch_documents": {"evaluation.lora.keeps_a": True},  # documents apart do not see their batch
    "evaluation.lora.phase_lr": {"evaluation.lora.phases": 1},
    "evaluation.lora.prefix_fraction": {"evaluation.lora.phases": 1},
}


BASE = shrink(TINY)


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with values set and sub-configs that they turn on at tiny sizes."""
    on = {parent: {} for path in values if (parent := optional_parent(path)) and get_value(recipe, parent) is None}
    on |= {path: value for path, value in values.items() if is_dataclass(plain_type(recipe_paths()[path]))}
    sizes = {path: size for path, size in SIZES.items() if optional_parent(path) in on}
    return set_values(recipe, {**on, **sizes, **values})


def base_of(path: str, value: Any) -> Recipe:
    """The recipe that a switch is compared with: the tiny one and whatever must be on for the switch to matter."""
    needed = {**NEEDS.get(path, {}), **NEEDS.get(f"{path}={value}", {})}
    parent = optional_parent(path)
    if parent is not None:
        needed = {parent: {}, **needed}
    return with_values(BASE, needed)


def other_numbers(plain: type, now: float | None) -> tuple[float, ...]:
    """Numbers to try: the first that a recipe takes and that changes the run counts."""
    if plain is int:
        return (now + 1, 2 * now, now // 2, 4, 96) if now is not None else (4, 96)
    return (0.5, 2 * now, now / 2, 0.9) if now is not None else (0.5, 2.0)


def switches() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each switch: a field's path and its values to try, of which one must have an effect."""
    for path, hint in recipe_paths().items():
        plain = plain_type(hint)
        now = get_value(base_of(path, ""), path)
        if path in NOT_WALKED:
            continue
        if is_dataclass(plain):
            assert is_optional(hint)
            yield path, ({},)
        elif issubclass(plain, Enum):
            yield from ((path, (member.value,)) for member in plain if member is not now)
        elif plain is bool:
            yield path, (not now,)
        else:
            yield path, other_numbers(plain, now)


SWITCHES = list(switches())


@cache
def measured(recipe: Recipe) -> dict[str, Any]:
    """What a run measures, without what a clock or the machine decides."""
    values = asdict(measurement_of(Path.cwd(), recipe, BUDGET))
    return {name: value for name, value in values.items() if name not in CLOCKED}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, short_documents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the variables of a run set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_PATH", str(short_documents))
    monkeypatch.setenv("TOKENIZER_PATH", str(short_documents / "tokenizer.model"))
    monkeypatch.setenv("SEED", "7")


@pytest.mark.parametrize("path, values", SWITCHES, ids=[f"{path}={values[0]}" for path, values in SWITCHES])
def test_every_switch_runs_and_has_an_effect(path: str, values: tuple[Any, ...]) -> None:
    tried = list[Any]()
    for value in values:
        base = base_of(path, value)
        try:
            recipe = with_values(base, {path: value})
            check_fits(recipe, BUDGET)
        except ConfigError:
            continue
        tried.append(value)
        if measured(recipe) != measured(base):
            return
    pytest.fail(f"{path}: expected an effect of one of {tried}, got none")


def switches_of(recipe: Recipe) -> dict[str, Any]:
    """Which sub-configs are on, and every enum and boolean."""
    values = {path: get_value(recipe, path) for path in recipe_paths()}
    return {
        path: value if isinstance(value, Enum | bool | None) else "a size or a config" for path, value in values.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_named_recipe_runs_with_its_switches_at_tiny_sizes(name: str) -> None:
    tiny = shrink(named_recipe(name))
    assert switches_of(tiny) == switches_of(named_recipe(name))
    measurement = measurement_of(Path.cwd(), set_values(tiny, {"model.vocab_size": 1024}), BUDGET)
    assert 0 < measurement.val_bpb < 5
