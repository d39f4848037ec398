"""What an export claims, collected from a study that ran on the simulated machine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulation import Machine, World, make_spec, measured_by_recipe

from search.claim import Entry
from search.errors import SubmissionError
from search.evidence import claim_of
from search.readme import found
from search.run import Run
from trainer.config import Budget
from trainer.result import Failure, Measurement

ENTRY = Entry(author="A. Player", github_id="player", date="2026-04-01")


def too_large_with_seed_2(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    outcome = measured_by_recipe(run, values)
    assert isinstance(outcome, Measurement)
    seed = int(run.environment["SEED"])
    return replace(outcome, seed=seed, artifact_bytes=10**9 if seed == 2 else outcome.artifact_bytes)


def test_a_claim_holds_the_feasible_seeds_and_says_which_are_left_out(tmp_path: Path) -> None:
    rungs = [{"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 1, "seeds": [1, 2, 3]}]
    sim = Machine(tmp_path, make_spec(rungs=rungs), World(behaviour=too_large_with_seed_2))
    sim.run()
    claim = claim_of(sim.storage, sim.ledger, "sim", ENTRY)
    assert [one.seed for one in claim.measurements] == [1, 3]
    assert (claim.origin.rung, claim.origin.trial_number, claim.origin.num_trials) == ("proxy", 0, 3)
    assert claim.origin.budget == Budget(train_tokens=1000)
    assert claim.origin.source is not None and "class Gpt" in claim.origin.source
    assert [run.code_sha256 for run in claim.runs] == [run.code_sha256 for run in sim.ledger.runs() if run.seed != 2]
    assert "Without a feasible result, and so not above: seeds 2." in found(claim)
    assert "Without" not in found(replace(claim, origin=replace(claim.origin, seeds=(1, 3))))
    with pytest.raises(SubmissionError, match="trial proxy/1: must be feasible, got infeasible artifact_bytes"):
        claim_of(sim.storage, sim.ledger, "sim", ENTRY, number=1)
