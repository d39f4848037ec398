"""Spaces: suggest and fix undo each other on Optuna's own trials."""

from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial

from spaces.fields import get_value, set_values
from spaces.space import Choice, Integer, Param, Real, Space, SpaceError
from trainer.config import Recipe
from trainer.errors import ConfigError
from trainer.model_config import ModelConfig, SmearConfig, SmearForm
from trainer.store_config import ClipRule, Compressor, GptqConfig, QuantConfig
from trainer.train_config import EmaConfig


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


def test_a_field_of_a_sub_config_takes_its_other_value_only_where_the_sub_config_is_on() -> None:
    space = Space(
        (
            Param("model.smear", Choice({"off": None, "on": SmearConfig()})),
            Param("model.smear.form", Choice.of(*SmearForm), when=_has_ema, otherwise=SmearForm.RESIDUAL),
        )
    )
    assert space.suggest(FixedTrial({"model.smear": "off"}), Recipe()) == Recipe()
    on = space.suggest(FixedTrial({"model.smear": "on"}), Recipe())
    assert on.model.smear == SmearConfig(form=SmearForm.RESIDUAL)
    assert space.fix(on, Recipe()) == {"model.smear": "on"}
    alone = Space((space.params[1],))
    assert alone.suggest(FixedTrial({}), Recipe()) == Recipe()


def test_a_suggested_value_is_snapped_to_one_that_stays() -> None:
    def to_tenths(recipe: Recipe, value: float) -> float:
        return round(value, 1) + recipe.ema.start_fraction if recipe.ema else round(value, 1)

    space = Space(
        (
            Param("schedule.lr_floor", Real(0.0, 1.0), snap=to_tenths),
            Param("ema", Choice({"off": None, "on": EmaConfig(start_fraction=0.5)})),
        )
    )
    snapped = space.suggest(FixedTrial({"schedule.lr_floor": 0.123, "ema": "off"}), Recipe())
    assert snapped.schedule.lr_floor == 0.1
    assert space.suggest(FixedTrial(space.fix(snapped, Recipe())), Recipe()) == snapped
    on = space.suggest(FixedTrial({"schedule.lr_floor": 0.123, "ema": "on"}), Recipe())
    assert on.schedule.lr_floor == 0.6  # it saw what was suggested without a condition
    with pytest.raises(SpaceError, match=r"schedule\.lr_floor: must be 0\.1 .*, got 0\.123"):
        space.fix(set_values(Recipe(), {"schedule.lr_floor": 0.123}), Recipe())


def test_another_domain_keeps_the_condition_unless_that_would_set_a_value_outside_of_it() -> None:
    param = Param("quant.matrix_bits", Integer(4, 8), when=_has_ema, otherwise=6)
    narrow, other = param.over(Integer(5, 6)), param.over(Integer(7, 8))
    assert (narrow.domain, narrow.when, narrow.otherwise) == (Integer(5, 6), _has_ema, 6)
    assert (other.domain, other.when, other.otherwise) == (Integer(7, 8), None, None)
    assert Param("swa", Choice.of(None, {}), when=_has_ema).over(Choice.of({})).when is None
    field = Param("ema.start_fraction", Real(0.0, 1.0), when=_has_ema)
    assert field.over(Real(0.5, 1.0)).when is _has_ema  # it has no value where its part is off
    snapped = Param("schedule.lr_floor", Real(0.0, 1.0), snap=lambda _, value: round(value, 1))
    assert snapped.over(Real(0.0, 0.5)).snap is snapped.snap
    assert snapped.over(Choice.of(0.25)).snap is None


def _has_ema(recipe: Recipe) -> bool:
    return recipe.ema is not None


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
