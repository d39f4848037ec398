"""What an export claims, collected from a study that ran on the simulated machine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulation import Machine, World, failure, make_spec, measured_by_recipe

from search.errors import SubmissionError
from search.export.claim import Entry
from search.export.evidence import claim_of
from search.export.readme_origin import found
from search.export.record import record_facts
from search.run import Run
from search.status import study_status
from search.study import read_rungs
from trainer.config import Budget
from trainer.result import Failure, FailureKind, Measurement

ENTRY = Entry(author="A. Player", github_id="player", date="2026-04-01")
THREE_SEEDS = [{"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 1, "seeds": [1, 2, 3]}]


def measured(run: Run, values: Mapping[str, Any]) -> Measurement:
    """As the simulated trainer measures it, with the seed it was given."""
    outcome = measured_by_recipe(run, values)
    assert isinstance(outcome, Measurement)
    return replace(outcome, seed=int(run.environment["SEED"]))


def too_large_with_seed_2(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    outcome = measured(run, values)
    return replace(outcome, artifact_bytes=10**9) if outcome.seed == 2 else outcome


def one_byte_over_in_full(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    outcome = measured(run, values)
    return replace(outcome, artifact_bytes=16_000_001) if "train_tokens=9000" in values["budget"] else outcome


def finished(folder: Path, behaviour: Any = measured, **changes: Any) -> Machine:
    sim = Machine(folder, make_spec(**changes), World(behaviour=behaviour))
    sim.run()
    return sim


def test_a_claim_holds_the_feasible_seeds_and_says_which_are_left_out(tmp_path: Path) -> None:
    sim = finished(tmp_path, too_large_with_seed_2, rungs=THREE_SEEDS)
    claim = claim_of(sim.storage, sim.ledger, "sim", ENTRY)
    assert [one.seed for one in claim.measurements] == [1, 3]
    assert (claim.origin.rung, claim.origin.trial_number, claim.origin.num_trials) == ("proxy", 0, 3)
    assert (claim.origin.num_recipes, list(claim.origin.lost), list(claim.origin.rank_correlations)) == (1, [], [])
    assert claim.origin.budget == Budget(train_tokens=1000)
    assert claim.origin.source is not None and "class Gpt" in claim.origin.source
    assert [run.code_sha256 for run in claim.runs] == [run.code_sha256 for run in sim.ledger.runs() if run.seed != 2]
    (left_out,) = claim.left_out
    assert (left_out.seed, left_out.artifact_bytes) == (2, 10**9)
    assert left_out.reason.startswith("infeasible artifact_bytes: must be at most 16,000,000")
    assert "Without a feasible result, and so not above: seeds 2. Why: 2: infeasible" in found(claim)
    assert "Without" not in found(replace(claim, origin=replace(claim.origin, seeds=(1, 3))))
    assert "all-seeds" in [fact.rule for fact in record_facts(claim) if not fact.is_kept]
    with pytest.raises(SubmissionError, match="trial proxy/1: must be feasible, got infeasible artifact_bytes"):
        claim_of(sim.storage, sim.ledger, "sim", ENTRY, number=1)


def test_a_promoted_trial_one_byte_over_is_refused_and_no_earlier_rung_takes_its_place(tmp_path: Path) -> None:
    sim = finished(tmp_path, one_byte_over_in_full)
    match = (
        "rung full: expected a feasible trial .* infeasible artifact_bytes: must be at most 16,000,000, got 16,000,001"
    )
    for rung in (None, "full"):
        with pytest.raises(SubmissionError, match=match):
            claim_of(sim.storage, sim.ledger, "sim", ENTRY, rung)
    with pytest.raises(SubmissionError, match="trial full/0: must be feasible, got infeasible artifact_bytes"):
        claim_of(sim.storage, sim.ledger, "sim", ENTRY, "full", 0)
    assert claim_of(sim.storage, sim.ledger, "sim", ENTRY, "proxy").origin.rung == "proxy"


def test_the_search_is_told_as_status_tells_it(tmp_path: Path) -> None:
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 6},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": 4},
    ]
    sim = finished(tmp_path, rungs=rungs)
    claim = claim_of(sim.storage, sim.ledger, "sim", ENTRY)
    status = study_status(sim.spec, read_rungs(sim.storage, "sim"), sim.ledger.runs("sim"), sim.world.now)
    (pair,), (told,) = claim.origin.rank_correlations, status["rank_correlations"]
    assert (pair.low, pair.high, pair.recipes) == ("proxy", "full", 4)
    assert pair.spearman == told["spearman"] is not None
    assert claim.origin.gpu_hours == pytest.approx(status["gpu_seconds"] / 3600)
    assert claim.origin.num_recipes == 4
    assert f"- `proxy` to `full`: {pair.spearman:.2f} (4 recipes in both)" in found(claim)


def test_a_run_that_the_machine_lost_is_told(tmp_path: Path) -> None:
    runs: list[str] = []

    def fails_once(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
        runs.append(run.run_id)
        is_first_of_3 = run.environment["SEED"] == "3" and run.run_id.endswith("-1") and len(runs) == 3
        return failure(FailureKind.MACHINE, "the node went away") if is_first_of_3 else measured(run, values)

    sim = finished(tmp_path, fails_once, rungs=THREE_SEEDS)
    claim = claim_of(sim.storage, sim.ledger, "sim", ENTRY)
    assert [one.seed for one in claim.measurements] == [1, 2, 3]
    assert claim.left_out == []
    logged = [run.log_sha256 for run in sim.ledger.runs() if isinstance(run.outcome, Measurement)]
    assert [run.log_sha256 for run in claim.runs] == logged
    assert list(claim.origin.lost) == ["trial 2, seed 3: machine: the node went away"]


def wrong_seed(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    return replace(measured(run, values), seed=99)


def wrong_world_size(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    return replace(measured(run, values), world_size=2)


@pytest.mark.parametrize(
    ("behaviour", "match"),
    [
        (wrong_seed, "trial proxy/0: seed: expected 1, as told, got 99 in run sim-proxy-0000-1"),
        (wrong_world_size, "trial proxy/0: world_size: expected 1, as told, got 2"),
    ],
)
def test_a_run_that_measured_something_else_is_refused(tmp_path: Path, behaviour: Any, match: str) -> None:
    sim = finished(tmp_path, behaviour, rungs=THREE_SEEDS)
    with pytest.raises(SubmissionError, match=match):
        claim_of(sim.storage, sim.ledger, "sim", ENTRY)


def test_nothing_measured_is_nothing_to_submit(tmp_path: Path) -> None:
    sim = finished(tmp_path, lambda run, values: failure(FailureKind.DIVERGED, "nan"), rungs=THREE_SEEDS)
    with pytest.raises(SubmissionError, match="study sim: expected a feasible trial to submit, got none yet"):
        claim_of(sim.storage, sim.ledger, "sim", ENTRY)
