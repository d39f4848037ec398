"""Stops dear runs that cannot be of use: too slow for the limit, on a machine gone slow, or far behind the best.

A loss that is not finite ends a run by itself, in the trainer.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from search.curves import checkpoint_before, mean_loss, read_curve
from search.decision import Reason, reason_of
from search.ledger import Ledger
from search.promote import best_feasible
from search.run_record import RunRecord
from search.spec import RungSpec, StudySpec
from search.spec_rungs import steady_before
from search.study import RungStudy
from search.trials import RUN_TOKENS, TrialRow
from trainer.result import Failure, FailureKind, Measurement

SPEED_FROM = 0.1  # of a run: before, its speed is still settling
OVER_TIME = 1.05  # of the limit: what a projection may be wrong by
SLOW_MACHINE = 0.5  # of the speed that the recipe's proxies had
QUALITY_FROM = 0.5  # of a run: before, curves say little of where it ends (rank correlation .3 at a quarter)


class DearStop:
    """Says which runs of a later rung are to be stopped.

    Anchors and random picks are never stopped for their quality: without an end they would calibrate nothing, and
    without the bad ones among them the rank correlation would be biased.

    Args:
        source: the rung before, for the speeds of its runs.
    """

    def __init__(
        self, spec: StudySpec, rung: RungSpec, study: RungStudy, source: RungStudy | None, ledger: Ledger
    ) -> None:
        self._limits = spec.limits
        self._behind_bpb = spec.promotion.stop_behind
        self._rung = rung
        self._study = study
        before = steady_before(spec.rungs, spec.rungs.index(rung))
        is_alike = before is not None and (rung.accelerator, rung.set) == (before.accelerator, before.set)
        self._source = source if is_alike else None  # other machines, batches or sequences have other speeds
        self._ledger = ledger
        self._judged_at: dict[int, float] = {}  # progress by trial number

    def why_stop(self, number: int, progress: Mapping[str, Any]) -> Failure | None:
        """Why a run should be stopped now; None lets it run.

        Args:
            progress: its latest, as in search.run.Progress.
        """
        row = self._study.rows()[number]
        return self._why_too_slow(row, progress) or self._why_too_bad(row, progress.get("progress", 0.0))

    def _why_too_slow(self, row: TrialRow, progress: Mapping[str, Any]) -> Failure | None:
        speed = progress.get("tokens_per_second")
        if not speed or progress.get("progress", 0.0) < SPEED_FROM:
            return None
        tokens = row.attributes.get(RUN_TOKENS, self._rung.to_budget().train_tokens)
        limit = self._limits.train_seconds
        if tokens is not None and tokens / speed > limit * OVER_TIME:
            return _stopped(f"train_seconds: must be at most {limit:g}, will come to {tokens / speed:.0f}")
        usual = self._usual_speed(row)
        if usual is not None and speed < SLOW_MACHINE * usual:
            message = f"tokens_per_second: must be about {usual:,.0f}, as in its proxy, got {speed:,.0f}"
            return Failure(kind=FailureKind.MACHINE, message=message, phase="train")
        return None

    def _usual_speed(self, row: TrialRow) -> float | None:
        """Tokens a second that the recipe's proxies promise; None where none was timed."""
        recipe_hash, ranks = row.attributes["recipe_hash"], self._rung.to_budget().world_size
        rows = self._source.rows() if self._source else []
        proxies = [row for row in rows if row.attributes.get("recipe_hash") == recipe_hash and not row.is_copy]
        timed = [self._ledger.get(row.attributes["run_id"]) for row in proxies if row.val_bpb is not None]
        speeds = [speed * ranks / record.world_size for record in timed if (speed := _speed(record))]
        return median(speeds) if speeds else None

    def _why_too_bad(self, row: TrialRow, progress: float) -> Failure | None:
        """Behind the best finished run at the same progress; looked at once an eighth of a run."""
        reached = checkpoint_before(progress)
        is_new = reached > self._judged_at.get(row.number, 0.0)
        if self._behind_bpb is None or not is_new or not QUALITY_FROM <= reached < 1:
            return None
        self._judged_at[row.number] = reached
        best = best_feasible(self._study.rows())
        if best is None or best.is_copy or reason_of(row) is not Reason.LCB:
            return None
        record, incumbent = self._ledger.get(row.attributes["run_id"]), self._ledger.get(best.attributes["run_id"])
        loss, other = _loss(record, reached), _loss(incumbent, reached)
        if loss is None or other is None or not isinstance(incumbent.outcome, Measurement):
            return None
        bpb_per_nat = incumbent.outcome.val_bpb / incumbent.outcome.val_loss
        behind = (loss - other) * bpb_per_nat
        if behind <= self._behind_bpb:
            return None
        return _stopped(
            f"train_loss {loss:.3f} at {reached:.0%}: must be at most {self._behind_bpb:g} bits per byte behind trial"
            f" {best.rung}/{best.number}, got {behind:.4f}"
        )


def _loss(record: RunRecord, progress: float) -> float | None:
    return mean_loss(read_curve(Path(record.folder)), progress)


def _speed(record: RunRecord) -> float | None:
    """Tokens a second in timed training."""
    one = record.outcome
    if not isinstance(one, Measurement) or not one.steps * one.step_avg_ms:
        return None
    return one.train_tokens / (one.steps * one.step_avg_ms / 1000)


def _stopped(message: str) -> Failure:
    return Failure(kind=FailureKind.STOPPED, message=message, phase="train")
