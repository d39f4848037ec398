"""caddie calibrate: the study it makes of another one, and what it recommends."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from rich.console import Console
from simulation import Machine, World, make_spec, measurement

from search.calibrate import calibration_spec, candidates_of
from search.calibrate_report import advice, as_rung, calibration_report, calibration_table
from search.correlation import CONFIDENCE, correlate, kendall
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
    budgets = [one.to_budget() for one in candidates_of(study(), (1 / 8, 1 / 2))]
    assert budgets == [
        Budget(train_tokens=2000, eval_tokens=2048),
        Budget(train_tokens=2000),
        Budget(train_tokens=8000),
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
    report = calibration_report(spec, {name: machine.rows(name) for name in names})
    assert [one["ranks"] for one in report["candidates"]] == [False, False, False, True, True]
    assert report["recommended"] == "4000-tokens"
    assert advice(report) == "Cheapest budget that ranks like 16000-tokens: 4000-tokens"


def test_too_few_recipes_recommend_nothing(tmp_path: Path) -> None:
    spec = calibration_spec(study(), 3, (1 / 4,))
    machine = Machine(tmp_path, spec, World(slots=4, behaviour=by_budget))
    machine.run()
    report = calibration_report(spec, {rung.name: machine.rows(rung.name) for rung in spec.rungs})
    assert report["recommended"] is None and {one["ranks"] for one in report["candidates"]} == {None}
    assert "Run more recipes" in advice(report)


CANDIDATES = [
    {"budget": {"train_tokens": 4000}, "set": {"schedule.train_seq_len": 512}, "accelerator": "A100"},
    {"budget": {"train_tokens": 4000}, "set": {"schedule.train_seq_len": 512}, "accelerator": "H100"},
    {"budget": {"train_tokens": 4000}, "set": {"schedule.train_batch_tokens": 32_768, "optim.grad_clip_norm": 0.5}},
]


def named(candidates: list[dict[str, Any]] = CANDIDATES, **changes: Any) -> StudySpec:
    return study(calibrate={"candidates": candidates}, **changes)


def test_named_candidates_take_the_place_of_the_usual_shares() -> None:
    spec = calibration_spec(named(), 6)
    assert [(rung.name, rung.accelerator) for rung in spec.rungs] == [
        ("2000-tokens-eval-2048", None),
        ("4000-tokens-grad_clip_norm-0_5-train_batch_tokens-32768", None),
        ("4000-tokens-train_seq_len-512-a100", "A100"),
        ("4000-tokens-train_seq_len-512-h100", "H100"),
        ("16000-tokens", None),
    ]
    assert [rung.set for rung in spec.rungs] == [{}, CANDIDATES[2]["set"], *[CANDIDATES[0]["set"]] * 2, {}]
    assert spec.calibrate is None and spec == calibration_spec(named(), 6)


def test_shares_that_are_asked_for_come_beside_them() -> None:
    names = [rung.name for rung in calibration_spec(named(CANDIDATES[:1]), 6, (1 / 2,)).rungs]
    assert names == ["2000-tokens-eval-2048", "4000-tokens-train_seq_len-512", "8000-tokens", "16000-tokens"]


def test_long_and_equal_names_are_told_apart() -> None:
    long = {"optim.muon_momentum_warmup_fraction": 0.25, "schedule.warmdown_fraction": 0.5, "optim.muon_momentum": 0.9}
    alike = [{"optim.grad_clip_norm": 0.5}, {"optim.grad_clip_norm": 0.5, "ema": None}, {"ema": {}}, {"ema": None}]
    candidates = [{"budget": {"train_tokens": 4000}, "set": one} for one in (long, *alike)]
    names = [rung.name for rung in calibration_spec(named(candidates), 6).rungs]
    assert len(set(names)) == len(names) and all(len(name) <= 64 for name in names)


def by_length(run: Run, values: Mapping[str, Any]) -> Measurement:
    """Runs of 2,000 tokens score by chance, all others by their recipe."""
    chance = int(hashlib.sha256(f"{values}".encode()).hexdigest()[:4], 16) / 2**16
    return measurement(val_bpb=1.0 + values["matrix_lr"] + (chance if "train_tokens=2000" in values["budget"] else 0.0))


def test_the_cheapest_in_money_is_recommended(tmp_path: Path) -> None:
    """Simulated runs all hold their GPU for as long, so the cheaper GPU wins."""
    prices = {"A100": 1.2, "H100": 2.4, "any": 4.8}
    spec = calibration_spec(named(CANDIDATES, spend={"prices": prices}), 10)
    machine = Machine(tmp_path, spec, World(slots=4, behaviour=by_length))
    machine.run()
    report = calibration_report(spec, {rung.name: machine.rows(rung.name) for rung in spec.rungs})
    by_name = {one["rung"]: one for one in report["candidates"]}
    assert [one["ranks"] for one in report["candidates"]] == [False, True, True, True]
    assert report["recommended"] == "4000-tokens-train_seq_len-512-a100"
    best = by_name[report["recommended"]]
    assert best["dollars"] == pytest.approx(30 / 3600 * 1.2) and best["is_cost_measured"]
    assert best["share_of_cost"] == pytest.approx(1.2 / 4.8)
    assert best["budget"] == {"train_tokens": 4000} and best["set"] == {"schedule.train_seq_len": 512}
    assert as_rung(report) == "{budget: {train_tokens: 4000}, set: {schedule.train_seq_len: 512}, accelerator: A100}"
    assert 0.9 < best["kendall_interval"][0] <= best["kendall"] <= best["kendall_interval"][1] <= 1.0
    console = Console(width=250)
    with console.capture() as shown:
        console.print(calibration_table(report))
    assert "A100" in shown.get() and "25%" in shown.get()


def test_before_any_run_costs_are_those_of_budgets_in_seconds() -> None:
    rungs = [
        {"name": "proxy", "budget": {"train_seconds": 100}, "trials": 4},
        {"name": "full", "budget": {"train_seconds": 600, "world_size": 8}, "promote": 2},
    ]
    candidate = {"budget": {"train_tokens": 1000}}
    spec = calibration_spec(make_spec(rungs=rungs, calibrate={"candidates": [candidate]}), 6)
    report = calibration_report(spec, {rung.name: [] for rung in spec.rungs})
    assert [one["gpu_seconds"] for one in report["candidates"]] == [230.0, None]
    assert report["last_cost"] == {"gpu_seconds": 5840.0, "dollars": None, "is_cost_measured": False}
    assert calibration_table(report).row_count == 2
    assert report["recommended"] is None and as_rung(report) == ""


def test_candidates_are_checked_as_rungs_are() -> None:
    wrong = [
        ({"budget": {"train_tokens": 16_000}}, "must be cheaper than the last rung full, got the same"),
        ({"budget": {"train_tokens": 9}, "set": {"optim.matrix_lr": 0.1}}, "the space decides optim.matrix_lr"),
        ({"budget": {"train_seconds": 601}}, "must be at most limits.train_seconds 600, got 601"),
    ]
    for candidate, expected in wrong:
        with pytest.raises(ValueError, match=expected):
            named([candidate])
    with pytest.raises(ValueError, match="must be given once"):
        named([CANDIDATES[0]] * 2)
    with pytest.raises(ValueError, match=r"must have A100, for calibrate.candidates\[0\], got any"):
        named(CANDIDATES[:1], spend={"dollars": 5, "prices": {"any": 1}})


def test_kendall_is_scipys_and_its_interval_holds_it() -> None:
    random = np.random.default_rng(0)
    low = random.normal(size=20)
    high = np.round(low + random.normal(scale=0.5, size=20), 1)
    found = correlate(low.tolist(), high.tolist())
    kendalls: Any = scipy.stats.kendalltau(low, high)
    assert found["kendall"] == pytest.approx(kendalls.statistic)
    picks = random.integers(20, size=(50, 20))
    counts = np.array([np.bincount(pick, minlength=20) for pick in picks])
    resampled: list[Any] = [scipy.stats.kendalltau(low[pick], high[pick]) for pick in picks]
    expected = [one.statistic for one in resampled]
    assert kendall(low.tolist(), high.tolist(), counts) == pytest.approx(expected)
    lower, upper = found["kendall_interval"]
    assert -1 <= lower < found["kendall"] < upper <= 1 and CONFIDENCE == 0.9
