"""Early stopping: what the model says of made-up curves, and what the loop does with it, killed at any moment."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState
from simulation import FakeRunner, Machine, World, make_spec, measured_by_recipe, measurement

from search.curve_model import fit_curve_model
from search.curves import checkpoint_before, mean_loss, read_curve
from search.database import open_engine
from search.early_stop import bar, describe_early_stop, early_stop_status, is_spared, stored_decision
from search.ledger import Ledger
from search.run import Run
from search.trials import TrialRow, TrialStatus
from trainer.result import Failure, FailureKind, Measurement

EIGHTHS = [part / 8 for part in range(1, 9)]
RULE: dict[str, Any] = {"after_runs": 8, "spare": 0.0}


def test_a_curve_is_read_up_to_the_line_that_is_being_written(tmp_path: Path) -> None:
    events = [
        {"event": "PhaseEntered", "phase": "train"},
        {"event": "TrainStep", "progress": 0.1, "train_loss": 6.0},
        {"event": "TrainStep", "progress": 0.12, "train_loss": 5.0},
        {"event": "TrainStep", "progress": 0.2, "train_loss": 4.0},
    ]
    text = "\n".join(json.dumps(event) for event in events) + '\n{"event": "TrainStep", "progr'
    (tmp_path / "events.jsonl").write_text(text)
    curve = read_curve(tmp_path)
    assert curve == ((0.1, 6.0), (0.12, 5.0), (0.2, 4.0))
    assert [mean_loss(curve, progress) for progress in (0.125, 0.25, 0.375)] == [5.5, 4.0, None]
    assert read_curve(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.4999, 0.375), (0.5, 0.5), (3 / 8, 0.375), (1.0, 1.0)]
)
def test_a_checkpoint_is_reached_once_its_part_is_over(progress: float, expected: float) -> None:
    assert checkpoint_before(progress) == expected


def test_scores_far_above_the_line_move_neither_the_line_nor_the_spread() -> None:
    rng = np.random.default_rng(0)
    losses = rng.uniform(2, 4, 40)
    finals = 0.3 * losses + rng.normal(0, 0.01, 40)
    failed = np.where(np.arange(40) % 5 == 0, finals + rng.uniform(0, 3, 40), finals)
    clean, dirty = (fit_curve_model(list(losses), list(scores)) for scores in (finals, failed))
    assert clean is not None and dirty is not None
    assert dirty.expected(3.0) == pytest.approx(clean.expected(3.0), abs=0.01)
    assert dirty.spread < 2 * clean.spread


def test_there_is_no_model_of_few_runs_or_of_losses_that_say_nothing() -> None:
    assert fit_curve_model([1.0] * 7, [1.0] * 7) is None
    assert fit_curve_model([1.0] * 20, [float(n) for n in range(20)]) is None
    assert fit_curve_model([float(-n) for n in range(20)], [float(n) for n in range(20)]) is None


def test_of_runs_said_to_be_at_two_percent_no_more_than_that_end_below() -> None:
    """The model's own promise, on runs that are as it assumes."""
    rng = np.random.default_rng(1)
    stopped = wrong = 0
    for _ in range(150):
        losses, noise = rng.normal(3, 0.3, 60), rng.normal(0, 0.03, 60)
        finals = 0.3 * losses + noise
        model = fit_curve_model(list(losses[:20]), list(finals[:20]))
        assert model is not None
        needed = float(np.sort(finals[:20])[6])
        for loss, final in zip(losses[20:], finals[20:], strict=True):
            if model.probability_below(needed, float(loss)) < 0.02:
                stopped += 1
                wrong += bool(final <= needed)
    assert stopped > 1500
    assert wrong / stopped < 0.02


def row(number: int, status: TrialStatus, **attributes: Any) -> TrialRow:
    return TrialRow(
        rung="proxy",
        number=number,
        status=status,
        values=(),
        params={},
        violations={},
        attributes=attributes,
        seconds=None,
    )


def test_the_bar_counts_stopped_runs_as_worse_and_goes_by_feasible_scores() -> None:
    feasible = [row(n, TrialStatus.FEASIBLE, val_bpb=1.0 + n / 10) for n in range(4)]
    over = [row(4, TrialStatus.INFEASIBLE, val_bpb=0.5)]
    stopped = [row(n, TrialStatus.STOPPED) for n in range(5, 9)]
    copies = [row(9, TrialStatus.FEASIBLE, val_bpb=0.1, copied_from=0), row(10, TrialStatus.FAILED)]
    assert bar([*feasible, *copies], 0.5, 1) == pytest.approx(1.1)
    assert bar([*feasible, *over, *stopped, *copies], 1 / 3, 1) == pytest.approx(1.2)
    assert bar(feasible, 0.25, 3) == pytest.approx(1.2)
    assert bar(feasible, 0.25, 5) is None
    assert bar([], 0.25, 1) is None


def test_one_in_ten_is_spared_and_always_the_same() -> None:
    spared = [run_id for run_id in (f"study-proxy-{n:04d}-1" for n in range(2000)) if is_spared(run_id, 0.1)]
    assert 150 < len(spared) < 250
    assert all(is_spared(run_id, 0.1) and is_spared(run_id, 0.5) for run_id in spared)
    assert not is_spared(spared[0], 0.0)


def scattered(run: Run, values: Mapping[str, Any]) -> list[tuple[float, float]]:
    """A curve whose level says what the score will be, but for a scatter that the recipe decides."""
    outcome = measured_by_recipe(run, values)
    assert isinstance(outcome, Measurement)
    scatter = (int(values["matrix_lr"] * 1e6) % 100 - 50) / 1000
    return [(part, 3 * outcome.val_bpb + scatter + 2 * (1 - part)) for part in EIGHTHS]


def machine(folder: Path, rule: Mapping[str, Any] | None = RULE, trials: int = 16, **changes: Any) -> Machine:
    rungs = [{"name": "proxy", "budget": {"train_tokens": 1000}, "trials": trials}]
    spec = make_spec(rungs=rungs, sampler={"kind": "random", "seed": 5}, early_stop=rule, **changes)
    return Machine(folder, spec, World(curve=scattered))


def true_score(one: TrialRow) -> float:
    recipe = one.recipe
    assert recipe is not None
    return 1.0 + abs(recipe.model.num_layers - 6) / 10 + abs(recipe.optim.matrix_lr - 0.03)


def stopped_of(rows: list[TrialRow]) -> list[TrialRow]:
    return [one for one in rows if one.status is TrialStatus.STOPPED]


def test_runs_that_promise_nothing_are_stopped_and_told_with_what_is_known(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run()
    rows = sim.rows("proxy")
    stopped = stopped_of(rows)
    assert len(rows) == 16 and len(stopped) >= 2
    assert {one.status for one in rows[:8]} == {TrialStatus.FEASIBLE}  # 8 have finished before any is judged
    best = sorted(map(true_score, rows))[5]
    assert all(true_score(one) > best for one in stopped)
    for one in stopped:
        decision, record = stored_decision(one), sim.ledger.get(one.attributes["run_id"])
        assert decision is not None and decision.probability < 0.02 and decision.progress >= 0.5
        assert (one.values, one.val_bpb, one.reason) == ((), None, decision.failure.message)
        assert 0 < one.gpu_seconds == record.gpu_seconds < sim.world.run_seconds
        assert isinstance(record.outcome, Failure) and record.outcome.kind is FailureKind.STOPPED
        assert sim.study("proxy").optuna.trials[one.number].state is TrialState.PRUNED
        assert max(one.violations.values()) <= 0
    status = early_stop_status(rows)
    assert status["stopped"] == len(stopped) and status["saved_gpu_seconds"] > 0
    assert describe_early_stop(status).startswith(f"stopped early: {len(stopped)} runs, about ")


def test_without_the_rule_or_before_enough_runs_nothing_is_stopped(tmp_path: Path) -> None:
    for name, rule in {"off": None, "late": {"after_runs": 16}}.items():
        (tmp_path / name).mkdir()
        sim = machine(tmp_path / name, rule)
        sim.run()
        assert {one.status for one in sim.rows("proxy")} == {TrialStatus.FEASIBLE}
        assert describe_early_stop(early_stop_status(sim.rows("proxy"))) == ""


def test_controls_and_further_seeds_run_to_their_end(tmp_path: Path) -> None:
    bad = [{"set": {"model.num_layers": layers}} for layers in (11, 12)]
    rungs = [{"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 14, "seeds": [1, 2]}]
    spec = make_spec(rungs=rungs, sampler={"kind": "random", "seed": 5}, early_stop=RULE, queue=bad)
    sim = Machine(tmp_path, spec, World(curve=scattered, slots=3))
    sim.run()
    rows = sim.rows("proxy")
    assert stopped_of(rows)
    assert all(one.attributes["seed"] == 1 for one in stopped_of(rows))
    queued = [one for one in rows if one.recipe in spec.queued_recipes()]
    assert queued and not stopped_of(queued)


def test_spared_runs_tell_how_often_the_rule_is_wrong(tmp_path: Path) -> None:
    sim = machine(tmp_path, {**RULE, "spare": 0.999})
    sim.run()
    rows = sim.rows("proxy")
    judged = [one for one in rows if stored_decision(one) is not None]
    assert len(judged) >= 2 and not stopped_of(rows)
    status = early_stop_status(rows)
    assert (status["stopped"], status["spared"], status["spared_among_best"]) == (0, len(judged), 0)
    assert f"of {len(judged)} that ran on instead, 0 ended among the best" in describe_early_stop(status)


class Killed(BaseException):
    """The driver is gone."""


class MortalLedger(Ledger):
    """A ledger whose process dies around its first decision to stop a run."""

    def __init__(self, dies: str, engine: sa.Engine, url: str) -> None:
        super().__init__(engine, url)
        self.dies = dies

    def finish(self, run_id: str, outcome: Measurement | Failure, *args: Any, **kwargs: Any) -> bool:
        is_stop = isinstance(outcome, Failure) and outcome.kind is FailureKind.STOPPED
        if is_stop and self.dies == "before":
            raise Killed
        result = super().finish(run_id, outcome, *args, **kwargs)
        if is_stop and self.dies == "after":
            raise Killed
        return result


class MortalRunner(FakeRunner):
    """A driver that dies as it cancels a run."""

    def cancel(self, run_id: str) -> None:
        raise Killed


@pytest.mark.parametrize("dies", ["before", "after", "cancelling"])
def test_a_driver_that_dies_while_it_stops_a_run_neither_loses_nor_doubles_it(tmp_path: Path, dies: str) -> None:
    sim = machine(tmp_path)
    ledger = MortalLedger(dies, open_engine(sim.url), sim.url)
    runner = MortalRunner(sim.world, sim.ledger) if dies == "cancelling" else FakeRunner(sim.world, sim.ledger)
    with suppress(Killed):
        sim.run(ledger=ledger, runner=runner)
    judged = [one for one in sim.rows("proxy") if stored_decision(one) is not None]
    assert len(judged) == 1 and judged[0].is_open
    decision = stored_decision(judged[0])
    sim.run()
    rows = sim.rows("proxy")
    again = rows[judged[0].number]
    assert (again.status, stored_decision(again)) == (TrialStatus.STOPPED, decision)
    assert len(rows) == 16 and not [one for one in rows if one.is_open]
    records = [record for record in sim.ledger.runs("sim") if record.trial_number == again.number]
    assert [record.gpu_seconds for record in records] == [again.gpu_seconds]


def test_a_run_that_ends_before_it_could_be_stopped_is_told_as_it_ended(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    ledger = MortalLedger("before", open_engine(sim.url), sim.url)
    with suppress(Killed):
        sim.run(ledger=ledger)
    judged = next(one for one in sim.rows("proxy") if stored_decision(one) is not None)
    measured = measurement(val_bpb=1.7)
    assert sim.ledger.finish(judged.attributes["run_id"], measured, 30.0, sim.world.now)
    sim.world.workers.clear()
    sim.run()
    again = sim.rows("proxy")[judged.number]
    assert (again.status, again.val_bpb) == (TrialStatus.FEASIBLE, 1.7)
    assert early_stop_status(sim.rows("proxy"))["spared"] == 1


def test_a_stopped_recipe_is_not_run_again(tmp_path: Path) -> None:
    sim = machine(tmp_path)
    sim.run()
    stopped = stopped_of(sim.rows("proxy"))[0]
    study = sim.study("proxy")
    assert stopped.recipe is not None
    study.queue(stopped.recipe, 1337, stopped.params)
    ran = len(sim.world.submitted)
    sim.run()
    assert sim.rows("proxy")[-1].status is TrialStatus.DUPLICATE
    assert len(sim.world.submitted) == ran
