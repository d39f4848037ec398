"""One rung's Optuna study: asking, telling and reading back trials. Knows Optuna's edges and our attribute names.

How an outcome is told (measured; see reference in the design): a feasible measurement COMPLETE; an infeasible one, or a
failure its recipe caused, PRUNED with its violations, which teaches TPE as COMPLETE would and keeps the stock
dashboard's best and Pareto front honest; a failure of the machine FAIL, which teaches nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from search.limits import CONSTRAINTS, failure_violations, measured_violations
from search.run import CODE_FILE, EVENTS_FILE, LOG_FILE, WEIGHT_FILE
from search.spec_parts import Limits
from search.store import load_rungs
from search.trials import TrialRow, TrialStatus
from spaces.fields import SpaceError, recipe_from_dict, recipe_hash, recipe_to_dict
from trainer.config import Recipe
from trainer.errors import ConfigError
from trainer.result import Failure, FailureKind, Measurement

MEASURED = (
    "val_bpb",
    "artifact_bytes",
    "train_seconds",
    "eval_seconds",
    "device",
    "steps",
    "train_tokens",
    "step_avg_ms",
    "peak_memory_bytes",
    "pre_quant_val_bpb",
    "post_quant_val_bpb",
    "code_bytes",
    "weight_bytes",
)
ARTIFACT_FILES = (LOG_FILE, EVENTS_FILE, CODE_FILE, WEIGHT_FILE)


class RungStudy:
    """The trials of one rung. Only the driver of the study may call what writes.

    Attributes:
        optuna: the Optuna study itself.
    """

    def __init__(self, study: optuna.Study, *, rung: str, objectives: Sequence[str], limits: Limits) -> None:
        self.optuna = study
        self.rung = rung
        self.objectives = tuple(objectives)
        self._limits = limits
        self._live: dict[int, Trial] = {}
        self._rows: list[TrialRow] | None = None  # read anew after each write; nobody else writes

    def rows(self) -> list[TrialRow]:
        """All trials, by number."""
        if self._rows is None:
            self._rows = read_rows(self.optuna, self.rung)
        return list(self._rows)

    def queue(
        self,
        recipe: Recipe,
        seed: int,
        params: Mapping[str, Any],
        *,
        promoted_from: str | None = None,
        retry_of: int | None = None,
        decision: Mapping[str, Any] | None = None,
        solved: Mapping[str, Any] | None = None,
    ) -> None:
        """Have a recipe asked for before anything new is proposed.

        Args:
            params: the point of the space that suggests recipe; empty where it is outside the space.
            promoted_from: rung/number of the trial it was promoted from.
            retry_of: number of the lost trial that it repeats.
            decision: why it is in this rung; see search.decision.
            solved: the field that was solved for its size; see search.solve.
        """
        optional = {"promoted_from": promoted_from, "retry_of": retry_of, "decision": decision, "solved": solved}
        attributes = {"recipe": _recipe_json(recipe), "recipe_hash": recipe_hash(recipe), "seed": seed}
        attributes |= {name: value for name, value in optional.items() if value is not None}
        self.optuna.enqueue_trial(dict(params), user_attrs=attributes)
        self._rows = None

    def ask(self) -> Trial:
        """The oldest queued trial, or a new one; it is RUNNING from here on."""
        trial = self.optuna.ask()
        self._live[trial.number] = trial
        self._rows = None
        return trial

    def resume(self, number: int) -> Trial:
        """A RUNNING trial as ask gave it, in this process or one that is gone; what was suggested stays suggested."""
        if number not in self._live:
            frozen = self.optuna.get_trials(deepcopy=False)[number]
            # The only way back to a live trial; Optuna's own heartbeat and optimize do the same.
            self._live[number] = Trial(self.optuna, frozen._trial_id)  # pyright: ignore[reportPrivateUsage]
        self._rows = None  # the caller is about to write
        return self._live[number]

    def describe(self, number: int, **attributes: Any) -> None:
        """Set user attributes of a RUNNING trial; None values are left out."""
        trial = self.resume(number)
        for name, value in attributes.items():
            if value is not None:
                trial.set_user_attr(name, value)

    def describe_recipe(self, number: int, recipe: Recipe, seed: int) -> None:
        """Record what a RUNNING trial will train; the hash comes last, so that where it is, the rest is."""
        self.describe(number, recipe=_recipe_json(recipe), seed=seed, recipe_hash=recipe_hash(recipe))

    def attach(self, number: int, folder: Path, store: FileSystemArtifactStore) -> None:
        """Upload the files of a finished run that exist, once each, as artifacts of its RUNNING trial."""
        trial = self.resume(number)
        present = {meta.filename for meta in get_all_artifact_meta(trial)}
        for path in (folder / name for name in ARTIFACT_FILES if name not in present):
            if path.is_file():
                upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=trial)

    def tell(self, number: int, outcome: Measurement | Failure, **attributes: Any) -> None:
        """Tell how a RUNNING trial ended, with what is known about it. Telling again changes nothing."""
        if isinstance(outcome, Measurement) and not math.isfinite(outcome.val_bpb):
            outcome = Failure(kind=FailureKind.DIVERGED, message=f"val_bpb: must be finite, got {outcome.val_bpb}")
        self.describe(number, **attributes)
        if isinstance(outcome, Measurement):
            self._tell_measurement(number, outcome)
        elif outcome.kind.is_caused_by_recipe:
            predicted = self.rows()[number].attributes.get("predicted_bytes")
            self.describe(number, failure=outcome.kind.value, reason=outcome.message)
            self._finish(number, TrialState.PRUNED, violations=failure_violations(outcome, predicted, self._limits))
        else:
            self.describe(number, failure=outcome.kind.value, reason=outcome.message)
            self._finish(number, TrialState.FAIL)

    def tell_copy(self, number: int, twin: TrialRow) -> None:
        """Tell a RUNNING trial the result of a finished one with the same recipe and seed. It costs no GPU-seconds."""
        copied = (*MEASURED, "versions", "failure", "reason", "predicted_bytes")
        self.describe(number, **{name: twin.attributes.get(name) for name in copied}, copied_from=twin.number)
        state = TrialState.COMPLETE if twin.status is TrialStatus.FEASIBLE else TrialState.PRUNED
        self._finish(number, state, twin.values or None, twin.violations)

    def tell_duplicate(self, number: int, twin: TrialRow) -> None:
        """Drop a RUNNING trial that proposed another's recipe; samplers never see it."""
        self.describe(number, copied_from=twin.number, reason=f"proposes the recipe of trial {twin.number} again")
        self._finish(number, TrialState.FAIL)

    def _tell_measurement(self, number: int, measurement: Measurement) -> None:
        violations = measured_violations(measurement, self._limits)
        over = [name for name in CONSTRAINTS if violations[name] > 0]
        self.describe(
            number,
            **{name: getattr(measurement, name) for name in MEASURED},
            versions=f"torch {measurement.torch_version}, python {measurement.python_version}",
            reason=", ".join(self._over(name, getattr(measurement, name)) for name in over) or None,
        )
        if over:
            self._finish(number, TrialState.PRUNED, violations=violations)
        else:
            values = tuple(float(getattr(measurement, name)) for name in self.objectives)
            self._finish(number, TrialState.COMPLETE, values, violations)

    def _over(self, name: str, value: float) -> str:
        return f"{name}: must be at most {getattr(self._limits, name):,}, got {value:,}"

    def _finish(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        trial = self.resume(number)
        present = trial.constraints if violations else {}  # each look is a look into the database
        for name in CONSTRAINTS if violations else ():
            # A second value for a key only warns: after a crash right here, the first one stays, and is the same.
            if name not in present:
                trial.set_constraint(name, (violations or {})[name])
        self.optuna.tell(trial, values, state=state, skip_if_finished=True)
        del self._live[number]
        self._rows = None


def read_rows(study: optuna.Study, rung: str) -> list[TrialRow]:
    """All trials of a rung's Optuna study, by number; needs no driver."""
    return [_row(trial, rung) for trial in study.get_trials(deepcopy=False)]


def read_rungs(storage: RDBStorage, study: str) -> dict[str, list[TrialRow]]:
    """All trials of a study by rung, in the order of rungs.

    Raises:
        StoreError: there is no such study.
    """
    return {name: read_rows(optuna_study, name) for name, optuna_study in load_rungs(storage, study).items()}


def _recipe_json(recipe: Recipe) -> str:
    return json.dumps(recipe_to_dict(recipe), sort_keys=True)


def _row(trial: FrozenTrial, rung: str) -> TrialRow:
    return TrialRow(
        rung=rung,
        number=trial.number,
        status=_status(trial),
        values=tuple(trial.values) if trial.state is TrialState.COMPLETE else (),
        params=dict(trial.params),
        violations={name: trial.constraints[name] for name in CONSTRAINTS if name in trial.constraints},
        attributes=_attributes(trial.user_attrs),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
    )


def _attributes(stored: Mapping[str, Any]) -> dict[str, Any]:
    """User attributes, the recipe's hash as this version makes it, so that trials of older ones are found again."""
    if "recipe" not in stored or "recipe_hash" not in stored:
        return dict(stored)
    return {**stored, "recipe_hash": _hash_of(stored["recipe"]) or stored["recipe_hash"]}


@cache
def _hash_of(recipe_json: str) -> str | None:
    """The hash of a stored recipe; None where this version has no such recipe."""
    try:
        return recipe_hash(recipe_from_dict(json.loads(recipe_json)))
    except (SpaceError, ConfigError):
        return None


def _status(trial: FrozenTrial) -> TrialStatus:
    match trial.state:
        case TrialState.WAITING:
            return TrialStatus.QUEUED
        case TrialState.RUNNING:
            return TrialStatus.RUNNING
        case TrialState.COMPLETE:
            return TrialStatus.FEASIBLE
        case TrialState.PRUNED:
            failure = trial.user_attrs.get("failure")
            if failure == FailureKind.STOPPED:
                return TrialStatus.STOPPED
            return TrialStatus.INFEASIBLE if failure is None else TrialStatus.FAILED
        case TrialState.FAIL:
            return TrialStatus.DUPLICATE if "copied_from" in trial.user_attrs else TrialStatus.LOST
