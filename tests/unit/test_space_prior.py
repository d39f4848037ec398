"""Usual values are those of recipes that have a technique, and proposals near them move few params."""

from collections.abc import Mapping, Sequence, Set
from random import Random
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial

from search.sampler import make_sampler
from search.sampler_prior import NUM_MOVES, Centre, PriorSampler, with_prior
from search.spec import StudySpec
from spaces import golf
from spaces.fields import set_values
from spaces.prior import NearTrial, usual_values
from spaces.recipes import NAMES, named_recipe
from spaces.space import Choice, Integer, Param, Real, Space
from trainer.config import Recipe

GOLF = Space(golf.params())
USUAL = usual_values(GOLF, Recipe())


@pytest.mark.parametrize("name", NAMES)
def test_usual_values_make_their_centre(name: str) -> None:
    recipe = named_recipe(name)
    base = set_values(Recipe(), {"model.vocab_size": recipe.model.vocab_size})
    usual = usual_values(GOLF, recipe)
    assert usual.keys() == {param.path for param in GOLF.params}
    assert GOLF.suggest(FixedTrial(usual), base) == recipe


def test_what_the_centre_does_not_have_comes_from_the_latest_recipe_that_has_it() -> None:
    on = ("model.loop", "model.bigram", "qat", "evaluation.lora")
    recipe = GOLF.suggest(FixedTrial({**USUAL, **dict.fromkeys(on, "on")}), Recipe())
    assert recipe.model.loop == named_recipe("record_1855").model.loop
    assert recipe.model.bigram == named_recipe("record_414").model.bigram
    assert recipe.evaluation.lora == named_recipe("record_1855").evaluation.lora
    assert recipe.qat == named_recipe("pr122").qat


def test_usual_values_lie_in_a_studys_own_domains() -> None:
    own = Space(
        (
            Param("optim.matrix_lr", Real(0.1, 0.2)),
            Param("model.num_layers", Integer(2, 8, step=2)),
            Param("schedule.train_batch_tokens", Choice.of(131_072, 65_536)),
            Param("ema.half_life_fraction", Real(0.001, 0.002)),
            Param("quant.mlp_clip_sigmas", Real(4.0, 8.0)),
        )
    )
    usual = usual_values(own, Recipe())
    assert list(usual.values()) == [0.1, 8, "131072", 0.002, 8.0]
    own.suggest(FixedTrial(usual), Recipe())


class Recording:
    """A trial near the usual values that keeps what it suggested."""

    def __init__(self, moving: Set[str], seed: int = 0) -> None:
        self.near = NearTrial(USUAL, moving, Random(seed))
        self.params: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.params[name] = self.near.suggest_float(name, low, high, log=log)
        assert low <= self.params[name] <= high
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.params[name] = self.near.suggest_int(name, low, high, step=step, log=log)
        assert self.params[name] in range(low, high + 1, step)
        return self.params[name]

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        self.params[name] = self.near.suggest_categorical(name, choices)
        assert self.params[name] in choices
        return self.params[name]


def moved(params: Mapping[str, Any]) -> list[str]:
    return [name for name, value in params.items() if value != USUAL[name]]


def test_a_trial_near_the_base_is_the_base_but_for_what_moves() -> None:
    still, all_moving = Recording(set()), Recording(set(USUAL))
    assert GOLF.suggest(still, Recipe()) == Recipe()
    GOLF.suggest(all_moving, Recipe())
    assert moved(all_moving.params) == list(all_moving.params)
    two = Recording({"optim.matrix_lr", "ema"})
    GOLF.suggest(two, Recipe())
    assert moved(two.params) == ["optim.matrix_lr", "ema"]
    assert two.params["ema.half_life_fraction"] == 0.04  # the latest record's


def test_moves_of_numbers_are_short_and_of_wholes_at_least_a_step() -> None:
    path = {"model.num_layers", "optim.matrix_lr", "optim.beta1"}
    layers = [Recording(path, seed).suggest_int("model.num_layers", 6, 14) for seed in range(200)]
    assert 9 not in layers
    assert sum(abs(value - 9) <= 3 for value in layers) > 150
    rates = [Recording(path, seed).suggest_float("optim.matrix_lr", 0.01, 0.06, log=True) for seed in range(200)]
    assert len({*rates}) == 200
    assert Recording(path).suggest_int("model.num_layers", 9, 9) == 9
    assert Recording(path).suggest_float("optim.beta1", 0.9, 0.9) == 0.9


STUDY = {
    "name": "prior",
    "data": {"path": "data", "tokenizer": "data/tokenizer.model"},
    "rungs": [{"name": "proxy", "budget": {"train_tokens": 1_000_000}, "trials": 10}],
}


def study_with(space: Mapping[str, Any] | None = None, **sampler: Any) -> optuna.Study:
    """An Optuna study with the sampler that a study file asks for."""
    space = space or {"include": ["golf"]}
    spec = StudySpec.model_validate({**STUDY, "space": space, "sampler": {"seed": 1, **sampler}})
    inner = make_sampler(spec.sampler, trials=40, slots=1, finished=0)
    return optuna.create_study(sampler=with_prior(inner, spec, finished=0), directions=["minimize", "minimize"])


def ask(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    GOLF.suggest(trial, Recipe())
    return trial


def test_proposals_are_near_the_base_until_something_has_finished() -> None:
    study = study_with(kind="random", prior=1.0)
    counts = [len(moved(ask(study).params)) for _ in range(30)]
    assert min(counts) >= 1
    assert 0.5 * NUM_MOVES < sum(counts) / 30 < 2 * NUM_MOVES


def test_proposals_are_near_the_best_feasible_trials_afterwards() -> None:
    study = study_with(kind="random", prior=1.0)
    record = GOLF.fix(set_values(named_recipe("record_414"), {"model.vocab_size": 1024}), Recipe())
    study.enqueue_trial(record)
    study.tell(ask(study), (1.0, 1.0))
    proposals = [ask(study).params for _ in range(40)]
    near_record = [params for params in proposals if len(params.items() - record.items()) < 10]
    assert 10 <= len(near_record) <= 30  # the base is as often a centre as each of the best
    study.enqueue_trial({**record, "model.num_heads": "4"})
    study.tell(ask(study), state=optuna.trial.TrialState.PRUNED)  # an infeasible one is no centre
    assert sum(ask(study).params["model.num_heads"] == "4" for _ in range(40)) < 10


def test_a_share_of_proposals_is_near() -> None:
    study = study_with(kind="tpe", prior=0.5)
    counts = [len(moved(ask(study).params)) for _ in range(60)]
    assert 15 <= sum(count < 20 for count in counts) <= 45  # random ones differ in some sixty params


@pytest.mark.parametrize(("kind", "is_mixed"), [("tpe", True), ("nsga2", True), ("random", False), ("qmc", False)])
def test_controls_have_no_prior_unless_asked_for(kind: str, is_mixed: bool) -> None:
    assert isinstance(study_with(kind=kind).sampler, PriorSampler) == is_mixed
    assert isinstance(study_with(kind=kind, prior=0.25).sampler, PriorSampler)
    assert not isinstance(study_with(kind=kind, prior=0.0).sampler, PriorSampler)


def test_small_spaces_have_no_prior_unless_asked_for() -> None:
    small = {"include": ["shape", "optimizer"]}
    assert not isinstance(study_with(small, kind="tpe").sampler, PriorSampler)
    assert isinstance(study_with(small, kind="tpe", prior=0.5).sampler, PriorSampler)


@pytest.mark.parametrize("kind", ["tpe", "nsga2", "qmc"])
def test_every_kind_proposes_with_a_prior(kind: str) -> None:
    study = study_with(kind=kind, prior=0.5)
    for number in range(12):
        study.tell(ask(study), (1.0 + number, 1.0))
    assert len(study.trials) == 12


def test_a_base_that_searches_nothing_is_a_centre_too() -> None:
    """Such as a study of a family's fields that all wait for a technique the base does not have."""
    assert Centre({"quant.mlp_clip_sigmas": 8.0}, []).trial(Random(0)).moving == {"quant.mlp_clip_sigmas"}
