"""What is known of a submitted run, and when to stop waiting for it. Knows neither Ray nor a clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from search.launch import TIMING, Timing
from search.run import Run
from search.run_record import RunRecord, RunState


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long the runner waits for what may never come.

    Attributes:
        poll_seconds: between two looks into the ledger.
        deadline_grace_seconds: beyond a run's deadline, at which its own launcher should have killed it.
        settle_seconds: for the word of its worker after the ledger has a run's end; its slot is held until then.
        unplaceable_seconds: for a node to come back that could hold a queued run.
    """

    poll_seconds: float = 1.0
    deadline_grace_seconds: float = 120.0
    settle_seconds: float = 15.0
    unplaceable_seconds: float = 60.0
    launch: Timing = TIMING


PATIENCE = Patience()


@dataclass(slots=True)
class Flight:
    """A submitted run that has not been reported as finished.

    Attributes:
        task: what executes it, for its owner.
        progress: as last reported.
        num_gpus: what Ray was asked for, which says of runs that take turns where there is room.
    """

    run: Run
    task: Any
    num_gpus: float = 0.0
    is_running: bool = False
    progress: Mapping[str, Any] = field(default_factory=dict[str, Any])
    _lease_expires_at: float = 0.0  # compared with itself only, so the clocks of hosts may differ
    _since: dict[str, float] = field(default_factory=dict[str, float])

    def loss(self, record: RunRecord, is_placeable: bool, now: float, patience: Patience) -> str | None:
        """Why a run that its worker says nothing about is over; None while it may be alive.

        Args:
            record: the run as the ledger has it now.
            is_placeable: whether some node could hold the run if nothing else ran.
            now: seconds of a clock that only goes forward.
        """
        host = record.host or "its host"
        self.is_running = record.state is RunState.RUNNING
        is_silent = self.is_running and record.lease_expires_at == self._lease_expires_at
        self._lease_expires_at = record.lease_expires_at
        silence = self._held("silent", is_silent, now)
        if self._held("ended", record.state.is_final, now) > patience.settle_seconds:
            return "its worker did not return"
        is_stuck = record.state is RunState.QUEUED and not is_placeable
        if self._held("stuck", is_stuck, now) > patience.unplaceable_seconds:
            return "no node is left that could hold it"
        if silence > patience.launch.lease_seconds:
            return f"no heartbeat from {host} for {silence:.0f} s"
        longest = self.run.deadline_seconds + patience.deadline_grace_seconds
        if self._held("running", self.is_running, now) > longest:
            return f"still running on {host} long after its deadline of {self.run.deadline_seconds:g} s"
        return None

    def _held(self, condition: str, holds: bool, now: float) -> float:
        """For how long a condition has held without a break."""
        if not holds:
            self._since.pop(condition, None)
            return 0.0
        return now - self._since.setdefault(condition, now)
