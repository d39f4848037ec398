"""The driver dies at any step; whoever starts next finishes the study, losing no result and counting none twice."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from simulation import FakeRunner, Machine, World, make_spec, recipe_text, step_workers

from search.database import engine_options
from search.ledger import LEASE_SECONDS, Ledger
from search.run import Run
from search.run_record import RunState
from search.trials import TrialRow, TrialStatus

# All steps take twenty minutes; when this was written each passed, with workers dying or surviving in turn.
STRIDE = 131
PROXIES = 4
RULES = ("top", "model")
STORAGE_WRITES = (
    "create_new_study",
    "create_new_trial",
    "set_study_user_attr",
    "set_study_system_attr",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_user_attr",
    "set_trial_system_attr",
)
LEDGER_WRITES = ("insert", "finish", "claim", "release")


class Crash(BaseException):
    """The driver process is gone: not caught by anything, and nothing it tries afterwards happens."""


class Fuse:
    """Blows at a given step, before or after its effect, and from then on at every step."""

    def __init__(self, blows_at: int) -> None:
        self.left = blows_at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        self.left -= 1
        if self.left <= 0:
            raise Crash

    def around(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = action(*args, **kwargs)
            self.step()
            return result

        return stepped


class FusedStorage(RDBStorage):
    """Optuna's real storage, in a process that may die at any write."""

    def fuse(self, fuse: Fuse) -> "FusedStorage":
        for name in STORAGE_WRITES:
            setattr(self, name, fuse.around(getattr(self, name)))
        return self


def fused_ledger(url: str, fuse: Fuse) -> Ledger:
    ledger = Ledger.open(url)
    for name in LEDGER_WRITES:
        setattr(ledger, name, fuse.around(getattr(ledger, name)))
    return ledger


class FusedRunner(FakeRunner):
    """The driver's end of the runner; workers themselves write through the world's ledger."""

    def __init__(self, world: World, ledger: Ledger, fuse: Fuse) -> None:
        super().__init__(world, ledger)
        for name in ("prepare", "submit", "wait", "cancel"):
            setattr(self, name, fuse.around(getattr(self, name)))


def small_machine(folder: Path, rule: str) -> Machine:
    """Two rungs; under the rule "model" the second one begins, with the base as its anchor, while the first runs."""
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": PROXIES},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": 2, "seeds": [1, 2]},
    ]
    return Machine(
        folder, make_spec(rungs=rungs, promotion={"rule": rule, **({"anchors": 1} if rule == "model" else {})})
    )


def crash_at(machine: Machine, step: int) -> Fuse:
    """Run a driver that dies at this step, or to its end where it has fewer."""
    fuse = Fuse(step)
    machine.bundle = fuse.around(machine.bundle)
    with suppress(Crash):
        machine.run(
            ledger=fused_ledger(machine.url, fuse),
            storage=FusedStorage(machine.url, engine_options(machine.url)).fuse(fuse),
            runner=FusedRunner(machine.world, machine.ledger, fuse),
        )
    return fuse


def check_finished(machine: Machine) -> None:
    rows = {rung.name: machine.rows(rung.name) for rung in machine.spec.rungs}
    assert [row.status for part in rows.values() for row in part if row.is_open] == []
    counted = [row for row in rows["proxy"] if row.status in {TrialStatus.FEASIBLE, TrialStatus.INFEASIBLE}]
    assert len(counted) == PROXIES
    assert rows["proxy"][0].recipe == machine.spec.base_recipe()
    check_promoted(machine, rows["full"])
    check_no_result_lost_or_doubled(machine, [row for part in rows.values() for row in part])


def check_promoted(machine: Machine, rows: list[TrialRow]) -> None:
    """Two recipes, each with both seeds, and each with the decision that put it there."""
    full = [row for row in rows if row.status is TrialStatus.FEASIBLE]
    assert sorted(row.attributes["seed"] for row in full) == [1, 1, 2, 2]
    assert len({row.attributes["recipe_hash"] for row in full}) == 2
    reasons = sorted(row.attributes["decision"]["reason"] for row in full)
    assert reasons == (["top"] * 4 if machine.spec.promotion.rule == "top" else ["anchor", "lcb", "seeds", "seeds"])
    assert all(row.attributes["promoted_from"].startswith("proxy/") for row in full)


def check_no_result_lost_or_doubled(machine: Machine, rows: list[TrialRow]) -> None:
    runs = machine.ledger.runs()
    assert [run.run_id for run in runs if not run.state.is_final] == []
    finished = sorted(run.run_id for run in runs if run.state is RunState.FINISHED)
    told = sorted(row.attributes["run_id"] for row in rows if row.val_bpb is not None)
    assert told == finished
    keys = [row.key for row in rows if row.val_bpb is not None and row.rung == "proxy"]
    assert len(keys) == len(set(keys)), "the same recipe ran twice to its end"


@pytest.mark.parametrize("workers_survive", [False, True], ids=["workers die", "workers survive"])
@pytest.mark.parametrize("rule", RULES)
def test_a_crash_at_any_step_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, rule: str, workers_survive: bool
) -> None:
    steps = crash_at(small_machine(tmp_path_factory.mktemp("whole"), rule), 10**9).steps
    for step in range(1 + 5 * workers_survive + 11 * RULES.index(rule), steps, STRIDE):
        machine = small_machine(tmp_path_factory.mktemp("crash"), rule)
        plain_bundle = machine.bundle
        crash_at(machine, step)
        machine.bundle = plain_bundle
        if workers_survive:
            machine.world.now += 15
            step_workers(machine.world, machine.ledger)
        else:
            machine.world.workers.clear()
        machine.world.now += LEASE_SECONDS + 1  # else the dead driver still holds the study
        try:
            result = machine.run()
            assert result.settled == ("proxy", "full")
            check_finished(machine)
        except BaseException as error:
            error.add_note(f"crashed at step {step} of {steps}")
            raise


@pytest.mark.parametrize("rule", RULES)
def test_two_crashes_in_one_life_of_a_study(tmp_path: Path, rule: str) -> None:
    machine = small_machine(tmp_path, rule)
    plain_bundle = machine.bundle
    for step in (190, 130):
        crash_at(machine, step)
        machine.bundle = plain_bundle
        machine.world.workers.clear()
        machine.world.now += LEASE_SECONDS + 1
    machine.run()
    check_finished(machine)


def test_a_crash_between_a_decision_and_its_run_repeats_neither(tmp_path: Path) -> None:
    """At every write about the first dear run: it is decided once, and runs once to its end."""
    whole = small_machine(new_folder(tmp_path, "whole"), "model")
    first, last = steps_of_first_dear_run(whole)
    for step in range(first, last, 3):
        machine = small_machine(new_folder(tmp_path, str(step)), "model")
        crash_at(machine, step)
        machine.bundle = recipe_text
        machine.world.workers.clear()
        machine.world.now += LEASE_SECONDS + 1
        machine.run()
        check_finished(machine)


def new_folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def steps_of_first_dear_run(machine: Machine) -> tuple[int, int]:
    """The steps between which the first trial of the second rung is queued, asked for and submitted."""
    seen: list[int] = []
    fuse = Fuse(10**9)
    runner = FusedRunner(machine.world, machine.ledger, fuse)
    plain_prepare, plain_submit = runner.prepare, runner.submit

    def prepare(rung: str, world_size: int, accelerator: str | None) -> float:
        if rung == "full" and not seen:
            seen.append(fuse.steps)
        return plain_prepare(rung, world_size, accelerator)

    def submit(run: Run) -> None:
        plain_submit(run)
        if "-full-" in run.run_id and len(seen) == 1:
            seen.append(fuse.steps)

    runner.prepare, runner.submit = prepare, submit
    machine.bundle = fuse.around(machine.bundle)
    storage = FusedStorage(machine.url, engine_options(machine.url)).fuse(fuse)
    machine.run(ledger=fused_ledger(machine.url, fuse), storage=storage, runner=runner)
    return seen[0], seen[1]
