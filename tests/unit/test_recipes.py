"""Named recipes: full configurations of the published systems."""

import pytest

from spaces.fields import SpaceError, recipe_from_dict, recipe_hash, recipe_to_dict
from spaces.recipes import NAMES, named_recipe
from trainer.config import Budget, Recipe, check_fits

PUBLISHED = (
    "pr122",
    "pr163",
    "pr333",
    "pr340",
    "record_162",
    "record_414",
    "record_1218",
    "record_1493",
    "record_1855",
)
# What the published schedules were in steps: warm-up of momentum, and warmdown (None: published as a fraction).
STEPS = {
    "pr122": (11_102, 1_500, 3_000),
    "pr163": (10_169, 500, None),
    "pr333": (7_910, 1_500, 3_000),
    "pr340": (8_300, 1_500, 3_000),
    "record_162": (7_379, 1_500, 3_000),
    "record_414": (7_096, 1_500, 3_500),
    "record_1218": (5_967, 1_500, None),
    "record_1493": (4_550, 1_500, None),
    "record_1855": (4_945, 1_500, None),
}


def test_the_naive_baseline_is_the_default_recipe() -> None:
    assert named_recipe("naive_baseline") == Recipe()


def test_every_published_system_has_a_name_seeds_first() -> None:
    assert ("naive_baseline", "lower_lr", "baseline_ema", "baseline_int6", *PUBLISHED) == NAMES


def test_each_name_is_another_recipe() -> None:
    assert len({recipe_hash(named_recipe(name)) for name in NAMES}) == len(NAMES)


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(SpaceError, match=r"recipe: must be one of naive_baseline, .*mean lower_lr.*got 'lower_lrs'"):
        named_recipe("lower_lrs")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("world_size", [1, 8])
def test_each_recipe_runs_on_the_challenges_machine_and_on_one_gpu(name: str, world_size: int) -> None:
    check_fits(named_recipe(name), Budget(train_seconds=600, world_size=world_size))
    assert recipe_from_dict(recipe_to_dict(named_recipe(name))) == named_recipe(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_fractions_are_the_published_steps(name: str) -> None:
    recipe, (steps, momentum_steps, warmdown_steps) = named_recipe(name), STEPS[name]
    assert recipe.optim.muon_momentum_warmup_fraction * steps == pytest.approx(momentum_steps, rel=0.01)
    if warmdown_steps is not None:
        assert recipe.schedule.warmdown_fraction * steps == pytest.approx(warmdown_steps, rel=0.01)


@pytest.mark.parametrize(
    ("name", "decay", "steps"),
    [("record_414", 0.997, 7_096), ("record_1218", 0.997, 5_967), ("record_1493", 0.9965, 4_550)],
)
def test_half_lives_are_the_published_decays(name: str, decay: float, steps: int) -> None:
    ema = named_recipe(name).ema
    assert ema is not None
    assert 0.5 ** (1 / (ema.half_life_fraction * steps)) == pytest.approx(decay, abs=2e-5)


@pytest.mark.parametrize(
    ("name", "share_of_peak", "checkpoints"), [("pr333", 0.4, 24), ("pr122", 0.5, 7), ("record_162", 0.5, 30)]
)
def test_averages_are_of_the_published_checkpoints(name: str, share_of_peak: float, checkpoints: int) -> None:
    recipe = named_recipe(name)
    assert recipe.swa is not None
    assert 1 - recipe.swa.start_fraction == pytest.approx(share_of_peak * recipe.schedule.warmdown_fraction, abs=1e-3)
    assert round((1 - recipe.swa.start_fraction) / recipe.swa.every_fraction) == pytest.approx(checkpoints, abs=1)
