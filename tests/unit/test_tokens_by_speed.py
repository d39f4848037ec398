"""Rungs that give each recipe as many tokens as its speed in the last rung is worth."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from simulation import Machine, World, make_spec, measurement

from search.calibrate import calibration_spec
from search.calibrate_report import as_rung, calibration_report
from search.export.claim import Entry
from search.export.evidence import claim_of
from search.flops import flops_per_token, relative_speed, tokens_per_flop
from search.run import Run
from search.spec import StudySpec, definition_differences
from spaces.fields import set_values
from spaces.recipes import named_recipe
from trainer.config import Budget, Recipe
from trainer.result import Measurement

RUNGS = [
    {"name": "proxy", "budget": {"train_tokens": 1_000_000}, "trials": 4, "tokens_by_speed": True},
    {"name": "full", "budget": {"train_seconds": 600}, "promote": 2},
]


def study(**changes: Any) -> StudySpec:
    return make_spec(**{"rungs": RUNGS, "queue": [{"set": {"model.num_layers": 18}}], **changes})


def test_a_recipe_of_more_arithmetic_trains_fewer_tokens() -> None:
    base = Recipe()
    deep = set_values(base, {"model.num_layers": 18})
    assert relative_speed(base, base) == 1.0
    assert relative_speed(deep, base) == pytest.approx(flops_per_token(base) / flops_per_token(deep))
    looped = named_recipe("record_1493")
    plain, slow = (1 / flops_per_token(looped, is_looped=looping) for looping in (False, True))
    assert slow < tokens_per_flop(looped) < plain, "its loop goes on at a share of the time"


def seeded(run: Run, values: Mapping[str, Any]) -> Measurement:
    return measurement(val_bpb=1 + values["matrix_lr"], seed=int(run.environment["SEED"]))


def test_runs_get_their_tokens_and_say_so(tmp_path: Path) -> None:
    sim = Machine(tmp_path, study(), World(behaviour=seeded))
    sim.run()
    base, deep = sim.rows("proxy")[:2]
    expected = round(1e6 * relative_speed(deep.recipe or Recipe(), base.recipe or Recipe()))
    assert 400_000 < expected < 700_000
    assert [row.attributes["run_tokens"] for row in (base, deep)] == [1_000_000, expected]
    codes = {run.run_id: json.loads((run.folder / "train_gpt.py").read_bytes()) for run in sim.world.submitted}
    assert codes[deep.attributes["run_id"]]["budget"] == str(Budget(train_tokens=expected))
    full = sim.rows("full")[0]
    assert codes[full.attributes["run_id"]]["budget"] == str(Budget(train_seconds=600.0))
    assert "run_tokens" not in full.attributes
    entry = Entry(author="A. Player", github_id="player", date="2026-04-01")
    claim = claim_of(sim.storage, sim.ledger, "sim", entry, "proxy", deep.number)
    assert claim.origin.budget == Budget(train_tokens=expected)


def test_speed_is_that_of_the_last_rungs_run() -> None:
    """What the rung sets is not what the last rung will run."""
    rung = study(rungs=[{**RUNGS[0], "set": {"model.num_layers": 2}}, RUNGS[1]], space=NARROW).rungs[0]
    base = Recipe()
    deep = set_values(base, {"model.num_layers": 18})
    assert rung.run_recipe(deep).model.num_layers == 2
    assert (rung.run_budget(deep, base).train_tokens or 0) < 700_000


NARROW = {"params": {"optim.matrix_lr": {"low": 0.01, "high": 0.1}}}


def test_it_is_for_rungs_of_tokens_before_one_of_seconds() -> None:
    seconds = {**RUNGS[0], "budget": {"train_seconds": 60}}
    tokens = {**RUNGS[1], "budget": {"train_tokens": 10**7}}
    with pytest.raises(ValueError, match="must be left out unless its own budget is in train_tokens"):
        study(rungs=[seconds, RUNGS[1]])
    with pytest.raises(ValueError, match="must be left out unless the last rung's budget is in train_seconds"):
        study(rungs=[RUNGS[0], tokens])
    with pytest.raises(ValueError, match="must be left out unless"):
        study(rungs=[{**RUNGS[0], "tokens_by_speed": False}, {**RUNGS[1], "tokens_by_speed": True}])


def test_it_is_part_of_what_results_mean() -> None:
    plain, by_speed = (
        study(rungs=[{**RUNGS[0], "tokens_by_speed": one}, RUNGS[1]]).definition() for one in (False, True)
    )
    assert definition_differences(plain, by_speed) == ["rungs.0.tokens_by_speed was None, got True"]


def test_it_is_calibrated_beside_equal_tokens() -> None:
    candidates = [{"budget": {"train_tokens": 1_000_000}}]
    spec = calibration_spec(study(calibrate={"candidates": candidates}), 6)
    names = [(rung.name, rung.tokens_by_speed) for rung in spec.rungs]
    assert names == [("1000000-tokens", False), ("1000000-tokens-by-speed", True), ("600-seconds", False)]
    report = calibration_report(spec, {rung.name: [] for rung in spec.rungs})
    chosen = as_rung({**report, "recommended": "1000000-tokens-by-speed"})
    assert chosen == "{budget: {train_tokens: 1000000}, tokens_by_speed: true}"
