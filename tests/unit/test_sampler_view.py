"""What samplers see of a study, and that a second objective does not change what they propose."""

from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from simulation import failure, measurement

from search.limits import CONSTRAINTS
from search.sampler import make_sampler
from search.sampler_view import seen_by_sampler
from search.spec_parts import Limits, SamplerSpec
from search.study import RungStudy
from spaces.fields import set_values
from trainer.config import Recipe
from trainer.result import FailureKind, Measurement

BOTH = ("val_bpb", "artifact_bytes")
Outcome = Callable[[float, float], Measurement]


def rung_of(objectives: Sequence[str] = BOTH, **sampler: Any) -> RungStudy:
    study = optuna.create_study(directions=[optuna.study.StudyDirection.MINIMIZE] * len(objectives))
    study.sampler = make_sampler(SamplerSpec.model_validate({"seed": 1, **sampler}), trials=40, slots=1, finished=0)
    return RungStudy(study, rung="proxy", objectives=objectives, limits=Limits())


def ask(rung: RungStudy, seed: int = 1337, lr: float | None = None) -> tuple[int, float, float]:
    trial = rung.ask()
    width, rate = trial.suggest_float("width", 0.0, 1.0), trial.suggest_float("rate", 0.0, 1.0)
    recipe = set_values(Recipe(), {"optim.matrix_lr": rate + 0.001 if lr is None else lr})
    rung.describe_recipe(trial.number, recipe, seed)
    return trial.number, width, rate


def by_width(width: float, rate: float) -> Measurement:
    """Wider is better and larger, over the limit beyond three quarters."""
    return measurement(val_bpb=2.0 - width + (rate - 0.5) ** 2, artifact_bytes=round(width * 21_333_333))


def search(rung: RungStudy, count: int = 40) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for _ in range(count):
        number, width, rate = ask(rung)
        rung.tell(number, by_width(width, rate))
        points.append((width, rate))
    return points


def seen(rung: RungStudy, names: Sequence[str] = ("val_bpb",)) -> list[FrozenTrial]:
    return seen_by_sampler(rung.optuna.get_trials(deepcopy=False), names)


def test_a_second_objective_changes_no_proposal() -> None:
    assert search(rung_of(BOTH)) == search(rung_of(("val_bpb",)))
    assert search(rung_of(BOTH, goal="objectives")) != search(rung_of(("val_bpb",)))


def test_the_study_keeps_both_values_and_its_front() -> None:
    rung = rung_of()
    search(rung, 20)
    told = [trial for trial in rung.optuna.trials if trial.state is TrialState.COMPLETE]
    assert told and all(len(trial.values) == 2 for trial in told)
    assert len(rung.optuna.best_trials) > 1
    assert [trial.number for trial in seen(rung)] == list(range(20))
    assert all(len(trial.values) == 1 for trial in seen(rung))


def test_minimising_both_drifts_to_small_models() -> None:
    late = {goal: search(rung_of(goal=goal), 60)[-20:] for goal in ("val_bpb", "objectives")}
    widths = {goal: sum(width for width, _ in points) / 20 for goal, points in late.items()}
    assert widths["val_bpb"] > widths["objectives"] + 0.1


def test_infeasible_trials_and_failures_are_complete_with_constraints() -> None:
    rung = rung_of()
    for outcome in (
        measurement(val_bpb=1.5),
        measurement(val_bpb=1.0, artifact_bytes=17_000_000),
        failure(FailureKind.DIVERGED),
        failure(FailureKind.STOPPED),
        failure(FailureKind.MACHINE),
    ):
        rung.tell(ask(rung)[0], outcome)
    trials = seen(rung)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4 + [TrialState.FAIL]
    assert [trial.value for trial in trials[:4]] == [1.5, 1.0, 1.5, 1.5]
    assert trials[1].constraints["artifact_bytes"] == pytest.approx(1 / 16)
    assert rung.optuna.trials[1].state is TrialState.PRUNED  # as it was told


def test_a_failure_before_any_score_is_pruned() -> None:
    rung = rung_of()
    rung.tell(ask(rung)[0], failure(FailureKind.DIVERGED))
    assert [trial.state for trial in seen(rung)] == [TrialState.PRUNED]


def test_only_constraints_that_some_trial_breaks_are_seen() -> None:
    rung = rung_of()
    rung.tell(ask(rung)[0], measurement())
    assert seen(rung)[0].constraints == {}
    rung.tell(ask(rung)[0], measurement(artifact_bytes=17_000_000))
    assert [list(trial.constraints) for trial in seen(rung)] == [["artifact_bytes"]] * 2
    rung.tell(ask(rung)[0], failure(FailureKind.DIVERGED))
    assert [list(trial.constraints) for trial in seen(rung)] == [list(CONSTRAINTS)] * 3


def test_seeds_and_copies_of_a_recipe_are_one_trial_of_their_mean() -> None:
    rung = rung_of()
    for seed, score in ((1, 1.2), (2, 1.4), (3, 1.6)):
        rung.tell(ask(rung, seed, lr=0.1)[0], measurement(val_bpb=score))
    rung.tell_copy(ask(rung, 1, lr=0.1)[0], rung.rows()[0])
    trials = seen(rung)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] + [TrialState.FAIL] * 3
    assert trials[0].value == pytest.approx(1.35)  # the copy counts as the run that it stands for


def test_recipes_outside_the_space_and_repeats_are_not_seen() -> None:
    rung = rung_of()
    rung.queue(set_values(Recipe(), {"model.num_layers": 2}), 1, {})
    rung.tell(rung.ask().number, measurement(val_bpb=0.5))
    rung.tell(ask(rung, lr=0.1)[0], measurement())
    rung.tell_duplicate(ask(rung, lr=0.1)[0], rung.rows()[1])
    assert [trial.state for trial in seen(rung)] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL]


def test_runs_in_flight_are_seen_and_repel() -> None:
    alone, among = rung_of(startup_trials=8), rung_of(startup_trials=8)
    for rung in (alone, among):
        search(rung, 20)
    flying = [ask(among)[1:] for _ in range(8)]
    assert [trial.state for trial in seen(among)[20:]] == [TrialState.RUNNING] * 8
    assert len(set(flying)) == 8
    repeated: list[tuple[float, float]] = []
    for _ in range(8):
        number, *point = ask(alone)
        alone.optuna.tell(number, state=TrialState.FAIL)
        repeated.append((point[0], point[1]))
    assert spread(flying) > spread(repeated)


def spread(points: Sequence[tuple[float, float]]) -> float:
    centre = [sum(column) / len(points) for column in zip(*points, strict=True)]
    return sum((x - centre[0]) ** 2 + (y - centre[1]) ** 2 for x, y in points)
