"""caddie calibrate: the study it makes of another one, and what it recommends."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulation import Machine, World, make_spec, measurement

from search.calibrate import advice, calibration_report, calibration_spec, candidate_budgets
from search.errors import SpecError
from search.run import Run
from search.spec import StudySpec
from trainer.config import Budget
from trainer.result import Measurement

RUNGS = [
    {"name": "proxy", "budget": {"train_tokens": 2000, "eval_tokens": 2048}, "trials": 4},
    {"name": "full", "budget": {"train_tokens": 16_000}, "promote": 2, "seeds": [5, 6]},
]


def study(**changes: Any) -> StudySpec:
    return make_spec(rungs=RUNGS, queue=[{"set": {"model.num_layers": 5}}], **changes)


def by_budget(run: Run, values: Mapping[str, Any]) -> Measurement:
    """The shorter the run, the more of its score is chance: none at half of the tokens."""
    tokens = int(re.search(r"train_tokens=(\d+)", values["budget"])[1])  # type: ignore[index]
    chance = int(hashlib.sha256(f"{values} {tokens}".encode()).hexdigest()[:4], 16) / 2**16
    score = 1.0 + values["matrix_lr"] + (chance if tokens < 4000 else 0.0)
    return measurement(val_bpb=score, artifact_bytes=50_000_000)


def test_budgets_are_shares_of_the_last_and_the_studys_own() -> None:
    budgets = candidate_budgets(study(), (1 / 8, 1 / 2))
    assert budgets == [
        Budget(train_tokens=2000, eval_tokens=2048),
        Budget(train_tokens=2000),
        Budget(train_tokens=8000),
        Budget(train_tokens=16_000),
    ]


def test_the_study_is_one_that_refuses_and_stops_nothing() -> None:
    spec = calibration_spec(study(space={"params": {"model.num_layers": {"low": 2, "high": 4}}}), 6)
    assert spec.name == "sim-calibration"
    assert [rung.trials or rung.promote for rung in spec.rungs] == [6] * len(spec.rungs)
    assert spec.rungs[-1].to_budget() == Budget(train_tokens=16_000)
    assert (spec.promotion.rule, spec.promotion.stop_behind, spec.early_stop) == ("top", None, None)
    assert (spec.base_recipe(), spec.queued_recipes()) == (study().base_recipe(), study().queued_recipes())
    assert spec.limits.artifact_bytes > 10**9
    assert spec == calibration_spec(study(space={"params": {"model.num_layers": {"low": 2, "high": 4}}}), 6)


def test_a_long_name_is_shortened_and_stays_another_one() -> None:
    assert calibration_spec(study(name="s" * 64), 6).name == "s" * 52 + "-calibration"


def test_seconds_and_gpus() -> None:
    rungs = [
        {"name": "proxy", "budget": {"train_seconds": 120}, "trials": 4, "accelerator": "A100"},
        {"name": "full", "budget": {"train_seconds": 600, "world_size": 8}, "promote": 2, "accelerator": "H100"},
    ]
    spec = calibration_spec(make_spec(rungs=rungs), 5, (0.25,))
    assert [rung.name for rung in spec.rungs] == ["120-seconds", "150-seconds-8-gpus", "600-seconds-8-gpus"]
    assert [rung.accelerator for rung in spec.rungs] == ["A100", "H100", "H100"]


def test_shares_that_leave_nothing_are_refused() -> None:
    rungs = [{"name": "only", "budget": {"train_tokens": 2000}, "trials": 4}]
    with pytest.raises(SpecError, match=r"shares must leave a budget below only's, got 2\.0"):
        calibration_spec(make_spec(rungs=rungs), 5, (2.0,))


def test_the_cheapest_budget_that_ranks_is_recommended(tmp_path: Path) -> None:
    spec = calibration_spec(study(), 10, (1 / 16, 1 / 8, 1 / 4, 1 / 2))
    machine = Machine(tmp_path, spec, World(slots=4, behaviour=by_budget))
    names = [rung.name for rung in spec.rungs]
    assert machine.run().settled == tuple(names)
    assert all(len(machine.rows(name)) == 10 for name in names), "each recipe at each budget, whatever its size"
    report = calibration_report({name: machine.rows(name) for name in names})
    assert [one["ranks"] for one in report["candidates"]] == [False, False, False, True, True]
    assert report["recommended"] == "4000-tokens"
    assert advice(report) == "Cheapest budget that ranks like 16000-tokens: 4000-tokens"


def test_too_few_recipes_recommend_nothing(tmp_path: Path) -> None:
    spec = calibration_spec(study(), 3, (1 / 4,))
    machine = Machine(tmp_path, spec, World(slots=4, behaviour=by_budget))
    machine.run()
    report = calibration_report({rung.name: machine.rows(rung.name) for rung in spec.rungs})
    assert report["recommended"] is None and {one["ranks"] for one in report["candidates"]} == {None}
    assert "Run more recipes" in advice(report)
