"""Rungs side by side: who gets a free slot, what a rung without a machine does to the others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulation import FakeRunner, Machine, World, failure, make_spec, measured_by_recipe

from search.errors import RunnerError
from search.run import Run
from search.services import Brake
from search.trials import TrialStatus
from trainer.result import Failure, FailureKind, Measurement


def ladder(folder: Path, slots: int = 2, trials: int = 12, promote: int = 6, **changes: Any) -> Machine:
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": trials},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": promote, "seeds": [1, 2, 3]},
    ]
    return Machine(folder, make_spec(rungs=rungs, **changes), World(slots=slots))


def submitted(machine: Machine) -> list[str]:
    """Rungs of the runs, in the order of their start."""
    return [run.run_id.split("-")[1] for run in machine.world.submitted]


def test_dear_runs_start_while_proxies_still_run(tmp_path: Path) -> None:
    machine = ladder(tmp_path, queue=[{"set": {"model.num_layers": 6}}])
    assert machine.run().settled == ("proxy", "full")
    order = submitted(machine)
    assert order.index("full") < len(order) - 1 - order[::-1].index("proxy")
    full = machine.rows("full")
    reasons = [row.attributes["decision"]["reason"] for row in full]
    assert reasons[0] == "anchor" and reasons[1:6].count("lcb") >= 4 and reasons[6:] == ["seeds"] * 4
    assert len({row.attributes["recipe_hash"] for row in full}) == 6


def test_a_decision_knows_the_dear_runs_before_it(tmp_path: Path) -> None:
    machine = ladder(tmp_path, slots=1)
    machine.run()
    decisions = [row.attributes["decision"] for row in machine.rows("full")]
    modelled = [one for one in decisions if one["reason"] in {"lcb", "random"}]
    assert modelled[0]["sd"] > modelled[-1]["sd"] > 0
    assert all(len(one["alternatives"]) <= 3 for one in modelled)


def test_the_plain_rule_waits_for_every_proxy(tmp_path: Path) -> None:
    machine = ladder(tmp_path, promotion={"rule": "top"})
    assert machine.run().settled == ("proxy", "full")
    assert submitted(machine) == ["proxy"] * 12 + ["full"] * 18


def test_a_lost_proxy_is_repeated_before_the_rung_counts_as_finished(tmp_path: Path) -> None:
    machine = ladder(tmp_path, slots=1, promotion={"rule": "top"})

    def behaviour(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
        is_lost = run.run_id == "sim-proxy-0011-1"
        return failure(FailureKind.MACHINE) if is_lost else measured_by_recipe(run, values)

    machine.world.behaviour = behaviour
    assert machine.run().settled == ("proxy", "full")
    assert submitted(machine) == ["proxy"] * 13 + ["full"] * 18


def test_three_rungs_feed_each_other(tmp_path: Path) -> None:
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 8},
        {"name": "middle", "budget": {"train_tokens": 3000}, "promote": 4},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": 1, "seeds": [1, 2, 3]},
    ]
    machine = Machine(tmp_path, make_spec(rungs=rungs))
    assert machine.run().settled == ("proxy", "middle", "full")
    full = machine.rows("full")
    assert {row.attributes["promoted_from"].split("/")[0] for row in full} == {"middle"}
    best = min(machine.rows("middle"), key=lambda row: row.attributes["val_bpb"])
    assert {row.attributes["recipe_hash"] for row in full} == {best.attributes["recipe_hash"]}
    assert [row.attributes["seed"] for row in full] == [1, 2, 3]


def test_a_later_rung_predicts_bytes_by_what_the_proxies_measured(tmp_path: Path) -> None:
    """A recipe that may go on thanks to them would else be refused where it goes."""
    machine = ladder(tmp_path)
    machine.predict_bytes = lambda recipe, code_bytes, rows: 0 if any(row.rung == "proxy" for row in rows) else 10**9
    machine.run()
    assert {row.status for row in machine.rows("full")} == {TrialStatus.FEASIBLE}


class OneMachine(FakeRunner):
    """A run of the second rung takes the whole machine."""

    rung = ""

    def prepare(self, rung: str, world_size: int, accelerator: str | None) -> float:
        self.rung = rung
        return super().prepare(rung, world_size, accelerator)

    @property
    def free_slots(self) -> int:
        runs = [worker.run.run_id for worker in self.world.workers.values()]
        if any("-full-" in run for run in runs):
            return 0
        return (not runs) if self.rung == "full" else super().free_slots


def test_small_runs_do_not_keep_a_large_one_waiting_for_ever(tmp_path: Path) -> None:
    machine = ladder(tmp_path, trials=20)
    assert machine.run(runner=OneMachine(machine.world, machine.ledger)).settled == ("proxy", "full")
    order = submitted(machine)
    assert order.index("full") < 12, "the base, as anchor, is due after the first proxies"


class NoLargeMachine(FakeRunner):
    """No node can hold a run of the second rung."""

    def prepare(self, rung: str, world_size: int, accelerator: str | None) -> float:
        if rung == "full":
            raise RunnerError("rung full: expected 8 GPUs, got 2 CPUs")
        return super().prepare(rung, world_size, accelerator)


def test_a_rung_that_fits_no_machine_lets_the_others_finish(tmp_path: Path) -> None:
    machine = ladder(tmp_path)
    with pytest.raises(RunnerError, match="rung full: expected 8 GPUs, got 2 CPUs"):
        machine.run(runner=NoLargeMachine(machine.world, machine.ledger))
    assert [row.status for row in machine.rows("proxy")] == [TrialStatus.FEASIBLE] * 12
    assert machine.rows("full") == []
    assert machine.run().settled == ("proxy", "full")


def test_the_brake_stops_all_rungs(tmp_path: Path) -> None:
    machine = ladder(tmp_path)
    while (result := machine.run(Brake(trials_left=5))).stopped_at is not None:
        assert len(machine.world.submitted) % 5 == 0
    assert result.settled == ("proxy", "full")
    assert len(machine.world.submitted) == 12 + 6 + 4
