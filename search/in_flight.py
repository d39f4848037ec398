"""The runs of one rung that are under way: taking in their reports, giving them up, stopping and cancelling them."""

from collections.abc import Callable, Mapping
from typing import Any

from search.reconcile import end_lost
from search.run import Finished, Progress
from search.run_record import RunRecord
from search.services import Brake, Services
from trainer.result import Failure, FailureKind

CANCEL_SECONDS = 30.0  # what a cancelled run gets to report by itself


class InFlight:
    """Runs that have been submitted, or were found alive, and whose trials have not been told.

    Args:
        settle: tells the trial of a run that has ended; called once a run.
        why_stop: why a run should be stopped, given its trial's number and latest progress; None lets it run.
    """

    def __init__(
        self,
        rung: str,
        services: Services,
        settle: Callable[[RunRecord], None],
        why_stop: Callable[[int, Mapping[str, Any]], Failure | None],
    ) -> None:
        self._rung = rung
        self._services = services
        self._settle_trial = settle
        self._why_stop = why_stop
        self._numbers: dict[str, int] = {}  # trial numbers by run id
        self._watched: set[str] = set()  # runs that an earlier driver submitted
        self._cancelled_at: float | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def has_own(self) -> bool:
        """Whether a run is there that this driver submitted, so that the runner has something to wait for."""
        return not self._numbers.keys() <= self._watched

    def follow(self, run_id: str, number: int, *, is_watched: bool = False) -> None:
        """Count a run as under way from now on."""
        self._numbers[run_id] = number
        if is_watched:
            self._watched.add(run_id)
        self._services.observer.trial_started(self._rung, number, run_id)

    def take(self, report: Progress | Finished) -> None:
        """Take in a report; those of other rungs, second ones and late ones change nothing."""
        number = self._numbers.get(report.run_id)
        if number is None:
            return
        if isinstance(report, Progress):
            self._take_progress(report.run_id, number, report.values)
        else:
            now = self._services.clock()
            self._services.ledger.finish(report.run_id, report.outcome, report.gpu_seconds, now)
            self._settle(self._services.ledger.get(report.run_id))

    def watch(self) -> None:
        """Settle runs whose end the ledger knows and the runner did not report, and those not heard of any more."""
        now = self._services.clock()
        for run_id, number in list(self._numbers.items()):
            record = self._services.ledger.get(run_id)
            if record.state.is_final:
                self._settle(record)
            elif record.lease_expires_at < now:
                record = end_lost(self._services.ledger, record, now)
                if run_id not in self._watched:  # after its end is recorded, or it would count as the user's doing
                    self._services.runner.cancel(run_id)
                self._settle(record)
            elif run_id in self._watched:
                self._take_progress(run_id, number, record.progress)

    def cancel(self, brake: Brake) -> None:
        """Once the brake says so, cancel what runs; what does not report soon after is ended in the ledger."""
        if not brake.is_cancelling:
            return
        now = self._services.clock()
        if self._cancelled_at is None:
            self._cancelled_at = now
            for run_id in self._numbers.keys() - self._watched:
                self._services.runner.cancel(run_id)
        is_late = now > self._cancelled_at + CANCEL_SECONDS
        cancelled = Failure(kind=FailureKind.CANCELLED, message="cancelled by the user")
        for run_id in self._numbers.keys() if is_late else self._numbers.keys() & self._watched:
            self._end(run_id, cancelled)

    def _take_progress(self, run_id: str, number: int, values: Mapping[str, Any]) -> None:
        self._services.observer.trial_progress(self._rung, number, values)
        reason = self._why_stop(number, values)
        if reason is not None:
            self._end(run_id, reason)  # first, since a cancelled run would count as the user's doing
            if run_id not in self._watched:
                self._services.runner.cancel(run_id)

    def _end(self, run_id: str, failure: Failure) -> None:
        """Record a run's end; its worker learns it from its next heartbeat at the latest, and watch settles it."""
        now = self._services.clock()
        held = self._services.ledger.held_seconds(run_id, now)
        self._services.ledger.finish(run_id, failure, held, now)

    def _settle(self, record: RunRecord) -> None:
        del self._numbers[record.run_id]
        self._settle_trial(record)
