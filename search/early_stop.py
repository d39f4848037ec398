"""Stops runs of the first rung whose training loss says that they will not end among the best.

A decision is stored with its trial before anything is done about it, and the end it leads to is one statement in the
ledger. A driver that dies in between leaves either a run that goes on and a decision that the next driver carries out,
or a run that has ended; one that ended by itself meanwhile is told as it ended.
"""

import hashlib
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from search.curve_model import CurveModel, fit_curve_model
from search.curves import Curve, checkpoint_before, mean_loss, read_curve
from search.spec import RungSpec, StudySpec
from search.spec_parts import EarlyStopSpec
from search.spec_rungs import steady_after
from search.study import RungStudy
from search.trials import TrialRow, TrialStatus
from spaces.fields import recipe_hash
from trainer.result import Failure, FailureKind

ATTRIBUTE = "early_stop"  # of a trial, in the database


@dataclass(frozen=True, kw_only=True, slots=True)
class StopDecision:
    """That a run will hardly end among the best, and what says so.

    Attributes:
        progress: share of its budget at which it was judged.
        train_loss: its mean since the eighth of the budget before, nats per token.
        probability: of ending among the best.
        needed_val_bpb: the worst score that was among the best then.
        expected_val_bpb, spread: what the finished runs with such a loss came to.
        num_finished: finished runs that say so.
        is_spared: it runs on all the same, to learn how often the rule is wrong.
    """

    progress: float
    train_loss: float
    probability: float
    needed_val_bpb: float
    expected_val_bpb: float
    spread: float
    num_finished: int
    is_spared: bool

    @property
    def failure(self) -> Failure:
        """How the run ends."""
        message = (
            f"train_loss {self.train_loss:.3f} at {self.progress:.0%}: {self.probability:.1%} likely to reach"
            f" val_bpb {self.needed_val_bpb:.4f}, expected {self.expected_val_bpb:.4f} ± {self.spread:.4f}"
            f" by {self.num_finished} finished runs"
        )
        return Failure(kind=FailureKind.STOPPED, message=message, phase="train")


def stored_decision(row: TrialRow) -> StopDecision | None:
    """The decision on a trial, None where there is none."""
    stored: Mapping[str, Any] | None = row.attributes.get(ATTRIBUTE)
    return None if stored is None else StopDecision(**stored)


class EarlyStop:
    """Says which runs of a rung are to be stopped.

    Args:
        least_best: trials that count as among the best in any case: as many as are promoted.
        protected: hashes of recipes that run to their end: the base and what was queued.
        first_seed: runs of further seeds, which only good recipes get, run to their end.
        folder_of: the folder of a run, by its id.
    """

    def __init__(
        self,
        rule: EarlyStopSpec,
        study: RungStudy,
        *,
        least_best: int,
        protected: Container[str],
        first_seed: int,
        folder_of: Callable[[str], Path],
    ) -> None:
        self._rule = rule
        self._study = study
        self._least_best = least_best
        self._protected = protected
        self._first_seed = first_seed
        self._folder_of = folder_of
        self._judged_at: dict[int, float] = {}  # progress by trial number
        self._finished: dict[str, Curve] = {}  # by run id; a finished run's curve changes no more

    def why_stop(self, number: int, progress: Mapping[str, Any]) -> Failure | None:
        """Why a run should be stopped now; None lets it run. Each is judged once at each eighth of its budget.

        Args:
            progress: its latest, as in search.run.Progress.
        """
        reached = checkpoint_before(progress.get("progress", 0.0))
        if not max(self._rule.from_progress, self._judged_at.get(number, 0.0) + 1e-9) <= reached < 1:
            return None
        self._judged_at[number] = reached
        row = self._study.rows()[number]
        decision = stored_decision(row)
        if decision is None and self._may_stop(row):
            decision = self._judge(row, reached)
            if decision is not None:
                self._study.describe(number, **{ATTRIBUTE: asdict(decision)})
        return None if decision is None or decision.is_spared else decision.failure

    def _may_stop(self, row: TrialRow) -> bool:
        """Only what the sampler proposed may be stopped: an anchor or a control that has no score serves nobody."""
        is_proposal = "decision" not in row.attributes and "promoted_from" not in row.attributes
        recipe, seed = row.key or ("", -1)
        return is_proposal and seed == self._first_seed and recipe not in self._protected

    def _judge(self, row: TrialRow, progress: float) -> StopDecision | None:
        rows = self._study.rows()
        finished = [one for one in rows if one.is_measured and "run_id" in one.attributes]
        needed = bar(rows, self._rule.among, self._least_best)
        loss = mean_loss(read_curve(self._folder_of(row.attributes["run_id"])), progress)
        if len(finished) < self._rule.after_runs or needed is None or loss is None:
            return None
        model = self._model(finished, progress)
        probability = 1.0 if model is None else model.probability_below(needed, loss)
        if model is None or probability >= self._rule.level:
            return None
        return StopDecision(
            progress=progress,
            train_loss=loss,
            probability=probability,
            needed_val_bpb=needed,
            expected_val_bpb=model.expected(loss),
            spread=model.spread,
            num_finished=model.num_runs,
            is_spared=is_spared(row.attributes["run_id"], self._rule.spare),
        )

    def _model(self, finished: Sequence[TrialRow], progress: float) -> CurveModel | None:
        points = [(mean_loss(self._curve(row.attributes["run_id"]), progress), row.val_bpb) for row in finished]
        known = [(loss, final) for loss, final in points if loss is not None and final is not None]
        return fit_curve_model([loss for loss, _ in known], [final for _, final in known])

    def _curve(self, run_id: str) -> Curve:
        if run_id not in self._finished:
            self._finished[run_id] = read_curve(self._folder_of(run_id))
        return self._finished[run_id]


def early_stop_of(spec: StudySpec, rung: RungSpec, study: RungStudy, runs_folder: Path) -> EarlyStop | None:
    """The early stop of a rung; None where it stops nothing: in later rungs, and where the study file says so."""
    if spec.early_stop is None or rung.trials is None:
        return None
    return EarlyStop(
        spec.early_stop,
        study,
        least_best=later.promote or 1 if (later := steady_after(spec.rungs, 0)) else 1,
        protected={recipe_hash(recipe) for recipe in (spec.base_recipe(), *spec.queued_recipes())},
        first_seed=rung.seeds[0],
        folder_of=lambda run_id: runs_folder / spec.name / rung.name / run_id,
    )


def bar(rows: Sequence[TrialRow], among: float, least: int) -> float | None:
    """The worst val_bpb that is among the best so far; None while fewer than that are feasible.

    Stopped runs count as worse than all, so that the bar does not rise because runs are stopped.

    Args:
        among: the best are this share of the runs that were measured or stopped,
        least: and at least so many.
    """
    num_runs = sum(row.is_measured or row.status is TrialStatus.STOPPED for row in rows if not row.is_copy)
    scores = sorted(row.attributes["val_bpb"] for row in rows if row.status is TrialStatus.FEASIBLE and not row.is_copy)
    place = max(math.ceil(among * num_runs - 1e-9), least)
    return scores[place - 1] if 0 < place <= len(scores) else None


def is_spared(run_id: str, share: float) -> bool:
    """Whether a run that should be stopped runs on; the same in every process, so that a restart changes nothing."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4]) < share * 2**32


def early_stop_status(rows: Sequence[TrialRow]) -> dict[str, Any]:
    """What early stopping did in a rung, as JSON.

    spared_among_best is how many of the spared runs that have finished reached what they were judged to miss: the
    measured rate of false stops. saved_gpu_seconds goes by what the measured runs took on average.
    """
    stopped = [row for row in rows if row.status is TrialStatus.STOPPED and not row.is_copy]
    measured = [row for row in rows if row.is_measured]
    spared = [(row, decision) for row in measured if (decision := stored_decision(row)) is not None]
    reached = [row for row, decision in spared if (row.val_bpb or math.inf) <= decision.needed_val_bpb]
    each = fmean(row.gpu_seconds for row in measured) if measured else 0.0
    return {
        "stopped": len(stopped),
        "spared": len(spared),
        "spared_among_best": len(reached),
        "saved_gpu_seconds": sum(max(each - row.gpu_seconds, 0.0) for row in stopped),
    }


def describe_early_stop(status: Mapping[str, Any]) -> str:
    """The same in a line; empty where no run was to be stopped."""
    if not status["stopped"] + status["spared"]:
        return ""
    line = f"stopped early: {status['stopped']} runs, about {status['saved_gpu_seconds']:,.0f} GPU-seconds saved"
    if status["spared"]:
        line += f"; of {status['spared']} that ran on instead, {status['spared_among_best']} ended among the best"
    return line
