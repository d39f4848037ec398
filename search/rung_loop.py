"""The driver of one rung: starts runs while slots are free, and tells the study how each ended, once."""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from search.cluster import TURNS_PER_GPU
from search.errors import RunnerError
from search.ledger import START_SECONDS, RunRecord
from search.plan import MAX_ATTEMPTS, attempt_of, counted, is_settled, retries_due, seeds_due
from search.proposals import Proposal, Proposals, Unrun
from search.reconcile import end_lost, gpu_seconds_until, left_over
from search.run import CODE_FILE, Finished, Progress, Run
from search.services import Brake, Services
from search.spec import RungSpec, StudySpec
from search.study import RungStudy
from search.trials import TrialRow, TrialStatus
from spaces.fields import recipe_hash
from trainer.result import Failure, FailureKind

POLL_SECONDS = 1.0
CANCEL_SECONDS = 30.0  # what a cancelled run gets to report by itself
OVERSIZE_MARGIN = 1.1  # refuse only what surely does not fit: predictions for short runs were up to 7 % too high
SLACK_SECONDS = 600.0  # of a run's deadline: start-up, compilation, pre-quantization scoring
MAX_HOPELESS = 3  # trials in a row that the machine failed twice: something is broken for all of them


class RungLoop:
    """Drives one rung until nothing of it is left, or the brake stops it.

    Args:
        num_gpus: GPUs that each run of the rung holds; the runner is prepared for them.
        keep: called about once a second; raises when this process no longer drives the study.
    """

    def __init__(
        self,
        spec: StudySpec,
        rung: RungSpec,
        study: RungStudy,
        num_gpus: float,
        services: Services,
        brake: Brake,
        keep: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._rung = rung
        self._study = study
        self._runner = services.runner
        self._num_gpus = num_gpus
        self._services = services
        self._brake = brake
        self._keep = keep
        self._proposals = Proposals(study, spec, rung)
        self._in_flight: dict[str, int] = {}  # trial numbers by run id, watched runs included
        self._watched: set[str] = set()  # runs that an earlier driver submitted
        self._never_started: list[int] = []
        self._is_exhausted = False
        self._cancelled_at: float | None = None
        self._broken: str | None = None

    def drive(self) -> bool:
        """Run the rung.

        Returns:
            Whether it is settled: False where the brake stopped it before.

        Raises:
            RunnerError: no run can work: the data is missing or damaged, or trial after trial fails for the machine.
        """
        self._take_over()
        while True:
            self._keep()
            self._queue_due()
            self._start_runs()
            if not self._in_flight and (not self._may_go_on() or self._is_settled()):
                break
            self._wait()
            self._watch()
            self._cancel()
        self._queue_due()
        if self._broken:
            raise RunnerError(f"{self._rung.name}: {self._broken}")
        return self._is_settled()

    def _may_go_on(self) -> bool:
        return self._brake.may_ask and not self._broken

    def _is_settled(self) -> bool:
        return is_settled(self._study.rows(), self._rung.trials, self._rung.seeds[0])

    def _take_over(self) -> None:
        rows = self._study.rows()
        found = left_over(self._services.ledger, self._spec.name, self._rung.name, rows, self._services.clock())
        self._never_started = list(found.never_started)
        for record in found.watched:
            self._watched.add(record.run_id)
            self._follow(record.run_id, record.trial_number)
        for record in found.settled:
            self._settle(record)

    def _queue_due(self) -> None:
        """Queue repeats of lost trials, and in the first rung the further seeds of recipes that are worth them."""
        rows = self._study.rows()
        for row in retries_due(rows):
            self._queue_again(row, row.attributes["seed"], retry_of=row.number)
        if self._rung.trials is not None:
            for row, seed in seeds_due(rows, self._rung.seeds):
                self._queue_again(row, seed)

    def _queue_again(self, row: TrialRow, seed: int, retry_of: int | None = None) -> None:
        recipe = row.recipe
        if recipe is not None:
            promoted_from = row.attributes.get("promoted_from")
            params = self._proposals.params_of(recipe)
            self._study.queue(recipe, seed, params, promoted_from=promoted_from, retry_of=retry_of)

    def _start_runs(self) -> None:
        while self._may_go_on() and self._runner.free_slots > 0 and self._has_more():
            resumed = self._never_started.pop(0) if self._never_started else None
            proposal = self._proposals.next(resumed)
            if proposal is not Unrun.DROPPED and proposal is not Unrun.EXHAUSTED:
                self._brake.count_trial()
            if isinstance(proposal, Proposal):
                self._start(proposal)
            elif proposal is Unrun.TOLD:
                self._services.observer.trial_finished(self._study.rows()[self._proposals.latest])
            self._is_exhausted = proposal is Unrun.EXHAUSTED

    def _has_more(self) -> bool:
        """Whether an ask would give something that this rung wants."""
        rows = self._study.rows()
        if self._never_started or any(row.status is TrialStatus.QUEUED for row in rows):
            return True
        wanted = self._rung.trials or 0
        return not self._is_exhausted and counted(rows, self._rung.seeds[0]) < wanted

    def _start(self, proposal: Proposal) -> None:
        code = self._services.bundle(proposal.recipe, self._rung.to_budget())
        predicted = self._services.predict_bytes(proposal.recipe, len(code), self._study.rows())
        limit = self._spec.limits.artifact_bytes
        if predicted > limit * OVERSIZE_MARGIN:
            message = f"artifact_bytes: must be at most {limit:,}, predicted {predicted:,}; not run"
            failure = Failure(kind=FailureKind.OVERSIZE, message=message)
            self._study.tell(proposal.number, failure, predicted_bytes=predicted)
            self._services.observer.trial_finished(self._study.rows()[proposal.number])
            return
        run = self._new_run(proposal, code)
        self._study.describe(proposal.number, run_id=run.run_id, predicted_bytes=predicted)
        self._services.ledger.insert(self._new_record(proposal, run, code))
        self._runner.submit(run)
        self._follow(run.run_id, proposal.number)

    def _follow(self, run_id: str, number: int) -> None:
        self._in_flight[run_id] = number
        self._services.observer.trial_started(self._rung.name, number, run_id)

    def _new_run(self, proposal: Proposal, code: bytes) -> Run:
        run_id, folder = self._new_folder(proposal.number)
        (folder / CODE_FILE).write_bytes(code)
        data = self._spec.data
        return Run(
            run_id=run_id,
            folder=folder,
            world_size=self._rung.to_budget().world_size,
            num_gpus=self._num_gpus,
            accelerator=self._rung.accelerator,
            environment={
                "DATA_PATH": str(data.path),
                "TOKENIZER_PATH": str(data.tokenizer),
                "SEED": str(proposal.seed),
                "RUN_ID": run_id,
            },
            deadline_seconds=self._deadline_seconds(),
            storage_url=self._services.ledger.url,
        )

    def _new_folder(self, number: int) -> tuple[str, Path]:
        """A run id that neither this runs folder nor the ledger, which may have seen another, has; its empty folder."""
        parent = self._services.runs_folder / self._spec.name / self._rung.name
        names = (f"{self._spec.name}-{self._rung.name}-{number:04d}-{start}" for start in itertools.count(1))
        run_id = next(name for name in names if not ((parent / name).exists() or self._services.ledger.has(name)))
        (parent / run_id).mkdir(parents=True)
        return run_id, parent / run_id

    def _new_record(self, proposal: Proposal, run: Run, code: bytes) -> RunRecord:
        rows, now = self._study.rows(), self._services.clock()
        return RunRecord(
            run_id=run.run_id,
            study=self._spec.name,
            rung=self._rung.name,
            trial_number=proposal.number,
            attempt=attempt_of(rows[proposal.number], {row.number: row for row in rows}),
            recipe_hash=recipe_hash(proposal.recipe),
            code_sha256=hashlib.sha256(code).hexdigest(),
            seed=proposal.seed,
            folder=str(run.folder),
            world_size=run.world_size,
            queued_at=now,
            lease_expires_at=now + START_SECONDS,
        )

    def _deadline_seconds(self) -> float:
        """The rung's own, or twice what its limits allow, for machines slower than the challenge's.

        As many times that where runs wait for each other on a GPU.
        """
        turns = TURNS_PER_GPU if 0 < self._num_gpus < 1 else 1  # each may wait for all others
        if self._rung.max_run_seconds is not None:
            return turns * self._rung.max_run_seconds
        train_seconds = self._rung.to_budget().train_seconds or self._spec.limits.train_seconds
        return turns * (2 * (train_seconds + self._spec.limits.eval_seconds) + SLACK_SECONDS)

    def _wait(self) -> None:
        """Take in reports, or let a second pass where the runner has no run of its own to wait for."""
        if self._in_flight.keys() <= self._watched:
            self._services.sleep(POLL_SECONDS)
        self._collect(self._runner.wait(POLL_SECONDS))

    def _collect(self, reports: Sequence[Progress | Finished]) -> None:
        for report in reports:
            number = self._in_flight.get(report.run_id)
            if number is None:
                continue  # a second or late report of a run that has been told
            if isinstance(report, Progress):
                self._services.observer.trial_progress(self._rung.name, number, report.values)
            else:
                now = self._services.clock()
                self._services.ledger.finish(report.run_id, report.outcome, report.gpu_seconds, now)
                self._settle(self._services.ledger.get(report.run_id))

    def _watch(self) -> None:
        """Settle runs whose end the ledger knows and the runner did not report, and those not heard of any more."""
        now = self._services.clock()
        for run_id, number in list(self._in_flight.items()):
            record = self._services.ledger.get(run_id)
            if record.state.is_final:
                self._settle(record)
            elif record.lease_expires_at < now:
                record = end_lost(self._services.ledger, record, now)
                if run_id not in self._watched:  # after its end is recorded, or it would count as the user's doing
                    self._runner.cancel(run_id)
                self._settle(record)
            elif run_id in self._watched:
                self._services.observer.trial_progress(self._rung.name, number, record.progress)

    def _cancel(self) -> None:
        """Once the brake says so, cancel what runs; what does not report soon after is ended in the ledger."""
        if not self._brake.is_cancelling:
            return
        now = self._services.clock()
        if self._cancelled_at is None:
            self._cancelled_at = now
            for run_id in self._in_flight.keys() - self._watched:
                self._runner.cancel(run_id)
        is_late = now > self._cancelled_at + CANCEL_SECONDS
        cancelled = Failure(kind=FailureKind.CANCELLED, message="cancelled by the user")
        for run_id in self._in_flight.keys() if is_late else self._in_flight.keys() & self._watched:
            # A watched run's worker learns it from its next heartbeat; _watch settles it.
            held = gpu_seconds_until(self._services.ledger.get(run_id), now)
            self._services.ledger.finish(run_id, cancelled, held, now)

    def _settle(self, record: RunRecord) -> None:
        """Tell the trial of a run that has ended, as the ledger knows it."""
        assert record.outcome is not None
        self._in_flight.pop(record.run_id, None)
        self._is_exhausted = False
        self._study.attach(record.trial_number, Path(record.folder), self._services.artifacts)
        attributes = {"run_id": record.run_id, "gpu_seconds": record.gpu_seconds, "device": record.device or None}
        self._study.tell(record.trial_number, record.outcome, **attributes)
        rows = self._study.rows()
        self._broken = self._broken or _what_is_broken(rows, record.outcome)
        self._services.observer.trial_finished(rows[record.trial_number])


def _what_is_broken(rows: Sequence[TrialRow], latest: object) -> str | None:
    """Why no further run can work, None while there is hope."""
    if isinstance(latest, Failure) and latest.kind is FailureKind.DATA:
        return latest.message
    by_number = {row.number: row for row in rows}
    ended = [row for row in rows if not row.is_open and row.status is not TrialStatus.DUPLICATE]
    final = [r for r in ended if r.status is not TrialStatus.LOST or attempt_of(r, by_number) >= MAX_ATTEMPTS]
    recent = final[-MAX_HOPELESS:]
    if len(recent) == MAX_HOPELESS and all(row.status is TrialStatus.LOST for row in recent):
        return f"{MAX_HOPELESS} trials failed twice each, the last one with: {recent[-1].reason}"
    return None
