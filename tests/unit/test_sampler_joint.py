"""Proposals by the joint model: what it learns from, what it proposes, and when the other sampler does."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search import sampler_joint
from search.encoding import Encoder, places, value_at
from search.joint_model import fit_joint as fit
from search.sampler_joint import JointSampler, moved, scored
from search.sampler_prior import Centre, PriorSampler
from spaces.fields import set_values
from spaces.space import Choice, Integer, Param, Real, Space
from trainer.config import Recipe
from trainer.train_config import EmaConfig

SPACE = Space(
    (
        Param("model.num_layers", Integer(1, 12)),
        Param("optim.matrix_lr", Real(0.004, 0.4, log=True)),
        Param("ema", Choice({"off": None, "on": EmaConfig()})),
        Param("ema.half_life_fraction", Real(0.01, 0.25, log=True)),
    )
)
LAYERS, RATE = "model.num_layers", "optim.matrix_lr"


def law(values: Mapping[str, Any], best_layers: int) -> float:
    """A score that depends on both numbers, the best of which is another in dear runs."""
    return 1.2 + 0.01 * (values[LAYERS] - best_layers) ** 2 + 0.1 * np.log10(values[RATE] / 0.04) ** 2


def sampler(later: Sequence[Sequence[FrozenTrial]], **changes: Any) -> JointSampler:
    given: dict[str, Any] = {"fits": lambda recipe: True, "is_size_solved": True, "seed": 3, **changes}
    fits = given.pop("fits")
    return JointSampler(RandomSampler(seed=1), SPACE, Recipe(), lambda: later, lambda: fits, **given)


def ask(study: optuna.Study) -> dict[str, Any]:
    trial = study.ask()
    SPACE.suggest(trial, Recipe())
    return dict(trial.params)


def played(study: optuna.Study, count: int) -> list[dict[str, Any]]:
    """What is proposed one after the other, each measured by the proxies' law."""
    found: list[dict[str, Any]] = []
    for _ in range(count):
        trial = study.ask()
        SPACE.suggest(trial, Recipe())
        score = law(trial.params, 4)
        trial.set_user_attr("val_bpb", score)
        study.tell(trial, score)
        found.append(dict(trial.params))
    return found


def dear(layers: int, rate: float = 0.04, **attributes: Any) -> FrozenTrial:
    values = {LAYERS: layers, RATE: rate, "ema": "off"}
    study = optuna.create_study()
    study.enqueue_trial(values)
    trial = study.ask()
    SPACE.suggest(trial, Recipe())
    distributions = study.get_trials()[0].distributions
    attributes = attributes or {"val_bpb": law(values, 9)}
    return create_trial(
        state=TrialState.PRUNED if "failure" in attributes else TrialState.COMPLETE,
        value=None if "failure" in attributes else attributes["val_bpb"],
        params=values,
        distributions=distributions,
        user_attrs=attributes,
    )


def test_places_span_ranges_on_the_scale_of_the_search() -> None:
    assert places(Real(0.01, 1.0, log=True), 0.1) == [pytest.approx(0.5)]
    assert places(Integer(1, 5), 2) == [0.25]
    assert places(Integer(3, 3), 3) == []
    assert places(Choice.of(512, 2048, 1024), "1024") == [0.5]  # numbers lie in a row
    assert places(Choice.of("a", "b", "c"), "b") == [0.0, pytest.approx(0.5**0.5), 0.0]
    assert places(Choice.of("a", "b"), None) == [0.5]
    assert value_at(Integer(1, 12), 0.5) in {6, 7}
    encoder = Encoder(SPACE)
    assert encoder.points([]).shape == (0, encoder.dimensions)
    assert encoder.points([{LAYERS: 12, RATE: 0.04, "ema": "off"}]).tolist() == [[1.0, pytest.approx(0.5), 0.0, 0.5]]


def test_the_first_proposals_are_random_recipes_that_fit() -> None:
    study = optuna.create_study(sampler=sampler([[]], fits=lambda recipe: recipe.model.num_layers > 6))
    assert all(values[LAYERS] > 6 for values in played(study, 15))


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each fit of the model was of."""
    sizes: list[int] = []
    monkeypatch.setattr(sampler_joint, "fit_joint", lambda runs, *_: sizes.append(len(runs.scores_N)) or fit(runs, 1))
    return sizes


@pytest.mark.parametrize(("startup", "expected"), [(10, 10), (5, 5), (0, 4)])
def test_as_many_proposals_as_asked_for_come_before_the_model(startup: int, expected: int, fitted: list[int]) -> None:
    played(optuna.create_study(sampler=sampler([], startup=startup)), 12)
    assert fitted[0] == expected


def test_a_space_whose_random_points_never_fit_still_gets_proposals() -> None:
    """Fewer known points than the climbs start from, and nothing else to start from."""
    study = optuna.create_study(sampler=sampler([], startup=4, fits=lambda recipe: recipe.model.num_layers < 0))
    assert len(played(study, 7)) == 7


@pytest.mark.parametrize(("share", "is_asked"), [(1.0, False), (0.5, True)])
def test_a_share_of_proposals_may_be_near_known_recipes(share: float, is_asked: bool, fitted: list[int]) -> None:
    near = PriorSampler(sampler([], startup=4), Centre.of(SPACE, Recipe()), share, seed=1)
    played(optuna.create_study(sampler=near), 16)
    assert bool(fitted) == is_asked


def test_proposals_close_in_on_what_is_best_in_the_dearest_rung() -> None:
    alone = optuna.create_study(sampler=sampler([]))
    assert abs(np.median([values[LAYERS] for values in played(alone, 24)][-6:]) - 4) <= 1
    runs = [dear(layers) for layers in (2, 4, 6, 8, 10, 12)]
    both = optuna.create_study(sampler=sampler([runs]))
    assert np.median([values[LAYERS] for values in played(both, 24)][-6:]) >= 6


def test_a_stopped_dear_run_and_one_too_large_say_nothing_and_a_diverged_one_is_bad() -> None:
    stopped, oversize, diverged = (dear(4, failure=kind) for kind in ("stopped", "oversize", "diverged"))
    expected = dear(4, failure="stopped", early_stop={"expected_val_bpb": 1.7})
    found = scored([stopped, oversize, diverged, expected, dear(5)])
    assert [one.trial for one in found][:2] == [diverged, expected]
    assert np.isnan(found[0].score(True))
    assert found[1].score(True) == 1.7


def test_a_run_over_the_limit_of_bytes_counts_as_bad_unless_its_size_was_solved() -> None:
    study = optuna.create_study()
    trial = study.ask()
    SPACE.suggest(trial, Recipe())
    trial.set_user_attr("val_bpb", 1.2)
    trial.set_constraint("artifact_bytes", 0.05)
    study.tell(trial, state=TrialState.PRUNED)
    (one,) = scored(study.get_trials())
    assert (one.score(True), one.score(False)) == (1.2, pytest.approx(1.7))


def test_a_queued_recipe_keeps_its_params() -> None:
    study = optuna.create_study(sampler=sampler([]))
    played(study, 12)
    study.enqueue_trial({LAYERS: 11, RATE: 0.004, "ema": "on", "ema.half_life_fraction": 0.1})
    assert ask(study) == {LAYERS: 11, RATE: 0.004, "ema": "on", "ema.half_life_fraction": 0.1}


def test_no_recipe_is_proposed_twice_where_the_best_is_a_corner() -> None:
    study = optuna.create_study(sampler=sampler([]))
    found: list[dict[str, Any]] = []
    for _ in range(20):
        trial = study.ask()
        SPACE.suggest(trial, Recipe())
        score = 1.0 + trial.params[LAYERS] + np.log10(trial.params[RATE])
        trial.set_user_attr("val_bpb", score)
        study.tell(trial, score)
        assert trial.params not in found
        found.append(dict(trial.params))
    assert found[-1][LAYERS] == 1


def test_runs_under_way_are_not_proposed_again() -> None:
    study = optuna.create_study(sampler=sampler([]))
    played(study, 14)
    points = Encoder(SPACE).points([ask(study) for _ in range(4)])
    gaps = np.linalg.norm(points[:, None] - points[None, :], axis=-1)[np.triu_indices(4, 1)]
    assert gaps.min() > 0


def test_beyond_the_most_runs_the_other_sampler_proposes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_joint, "MOST_RUNS", 5)
    first, second = (optuna.create_study(sampler=sampler([], seed=seed)) for seed in (1, 2))
    assert played(first, 8)[6:] == played(second, 8)[6:]  # by the other one, whose seed is one and the same


def test_moves_stay_in_their_ranges_and_move_something() -> None:
    random = Random(0)
    values = SPACE.fix(set_values(Recipe(), {"ema": EmaConfig(), "ema.half_life_fraction": 0.1}), Recipe())
    for _ in range(200):
        changed = moved(SPACE, values, random)
        assert changed != values
        SPACE.suggest(FixedTrial(changed), Recipe())


class FixedTrial(optuna.trial.FixedTrial):
    """Optuna's, for the type of its labels."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return super().suggest_categorical(name, choices)
