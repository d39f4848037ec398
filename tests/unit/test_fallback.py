"""A longer proxy opens where the short one does not rank, and only there."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from simulation import FakeRunner, Machine, World, make_spec, measured_by_recipe, measurement

from search.run import Run
from search.services import Brake
from search.status import study_status
from search.study import read_rungs
from trainer.result import Failure, Measurement

RUNGS: list[dict[str, Any]] = [
    {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 16},
    {"name": "middle", "budget": {"train_tokens": 3000}, "promote": 5, "fallback": True},
    {"name": "full", "budget": {"train_tokens": 9000}, "promote": 10, "seeds": [1, 2]},
]


def machine_of(folder: Path, rungs: list[dict[str, Any]] = RUNGS, **changes: Any) -> Machine:
    return Machine(folder, make_spec(rungs=rungs, sampler={"seed": 7, "kind": "random"}, **changes), World(slots=2))


def misled(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    """Proxies score by chance, longer runs by the recipe."""
    if run.run_id.split("-")[1] != "proxy":
        return measured_by_recipe(run, values)
    chance = hashlib.sha256(str(sorted(values.items())).encode()).digest()[0] / 255
    return measurement(val_bpb=1.5 + chance, artifact_bytes=100_000 * values["num_layers"])


def status_of(machine: Machine) -> dict[str, Any]:
    rungs = read_rungs(machine.storage, "sim")
    return study_status(machine.spec, rungs, machine.ledger.runs("sim"), machine.world.now)


def pairs_of(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one["from"], one["to"]) for one in status["rank_correlations"]]


def firsts(machine: Machine, rung: str) -> list[str]:
    """From which rung the recipes of one came, in order."""
    rows = {row.attributes["recipe_hash"]: row for row in reversed(machine.rows(rung))}.values()
    return [row.attributes["promoted_from"].split("/")[0] for row in sorted(rows, key=lambda row: row.number)]


def test_a_proxy_that_ranks_leaves_the_fallback_closed(tmp_path: Path) -> None:
    machine = machine_of(tmp_path, spend={"gpu_hours": 100})
    runner = FakeRunner(machine.world, machine.ledger)
    assert machine.run(runner=runner).settled == ("proxy", "full")
    assert machine.rows("middle") == [] and firsts(machine, "full") == ["proxy"] * 10
    status = status_of(machine)
    assert pairs_of(status) == [("proxy", "full")]
    assert {one["rung"]: one["runs"] for one in status["spending"]["to_run"]}["middle"] == 0
    assert "middle" not in {rung for rung, _, _ in runner.prepared}


def test_one_that_does_not_is_replaced_by_the_fallback(tmp_path: Path) -> None:
    machine = machine_of(tmp_path)
    machine.world.behaviour = misled
    assert machine.run().settled == ("proxy", "middle", "full")
    assert firsts(machine, "middle") == ["proxy"] * 5
    origins = firsts(machine, "full")
    assert len(origins) == 10 and origins[:6] == ["proxy"] * 6 and "middle" in origins[6:]
    assert pairs_of(status_of(machine)) == [("proxy", "middle"), ("middle", "full")]
    for rung in ("middle", "full"):
        keys = [row.key for row in machine.rows(rung)]
        assert len(set(keys)) == len(keys), "each recipe once a seed"


def test_slots_that_the_fallback_cannot_fill_are_filled_from_before(tmp_path: Path) -> None:
    short = [RUNGS[0], {**RUNGS[1], "promote": 2}, RUNGS[2]]
    machine = machine_of(tmp_path, short)
    machine.world.behaviour = misled
    assert machine.run().settled == ("proxy", "middle", "full")
    origins = firsts(machine, "full")
    assert len(machine.rows("middle")) == 2 and len(origins) == 10
    assert origins.count("middle") <= 2 and origins[-1] == "proxy"


def test_a_study_that_is_stopped_again_and_again_goes_the_same_way(tmp_path: Path) -> None:
    machine = machine_of(tmp_path)
    machine.world.behaviour = misled
    lives = 1
    while machine.run(Brake(trials_left=5)).stopped_at is not None:
        lives += 1
        assert lives < 40
    assert lives > 5 and len(machine.rows("middle")) == 5
    assert len({row.attributes["recipe_hash"] for row in machine.rows("full")}) == 10
    assert all(run.state.value == "finished" for run in machine.ledger.runs("sim"))


@pytest.mark.parametrize(
    ("places", "rule", "where"),
    [
        ((0,), "model", ["rungs", 0, "fallback"]),
        ((2,), "model", ["rungs", 2, "fallback"]),
        ((1, 2), "model", ["rungs", 2, "fallback"]),
        ((1,), "top", ["promotion", "rule"]),
    ],
)
def test_a_fallback_stands_between_two_other_rungs(places: tuple[int, ...], rule: str, where: list[Any]) -> None:
    rungs = [{**rung, "promote": 4} if place else rung for place, rung in enumerate(RUNGS)]
    with pytest.raises(ValidationError) as caught:
        make_spec(rungs=[{**rung, "fallback": n in places} for n, rung in enumerate(rungs)], promotion={"rule": rule})
    assert caught.value.errors()[0].get("ctx", {})["at"] == where
