"""Collects from the store what a submission claims: the trial, its runs and their hashes, the search behind it."""

from collections.abc import Sequence
from pathlib import Path

from search.bundle import bundle
from search.claim import Claim, Entry, Origin, SeedRun
from search.errors import SubmissionError
from search.ledger import Ledger
from search.promote import top_recipes
from search.spec_parts import Limits
from search.store import Storage, load_rungs, stored_definition
from search.study import read_rows
from search.trials import TrialRow, TrialStatus
from trainer.config import Budget
from trainer.result import Measurement


def claim_of(
    storage: Storage, ledger: Ledger, study: str, entry: Entry, rung: str | None = None, number: int | None = None
) -> Claim:
    """What a submission of a study's trial would claim: every feasible seed of its recipe in its rung.

    Args:
        rung: None takes the last rung that has a feasible trial.
        number: None takes the rung's best recipe.

    Raises:
        StoreError: there is no such study.
        SubmissionError: there is no such rung or trial, or it has no run of its own to submit.
    """
    definition = stored_definition(storage, study)
    rows_of = {name: read_rows(optuna, name) for name, optuna in load_rungs(storage, study).items()}
    rung = rung or last_with_feasible(rows_of, study)
    if rung not in rows_of:
        raise SubmissionError(f"study {study}: rung must be one of {', '.join(rows_of)}, got {rung}")
    chosen = chosen_trial(rows_of[rung], rung, number)
    recipe = chosen.recipe
    assert recipe is not None, "a feasible trial was measured, so it had a recipe"
    seeds = [
        row
        for row in rows_of[rung]
        if row.status is TrialStatus.FEASIBLE
        and row.attributes["recipe_hash"] == chosen.attributes["recipe_hash"]
        and not row.is_copy
    ]
    rung_definition = next(one for one in definition["rungs"] if one["name"] == rung)
    budget = Budget(**rung_definition["budget"])
    every_row = [row for rows in rows_of.values() for row in rows]
    origin = Origin(
        study=study,
        rung=rung,
        trial_number=chosen.number,
        recipe=recipe,
        budget=budget,
        limits=Limits(**definition["limits"]),
        num_trials=sum(not row.is_open for row in every_row),
        gpu_hours=sum(run.gpu_seconds for run in ledger.runs(study)) / 3600,
        data_path=Path(definition["data"]["path"]).absolute(),
        tokenizer_path=Path(definition["data"]["tokenizer"]).absolute(),
        seeds=rung_definition["seeds"],
        source=bundle(recipe, budget).source,  # today's; export ships it only if it packs to the code that ran
    )
    return Claim(entry=entry, origin=origin, runs=[seed_run(ledger, row) for row in seeds])


def last_with_feasible(rows_of: dict[str, list[TrialRow]], study: str) -> str:
    """The last rung with a feasible trial.

    Raises:
        SubmissionError: none has one.
    """
    with_feasible = [name for name, rows in rows_of.items() if top_recipes(rows, 1)]
    if not with_feasible:
        raise SubmissionError(f"study {study}: expected a feasible trial to submit, got none yet")
    return with_feasible[-1]


def chosen_trial(rows: Sequence[TrialRow], rung: str, number: int | None) -> TrialRow:
    """The trial to submit.

    Raises:
        SubmissionError: it does not exist, is not feasible, or was never run itself.
    """
    if number is None:
        best = top_recipes(rows, 1)
        if not best:
            raise SubmissionError(f"rung {rung}: expected a feasible trial to submit, got none")
        return best[0]
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


def seed_run(ledger: Ledger, row: TrialRow) -> SeedRun:
    """The run behind a feasible trial, as the ledger has it.

    Raises:
        SubmissionError: the ledger holds no measurement for it.
    """
    record = ledger.get(row.attributes["run_id"])
    if not isinstance(record.outcome, Measurement):
        raise SubmissionError(f"trial {row.rung}/{row.number}: expected a measured run, got {record.state.value}")
    return SeedRun(folder=Path(record.folder), measurement=record.outcome, code_sha256=record.code_sha256)
