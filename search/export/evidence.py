"""Collects from the store what a submission claims: the trial, its runs and their hashes, the search behind it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.bundle import bundle
from search.correlation import rank_correlation
from search.errors import SubmissionError
from search.export.claim import Claim, Entry, LeftOut, Origin, RankCorrelation, SeedRun
from search.fallback import taking_part
from search.ledger import Ledger
from search.spec_parts import Limits
from search.store import Storage, stored_definition
from search.study import read_rungs
from search.trials import RUN_TOKENS, TrialRow, TrialStatus
from search.winner import Terms, standings, terms_of
from trainer.config import Budget
from trainer.result import Measurement


def claim_of(
    storage: Storage, ledger: Ledger, study: str, entry: Entry, rung: str | None = None, number: int | None = None
) -> Claim:
    """What a submission of a study's trial would claim: every feasible seed of its recipe in its rung.

    Args:
        rung: None takes the last rung that has a measured trial.
        number: None takes the recipe that is most likely the rung's best.

    Raises:
        StoreError: there is no such study.
        SubmissionError: there is no such rung or trial, or it has no run of its own to submit.
    """
    definition = stored_definition(storage, study)
    rows_of = read_rungs(storage, study)
    rung = rung or last_measured(rows_of, study)
    if rung not in rows_of:
        raise SubmissionError(f"study {study}: rung must be one of {', '.join(rows_of)}, got {rung}")
    rung_definition = next(one for one in definition["rungs"] if one["name"] == rung)
    terms = terms_of(rung, rows_of, rung_definition["seeds"], definition["limits"]["artifact_bytes"])
    chosen = chosen_trial(rows_of[rung], terms, rung, number)
    same = [row for row in rows_of[rung] if is_of_recipe(row, chosen.attributes["recipe_hash"])]
    budget = Budget(**rung_definition["budget"])
    runs = [seed_run(ledger, row, budget) for row in same if row.status is TrialStatus.FEASIBLE]
    facts = search_facts(ledger, study, rows_of, same)
    return Claim(entry=entry, origin=origin_of(study, chosen, definition, rung_definition, facts), runs=runs)


def is_of_recipe(row: TrialRow, recipe_hash: str) -> bool:
    """Whether a trial is of a recipe and not another one's copy."""
    return row.attributes.get("recipe_hash") == recipe_hash and not row.is_copy


def origin_of(
    study: str, chosen: TrialRow, definition: Mapping[str, Any], rung: Mapping[str, Any], facts: Mapping[str, Any]
) -> Origin:
    """The trial and the search that found it.

    Args:
        definition: of the study.
        rung: the part of it that defines the chosen trial's rung.
        facts: what search_facts counted.
    """
    recipe, budget = chosen.run_recipe, Budget(**rung["budget"])
    budget = replace(budget, train_tokens=chosen.attributes.get(RUN_TOKENS, budget.train_tokens))
    assert recipe is not None, "a feasible trial was measured, so it had a recipe"
    return Origin(
        study=study,
        rung=chosen.rung,
        trial_number=chosen.number,
        recipe=recipe,
        budget=budget,
        limits=Limits(**definition["limits"]),
        data_path=Path(definition["data"]["path"]).absolute(),
        tokenizer_path=Path(definition["data"]["tokenizer"]).absolute(),
        seeds=rung["seeds"],
        source=bundle(recipe, budget).source,  # today's; export ships it only if it packs to the code that ran
        **facts,
    )


def search_facts(
    ledger: Ledger, study: str, rows_of: Mapping[str, Sequence[TrialRow]], same: Sequence[TrialRow]
) -> dict[str, Any]:
    """What the search took and how its rungs agree, as fields of Origin.

    Args:
        rows_of: trials by rung, in the study's order.
        same: trials of the chosen recipe in its rung.
    """
    every_row = [row for rows in rows_of.values() for row in rows]
    return {
        "num_trials": sum(not row.is_open for row in every_row),
        "gpu_hours": sum(run.gpu_seconds for run in ledger.runs(study)) / 3600,
        "unfeasible": {row.attributes["seed"]: left_out(row) for row in same if row.status is not TrialStatus.FEASIBLE},
        "lost": [lost_line(row) for row in same if row.status is TrialStatus.LOST],
        "num_recipes": num_measured_recipes(rows_of[same[0].rung]),
        "rank_correlations": [
            RankCorrelation(low=low, high=high, recipes=pair["recipes"], spearman=pair["spearman"])
            for low, high in itertools.pairwise(taking_part(rows_of))
            for pair in [rank_correlation(rows_of[low], rows_of[high])]
        ],
    }


def left_out(row: TrialRow) -> LeftOut:
    """Why a trial's seed has no feasible result; of several trials of a seed, the last one tells."""
    reason = f"{row.status.value} {row.reason}".rstrip()
    return LeftOut(seed=row.attributes["seed"], reason=reason, artifact_bytes=row.artifact_bytes)


def lost_line(row: TrialRow) -> str:
    """A run that the machine or the user ended."""
    kind = "lost" if row.failure is None else row.failure.value
    return f"trial {row.number}, seed {row.attributes['seed']}: {kind}: {row.reason or 'no reason known'}"


def num_measured_recipes(rows: Sequence[TrialRow]) -> int:
    """How many recipes a rung has measured."""
    return len({row.attributes["recipe_hash"] for row in rows if row.val_bpb is not None and not row.is_copy})


def last_measured(rows_of: Mapping[str, Sequence[TrialRow]], study: str) -> str:
    """The last rung with a measured trial. An earlier one must be asked for: its budget is another.

    Raises:
        SubmissionError: none has one.
    """
    measured = [name for name, rows in rows_of.items() if num_measured_recipes(rows)]
    if not measured:
        raise SubmissionError(f"study {study}: expected a feasible trial to submit, got none yet")
    return measured[-1]


def chosen_trial(rows: Sequence[TrialRow], terms: Terms, rung: str, number: int | None) -> TrialRow:
    """The trial to submit.

    Raises:
        SubmissionError: it does not exist, is not feasible, or was never run itself.
    """
    if number is None:
        best = standings(rows, terms)
        if not best:
            raise SubmissionError(f"rung {rung}: expected a feasible trial to submit, got {best_of_none(rows)}")
        return best[0].row
    if not 0 <= number < len(rows):
        raise SubmissionError(f"rung {rung}: trial must be 0 to {len(rows) - 1}, got {number}")
    row = rows[number]
    if row.status is not TrialStatus.FEASIBLE:
        raise SubmissionError(f"trial {rung}/{number}: must be feasible, got {row.status.value} {row.reason}".rstrip())
    if row.is_copy:
        raise SubmissionError(
            f"trial {rung}/{number}: must have a run of its own, got a copy of trial {row.attributes['copied_from']}"
        )
    return row


def best_of_none(rows: Sequence[TrialRow]) -> str:
    """The best trial of a rung without a feasible one, and what is wrong with it."""
    measured = [(row.val_bpb, row.number, row) for row in rows if row.val_bpb is not None]
    if not measured:
        return "none"
    row = min(measured)[-1]
    return f"trial {row.number} as the best: {row.status.value} {row.reason}; --rung chooses another rung"


def seed_run(ledger: Ledger, row: TrialRow, budget: Budget) -> SeedRun:
    """The run behind a feasible trial, as the ledger has it.

    Raises:
        SubmissionError: the ledger holds no measurement for it, or one of another seed, score or number of ranks.
    """
    record, trial = ledger.get(row.attributes["run_id"]), f"trial {row.rung}/{row.number}"
    one = record.outcome
    if not isinstance(one, Measurement):
        raise SubmissionError(f"{trial}: expected a measured run, got {record.state.value}")
    for name, expected, got in (
        ("seed", row.attributes["seed"], one.seed),
        ("val_bpb", row.val_bpb, one.val_bpb),
        ("artifact_bytes", row.artifact_bytes, one.artifact_bytes),
        ("world_size", budget.world_size, one.world_size),
    ):
        if got != expected:
            raise SubmissionError(f"{trial}: {name}: expected {expected}, as told, got {got} in run {record.run_id}")
    return SeedRun(
        folder=Path(record.folder), measurement=one, code_sha256=record.code_sha256, log_sha256=record.log_sha256
    )
