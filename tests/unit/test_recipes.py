"""Named recipes."""

import pytest

from spaces.fields import SpaceError, recipe_hash
from spaces.recipes import NAMES, named_recipe
from trainer.config import Recipe


def test_the_naive_baseline_is_the_default_recipe() -> None:
    assert named_recipe("naive_baseline") == Recipe()


def test_each_name_is_another_recipe() -> None:
    assert len({recipe_hash(named_recipe(name)) for name in NAMES}) == len(NAMES) >= 4


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(SpaceError, match=r"recipe: must be one of naive_baseline, .*mean lower_lr.*got 'lower_lrs'"):
        named_recipe("lower_lrs")
