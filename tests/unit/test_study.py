"""Telling and reading back trials: what plain Optuna sees, and that an infeasible trial is never best."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import TrialState
from simulation import failure, measurement

from search.errors import RunnerError
from search.limits import CONSTRAINTS, failure_violations, measured_violations
from search.promote import best_feasible, pareto_front
from search.sampler import make_sampler
from search.spec_parts import Limits, SamplerSpec
from search.store import (
    open_artifacts,
    open_rung,
    open_storage,
)
from search.study import RungStudy
from search.trials import TrialStatus
from spaces.fields import recipe_hash, recipe_to_dict, set_values
from trainer.config import Recipe
from trainer.result import FailureKind

LIMITS = Limits()
BOTH = ("val_bpb", "artifact_bytes")
OVER = measurement(val_bpb=1.0, artifact_bytes=17_000_000)
Make = Callable[..., RungStudy]


@pytest.fixture
def make(url: str) -> Make:
    def make_rung(objectives: tuple[str, ...] = BOTH) -> RungStudy:
        study = open_rung(open_storage(url), "study/proxy", objectives)
        return RungStudy(study, rung="proxy", objectives=objectives, limits=LIMITS)

    return make_rung


def ask(rung: RungStudy, x: float = 0.5) -> int:
    trial = rung.ask()
    trial.suggest_float("x", 0.0, 1.0)
    rung.describe_recipe(trial.number, set_values(Recipe(), {"optim.matrix_lr": x}), 1337)
    return trial.number


def test_plain_optuna_sees_two_named_values_and_constraints(make: Make, url: str) -> None:
    rung = make()
    number = ask(rung)
    rung.tell(number, measurement(val_bpb=1.25), gpu_seconds=60.0)
    plain = optuna.load_study(study_name="study/proxy", storage=url)
    trial = plain.trials[number]
    assert plain.metric_names == list(BOTH)
    assert [direction.name for direction in plain.directions] == ["MINIMIZE", "MINIMIZE"]
    assert trial.state is TrialState.COMPLETE
    assert trial.values == [1.25, 1_000_000.0]
    assert list(trial.constraints) == sorted(CONSTRAINTS) or list(trial.constraints) == list(CONSTRAINTS)
    assert trial.constraints["artifact_bytes"] == pytest.approx(1 / 16 - 1)
    assert [best.number for best in plain.best_trials] == [number]


def test_a_trial_of_an_older_version_is_found_by_todays_hash(make: Make) -> None:
    rung = make()
    older = recipe_to_dict(Recipe())
    del older["swa"], older["quant"]["gptq"]
    rung.optuna.enqueue_trial({}, user_attrs={"recipe": json.dumps(older), "recipe_hash": "as it was", "seed": 1})
    strange = {"recipe": json.dumps({"width": 3}), "recipe_hash": "as it was", "seed": 1}
    rung.optuna.enqueue_trial({}, user_attrs=strange)
    assert [row.key for row in rung.rows()] == [(recipe_hash(Recipe()), 1), ("as it was", 1)]


def test_attributes_are_at_most_25_scalars(make: Make, url: str) -> None:
    rung = make()
    for outcome in (measurement(), OVER, failure(FailureKind.DIVERGED), failure(FailureKind.MACHINE)):
        rung.queue(Recipe(), 1, {}, promoted_from="proxy/3", retry_of=2)
        number = rung.ask().number
        rung.describe_recipe(number, Recipe(), 1)
        rung.tell(number, outcome, run_id="a-b-0001-1", gpu_seconds=1.0, device="cpu", predicted_bytes=5)
        attributes = optuna.load_study(study_name="study/proxy", storage=url).trials[number].user_attrs
        assert len(attributes) <= 25
        assert all(isinstance(value, str | int | float) for value in attributes.values())


def test_an_infeasible_trial_is_pruned_with_its_real_values_and_why(make: Make) -> None:
    rung = make()
    number = ask(rung)
    rung.tell(number, OVER)
    row = rung.rows()[number]
    assert row.status is TrialStatus.INFEASIBLE
    assert (row.val_bpb, row.artifact_bytes, row.values) == (1.0, 17_000_000, ())
    assert row.violations["artifact_bytes"] == pytest.approx(1 / 16)
    assert row.reason == "artifact_bytes: must be at most 16,000,000, got 17,000,000"


@pytest.mark.parametrize("objectives", [BOTH, ("val_bpb",)], ids=["two", "one"])
def test_infeasible_is_never_best_nor_on_the_front(make: Make, url: str, objectives: tuple[str, ...]) -> None:
    rung = make(objectives)
    for outcome in (OVER, measurement(val_bpb=1.5), measurement(val_bpb=1.0, train_seconds=601.0)):
        rung.tell(ask(rung), outcome)
    plain = optuna.load_study(study_name="study/proxy", storage=url)
    assert [trial.number for trial in plain.best_trials] == [1]
    if len(objectives) == 1:
        assert plain.best_trial.number == 1
        assert plain.best_value == 1.5
    rows = rung.rows()
    best = best_feasible(rows)
    assert best is not None and best.number == 1
    assert [row.number for row in pareto_front(rows)] == [1]


def test_a_study_without_a_feasible_trial_has_no_best(make: Make) -> None:
    rung = make()
    rung.tell(ask(rung), OVER)
    assert best_feasible(rung.rows()) is None
    assert pareto_front(rung.rows()) == []


RECIPE_KINDS = [kind for kind in FailureKind if kind.is_caused_by_recipe]
MACHINE_KINDS = [kind for kind in FailureKind if not kind.is_caused_by_recipe]


@pytest.mark.parametrize("kind", RECIPE_KINDS)
def test_a_failure_of_the_recipe_is_pruned_and_teaches(make: Make, kind: FailureKind) -> None:
    rung = make()
    number = ask(rung)
    rung.tell(number, failure(kind, "too much"))
    row = rung.rows()[number]
    status = TrialStatus.STOPPED if kind is FailureKind.STOPPED else TrialStatus.FAILED
    assert (row.status, row.failure, row.reason) == (status, kind, "too much")
    assert set(row.violations) == set(CONSTRAINTS)
    assert rung.optuna.trials[number].state is TrialState.PRUNED


@pytest.mark.parametrize(("predicted", "violation"), [(8_000_000, -0.5), (24_000_000, 0.5)])
def test_of_a_stopped_run_only_its_predicted_bytes_are_told(make: Make, predicted: int, violation: float) -> None:
    rung = make()
    number = ask(rung)
    rung.describe(number, predicted_bytes=predicted)
    rung.tell(number, failure(FailureKind.STOPPED, "behind"))
    row = make().rows()[number]
    assert (row.status, row.values, row.val_bpb) == (TrialStatus.STOPPED, (), None)
    assert row.violations == {"artifact_bytes": violation, "train_seconds": 0.0, "eval_seconds": 0.0}


@pytest.mark.parametrize("kind", MACHINE_KINDS)
def test_a_failure_of_the_machine_fails_and_teaches_nothing(make: Make, kind: FailureKind) -> None:
    rung = make()
    number = ask(rung)
    rung.tell(number, failure(kind, "gone"))
    row = rung.rows()[number]
    assert (row.status, row.failure, row.violations) == (TrialStatus.LOST, kind, {})
    assert rung.optuna.trials[number].state is TrialState.FAIL


def test_a_score_that_is_not_finite_is_divergence(make: Make) -> None:
    rung = make()
    for score in (math.nan, math.inf):
        number = ask(rung)
        rung.tell(number, measurement(val_bpb=score))
        assert rung.rows()[number].failure is FailureKind.DIVERGED


def test_telling_twice_changes_nothing(make: Make) -> None:
    rung = make()
    number = ask(rung)
    rung.tell(number, measurement())
    before = rung.rows()
    rung.optuna.tell(number, [0.1, 0.1], skip_if_finished=True)
    assert make().rows() == before


def test_a_trial_is_told_by_another_process(make: Make) -> None:
    first = make()
    number = ask(first)
    asked = first.rows()[number]
    second = make()
    second.tell(number, measurement())
    told = second.rows()[number]
    assert told.params == asked.params
    assert told.status is TrialStatus.FEASIBLE


def test_half_told_constraints_are_completed(make: Make) -> None:
    first = make()
    number = ask(first)
    first.resume(number).set_constraint("artifact_bytes", measured_violations(OVER, LIMITS)["artifact_bytes"])
    second = make()
    second.tell(number, OVER)
    assert second.rows()[number].violations == pytest.approx(measured_violations(OVER, LIMITS))


def test_queued_recipes_come_first_and_keep_their_attributes(make: Make) -> None:
    rung = make()
    inside, outside = set_values(Recipe(), {"optim.matrix_lr": 0.25}), set_values(Recipe(), {"model.num_layers": 3})
    rung.queue(inside, 1, {"x": 0.25}, promoted_from="low/4")
    rung.queue(outside, 2, {}, retry_of=0)
    trial = rung.ask()
    assert (trial.suggest_float("x", 0.0, 1.0), trial.user_attrs["promoted_from"]) == (0.25, "low/4")
    assert (rung.rows()[0].recipe, rung.rows()[0].key is not None) == (inside, True)
    rung.ask()
    assert (rung.rows()[1].recipe, rung.rows()[1].retry_of) == (outside, 0)


def test_a_copy_has_its_twins_result_and_costs_nothing(make: Make) -> None:
    rung = make()
    for outcome in (measurement(val_bpb=1.25), OVER, failure(FailureKind.DIVERGED)):
        number = ask(rung)
        rung.tell(number, outcome, run_id="run", gpu_seconds=100.0)
        twin = rung.rows()[number]
        copy_number = ask(rung)
        rung.tell_copy(copy_number, twin)
        copy = rung.rows()[copy_number]
        assert (copy.status, copy.values, copy.violations) == (twin.status, twin.values, twin.violations)
        assert (copy.gpu_seconds, copy.attributes["copied_from"]) == (0.0, number)


def test_files_are_attached_once(make: Make, tmp_path: Path) -> None:
    rung, store = make(), open_artifacts(tmp_path / "runs")
    (tmp_path / "train.log").write_text("step:1/10")
    (tmp_path / "stdout.log").write_text("not for the dashboard")
    number = ask(rung)
    for _ in range(2):
        rung.attach(number, tmp_path, store)
    rung.tell(number, measurement())
    metas = get_all_artifact_meta(rung.optuna.trials[number], storage=rung.optuna._storage)  # pyright: ignore[reportPrivateUsage]
    assert [meta.filename for meta in metas] == ["train.log"]
    with store.open_reader(metas[0].artifact_id) as file:
        assert file.read() == b"step:1/10"


def test_a_runs_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunnerError, match=r"runs folder .*: must be a folder that can be written, got Not a directory"):
        open_artifacts(tmp_path / "runs")


positive = st.floats(1e-3, 1e12)


@given(artifact_bytes=st.integers(1, 10**12), train_seconds=positive, eval_seconds=positive)
def test_violations_say_who_keeps_the_limits(artifact_bytes: int, train_seconds: float, eval_seconds: float) -> None:
    result = measurement(artifact_bytes=artifact_bytes, train_seconds=train_seconds, eval_seconds=eval_seconds)
    violations = measured_violations(result, LIMITS)
    assert tuple(violations) == CONSTRAINTS
    for name in CONSTRAINTS:
        assert -1 <= violations[name] <= 10
        assert (violations[name] <= 0) == (getattr(result, name) <= getattr(LIMITS, name))


def test_refused_for_size_ranks_with_measured_oversize() -> None:
    refused = failure_violations(failure(FailureKind.OVERSIZE), 17_000_000, LIMITS)
    diverged = failure_violations(failure(FailureKind.DIVERGED), None, LIMITS)
    assert refused["artifact_bytes"] == measured_violations(OVER, LIMITS)["artifact_bytes"]
    assert sum(max(value, 0) for value in refused.values()) < sum(diverged.values())


def test_one_trial_outside_the_space_leaves_tpe_its_joint_model(make: Make) -> None:
    rung = make()
    rung.optuna.sampler = make_sampler(SamplerSpec(seed=1, startup_trials=2), trials=8, slots=1, finished=0)
    for index in range(6):
        rung.tell(ask(rung), measurement(val_bpb=1.0 + index))
    rung.queue(set_values(Recipe(), {"model.num_layers": 2}), 1, {})
    rung.tell(rung.ask().number, measurement())
    frozen = rung.optuna.get_trials(deepcopy=False)[-1]
    assert "x" in rung.optuna.sampler.infer_relative_search_space(rung.optuna, frozen)


@settings(max_examples=25)
@given(trials=st.integers(1, 500), slots=st.integers(1, 64))
def test_the_random_start_is_short_in_small_studies(trials: int, slots: int) -> None:
    sampler = make_sampler(SamplerSpec(), trials=trials, slots=slots, finished=0).inner
    assert isinstance(sampler, optuna.samplers.TPESampler)
    startup = sampler._n_startup_trials  # pyright: ignore[reportPrivateUsage]
    assert 4 <= startup <= max(4, trials // 4)
    assert startup <= max(20, 2 * slots)
