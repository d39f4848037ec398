"""Spaces: suggest and fix undo each other on Optuna's own trials, and the ready families reach every field."""

from collections.abc import Callable
from enum import Enum
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from search.spec import FAMILIES
from spaces.fields import get_value, plain_type, recipe_paths, set_values
from spaces.recipes import named_recipe
from spaces.space import Choice, Integer, Param, Real, Space, SpaceError
from trainer.config import Recipe
from trainer.errors import ConfigError
from trainer.model_config import ModelConfig
from trainer.store_config import ClipRule, Compressor, GptqConfig, Layout, QuantConfig
from trainer.train_config import EmaConfig

WHOLE = Space(tuple(param for params in FAMILIES.values() for param in params()))

UNSEARCHED = {"model.vocab_size": "needs a dataset of its own"}


def test_a_family_reaches_every_field() -> None:
    searched = {param.path for param in WHOLE.params}
    assert set(recipe_paths()) - searched == set(UNSEARCHED)


def test_every_member_of_every_enum_is_an_option() -> None:
    domains = {param.path: param.domain for param in WHOLE.params}
    enums = {path: kind for path, hint in recipe_paths().items() if issubclass(kind := plain_type(hint), Enum)}
    assert len(enums) > 10
    for path, kind in enums.items():
        domain = domains[path]
        assert isinstance(domain, Choice)
        assert set(domain.options.values()) == set(kind), path


@pytest.mark.parametrize("params", FAMILIES.values(), ids=FAMILIES.keys())
def test_each_family_holds_the_naive_baseline(params: Callable[[], tuple[Param, ...]]) -> None:
    space = Space(params())
    assert space.suggest(FixedTrial(space.fix(Recipe(), Recipe())), Recipe()) == Recipe()


# The domains of which other systems are points; their bases differ in the vocabulary only.
@pytest.mark.parametrize("name", ["lower_lr", "baseline_ema", "baseline_int6", "pr163", "record_1493", "record_1855"])
def test_the_space_holds_named_recipes(name: str) -> None:
    recipe = named_recipe(name)
    base = set_values(Recipe(), {"model.vocab_size": recipe.model.vocab_size})
    assert WHOLE.suggest(FixedTrial(WHOLE.fix(recipe, base)), base) == recipe


def test_every_end_and_option_of_the_families_is_valid() -> None:
    base = set_values(Recipe(), {"schedule.train_batch_tokens": 786_432, "quant.gptq": {}})
    for param in WHOLE.params:
        match param.domain:
            case Choice(options):
                values = list(options.values())
            case Real(low, high) | Integer(low, high):
                values = [low, high]
        for value in values:
            set_values(base, {param.path: value})


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.sampled_from(["naive_baseline", "pr122", "record_162", "record_1855"]))
def test_every_suggestion_is_valid_and_fix_undoes_it(seed: int, base_name: str) -> None:
    base = named_recipe(base_name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    recipe = WHOLE.suggest(trial, base)
    assert WHOLE.fix(recipe, base) == pytest.approx(trial.params)
    assert WHOLE.suggest(FixedTrial(WHOLE.fix(recipe, base)), base) == recipe


def test_suggestions_reach_what_conditions_guard() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    recipes = [WHOLE.suggest(study.ask(), Recipe()) for _ in range(100)]
    for path in ("model.loop", "model.parallel", "swa", "qat", "evaluation.sgd", "evaluation.lora", "quant.gptq"):
        assert 10 <= sum(get_value(recipe, path) is not None for recipe in recipes) <= 90, path
    assert {recipe.layout for recipe in recipes} == set(Layout)
    looped_lanes = [r for r in recipes if r.model.loop and r.model.parallel]
    assert looped_lanes


def test_trials_store_labels_of_choices() -> None:
    space = Space((Param("compressor", Choice.of(*Compressor)), Param("ema", Choice.of(None, EmaConfig()))))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    space.suggest(trial, Recipe())
    assert trial.params["compressor"] in set(Compressor)
    assert trial.params["ema"] in {"null", next(iter(Choice.of(EmaConfig()).options))}


def test_where_a_condition_does_not_hold_a_field_takes_its_default_or_another_value() -> None:
    def is_plain(recipe: Recipe) -> bool:
        return recipe.quant.clip is not ClipRule.HESSIAN_SIGMA

    base = set_values(Recipe(), {"quant.gptq.damping": 0.5, "quant.hessian_clip": 0.3})
    space = Space(
        (
            Param("quant.clip", Choice.of(ClipRule.SIGMA, ClipRule.HESSIAN_SIGMA)),
            Param("quant.gptq", Choice({"off": None, "on": {}}), when=is_plain, otherwise=GptqConfig(damping=0.25)),
            Param("quant.hessian_clip", Real(0.1, 0.2), when=lambda recipe: not is_plain(recipe)),
        )
    )
    plain = space.suggest(FixedTrial({"quant.clip": "sigma", "quant.gptq": "off"}), base)
    assert (plain.quant.gptq, plain.quant.hessian_clip) == (None, QuantConfig().hessian_clip)
    hessian = space.suggest(FixedTrial({"quant.clip": "hessian_sigma", "quant.hessian_clip": 0.15}), base)
    assert (hessian.quant.gptq, hessian.quant.hessian_clip) == (GptqConfig(damping=0.25), 0.15)
    with pytest.raises(SpaceError, match=r"quant\.gptq: must be .*0\.25.* where it is not searched, got .*0\.5"):
        space.fix(set_values(hessian, {"quant.gptq.damping": 0.5}), base)


def test_a_condition_sees_what_was_suggested() -> None:
    def has_ema(recipe: Recipe) -> bool:
        return recipe.ema is not None

    space = Space(
        (Param("schedule.lr_floor", Real(0.1, 0.2), when=has_ema), Param("ema", Choice({"off": None, "on": {}})))
    )
    assert space.suggest(FixedTrial({"ema": "off"}), Recipe()) == Recipe()
    on = space.suggest(FixedTrial({"ema": "on", "schedule.lr_floor": 0.15}), Recipe())
    assert (on.ema, on.schedule.lr_floor) == (EmaConfig(), 0.15)
    assert space.fix(on, Recipe()) == {"ema": "on", "schedule.lr_floor": 0.15}


def test_fields_of_a_searched_sub_config_are_searched_only_where_it_is_on() -> None:
    space = Space((Param("ema.half_life_fraction", Real(0.01, 0.1)), Param("ema", Choice({"off": None, "on": {}}))))
    assert space.fix(Recipe(), Recipe()) == {"ema": "off"}
    recipe = Recipe(ema=EmaConfig(half_life_fraction=0.02))
    assert space.fix(recipe, Recipe()) == {"ema": "on", "ema.half_life_fraction": 0.02}
    with pytest.raises(SpaceError, match="ema: must be one of off, on"):
        space.fix(Recipe(ema=EmaConfig(half_life_fraction=0.02, start_fraction=0.5)), Recipe())


def test_a_field_of_an_unsearched_sub_config_turns_it_on() -> None:
    space = Space((Param("ema.half_life_fraction", Real(0.01, 0.1)),))
    recipe = space.suggest(FixedTrial({"ema.half_life_fraction": 0.02}), Recipe())
    assert recipe.ema == EmaConfig(half_life_fraction=0.02)
    assert space.fix(recipe, Recipe()) == {"ema.half_life_fraction": 0.02}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.num_layers": 99}, r"model\.num_layers: must be 2 to 8 in steps of 2, got 99"),
        ({"model.num_layers": 5}, "in steps of 2, got 5"),
        ({"optim.matrix_lr": 1.0}, r"optim\.matrix_lr: must be 0\.01 to 0\.1, got 1\.0"),
        ({"quant.matrix_bits": 5}, r"quant\.matrix_bits: must be one of 4, 8, got 5"),
        ({"model.rope_base": 5.0}, r"model\.rope_base: must be 10000\.0 where it is not searched, got 5\.0"),
        ({"ema": {}}, "ema: must be null where it is not searched"),
        ({"model.num_heads": 16, "model.num_kv_heads": 16}, r"model\.num_heads: must be 8 where it is not searched"),
    ],
)
def test_fix_refuses_what_is_no_point_of_the_space(values: dict[str, Any], message: str) -> None:
    space = Space(
        (
            Param("model.num_layers", Integer(2, 8, step=2)),
            Param("optim.matrix_lr", Real(0.01, 0.1, log=True)),
            Param("quant.matrix_bits", Choice.of(4, 8)),
        )
    )
    base = set_values(Recipe(), {"model.num_layers": 4})
    with pytest.raises(SpaceError, match=message):
        space.fix(set_values(base, values), base)


def test_fix_names_a_contradiction_with_unsearched_fields() -> None:
    space = Space((Param("model.num_kv_heads", Choice.of(4, 16)),))
    recipe = Recipe(model=ModelConfig(num_heads=16, num_kv_heads=16))
    with pytest.raises(SpaceError, match=r"model\.num_heads: .*fields that the space does not search"):
        space.fix(recipe, Recipe())


def test_contradictory_suggestions_are_the_recipes_own_error() -> None:
    space = Space((Param("model.num_kv_heads", Integer(1, 8)),))
    with pytest.raises(ConfigError, match=r"model\.num_heads"):
        space.suggest(FixedTrial({"model.num_kv_heads": 3}), Recipe())


def test_wrong_definitions_are_refused() -> None:
    with pytest.raises(SpaceError, match="low: must be at most high 1, got 2"):
        Real(2, 1)
    with pytest.raises(SpaceError, match="low: must be positive where log is true, got 0"):
        Real(0, 1, log=True)
    with pytest.raises(SpaceError, match="step: must divide high - low = 5, got 2"):
        Integer(0, 5, step=2)
    with pytest.raises(SpaceError, match="step: must be 1 where log is true"):
        Integer(1, 5, step=2, log=True)
    with pytest.raises(SpaceError, match="choices: must be different values, got 4, 4"):
        Choice.of(4, 4)
    with pytest.raises(SpaceError, match="choices: must name at least one value"):
        Choice.of()
    with pytest.raises(SpaceError, match=r"did you mean model\.num_layers"):
        Param("model.num_layer", Integer(1, 2))
    with pytest.raises(SpaceError, match=r"model\.mlp_mult: must be searched by a Real or a Choice"):
        Param("model.mlp_mult", Integer(1, 2))
    with pytest.raises(SpaceError, match="compressor: must be searched by a Choice"):
        Param("compressor", Real(1, 2))
    with pytest.raises(SpaceError, match=r"quant\.matrix_bits: must be a whole number, got 'six'"):
        Param("quant.matrix_bits", Choice.of("six"))
    with pytest.raises(SpaceError, match="ema: must be searched by one param, got 2"):
        Space((Param("ema", Choice.of(None)), Param("ema", Choice.of(None))))


def test_a_choice_of_values_keeps_them() -> None:
    choice = Choice.of(4, None, True, 0.5, "text", EmaConfig())
    assert list(choice.options)[:5] == ["4", "null", "true", "0.5", "text"]
    assert get_value(Space((Param("ema", Choice.of({})),)).suggest(FixedTrial({"ema": "{}"}), Recipe()), "ema")
