"""One execution of a trial, as the table of runs has it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from trainer.result import Failure, Measurement


class RunState(StrEnum):
    """Where an execution stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True where the row never changes again."""
        return self not in OPEN_STATES


OPEN_STATES = (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One execution of a trial. Times are epoch seconds.

    Attributes:
        attempt: 1, or 2 where it repeats a trial that the machine made fail.
        code_sha256: of the packed train_gpt.py that runs.
        lease_expires_at: an open run is lost when this has passed; heartbeats move it on.
        num_gpus: GPUs it holds, whole ones or a share of one; 0 on a machine without.
        gpus: which of its host, as CUDA_VISIBLE_DEVICES calls them; "" where that is not known.
        gpu_seconds: as held_seconds until it ended; 0 before.
        progress: latest heartbeat: phase, step, progress, train_loss, tokens_per_second.
        outcome: None until the run has ended.
        log_sha256: of its log as the launcher found it at the run's end; "" where it saw none.
    """

    run_id: str
    study: str
    rung: str
    trial_number: int
    attempt: int = 1
    recipe_hash: str
    code_sha256: str
    seed: int
    state: RunState = RunState.QUEUED
    host: str = ""
    device: str = ""
    pid: int = 0
    folder: str
    world_size: int
    num_gpus: float = 0.0
    gpus: str = ""
    queued_at: float
    started_at: float | None = None
    finished_at: float | None = None
    lease_expires_at: float
    gpu_seconds: float = 0.0
    progress: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outcome: Measurement | Failure | None = None
    log_sha256: str = ""

    @property
    def may_share(self) -> bool:
        """Whether other runs may be on its GPU, and which GPU it is is known."""
        return 0 < self.num_gpus < 1 and bool(self.gpus)

    def shares_with(self, other: "RunRecord") -> bool:
        """Whether both are on one GPU, at whatever times."""
        return self.may_share and (self.host, self.gpus) == (other.host, other.gpus) and self.run_id != other.run_id

    def held_seconds(self, end: float, runs: Iterable["RunRecord"] = ()) -> float:
        """GPU-seconds (of processes without GPUs) that it held from its start to a time; 0 where it has not started.

        Runs that are on one GPU divide it evenly, whatever shares they were given: a run that is alone on a GPU keeps
        others' work off it no less than three do.

        Args:
            runs: others, of which those on the same GPU count.
        """
        if self.started_at is None or end <= self.started_at:
            return 0.0
        if not self.may_share:
            return (end - self.started_at) * (self.num_gpus or self.world_size)
        beside = [one for one in runs if self.shares_with(one)]
        others = [(one.started_at, one.end_at(end)) for one in beside if one.started_at is not None]
        times = sorted({self.started_at, end, *(time for other in others for time in other)})
        return sum(
            (after - before) / (1 + sum(start <= before < stop for start, stop in others))
            for before, after in pairwise(time for time in times if self.started_at <= time <= end)
        )

    def end_at(self, now: float) -> float:
        """When it ended; of one under way now, or when it was last heard of for sure."""
        return min(now, self.lease_expires_at) if self.finished_at is None else self.finished_at
