"""One rung under way: starts its runs while slots are free, and tells its study how each ended, once."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.cluster import TURNS_PER_GPU
from search.dear_stop import DearStop
from search.early_stop import early_stop_of
from search.in_flight import InFlight
from search.ledger import START_SECONDS
from search.plan import MAX_ATTEMPTS, attempt_of, counted, is_settled, retries_due, seeds_due
from search.proposals import Proposal, Proposals, Unrun
from search.reconcile import left_over
from search.run import CODE_FILE, Run
from search.run_record import RunRecord
from search.services import Brake, Services
from search.spec import RungSpec, StudySpec
from search.spending import Spending
from search.study import RungStudy
from search.trials import RUN_SET, RUN_TOKENS, TrialRow, TrialStatus
from spaces.fields import recipe_hash
from trainer.result import Failure, FailureKind

OVERSIZE_MARGIN = 1.1  # refuse only what surely does not fit: predictions for short runs were up to 7 % too high
SLACK_SECONDS = 600.0  # of a run's deadline: start-up, compilation, pre-quantization scoring
MAX_HOPELESS = 3  # trials in a row that the machine failed twice: something is broken for all of them


class RungLoop:
    """The trials of one rung from asking to telling. search.ladder says when it may start runs.

    Args:
        source: trials of the rung before, where it is driven too.

    Attributes:
        rung: its part of the study file.
        study: its trials.
        in_flight: its runs.
        broken: why no further run can work: the data is missing or damaged, or trial after trial fails for the machine.
    """

    def __init__(
        self,
        spec: StudySpec,
        rung: RungSpec,
        study: RungStudy,
        services: Services,
        brake: Brake,
        source: RungStudy | None = None,
    ) -> None:
        self.rung = rung
        self.study = study
        self.in_flight = InFlight(rung.name, services, self._settle, self._why_stop)
        self.broken: str | None = None
        self._spec = spec
        self._base = spec.base_recipe()
        self._services = services
        self._brake = brake
        self._proposals = Proposals(study, spec, rung, services)
        self._early_stop = early_stop_of(spec, rung, study, services.runs_folder)
        self._dear_stop = None if rung.trials else DearStop(spec, rung, study, source, services.ledger)
        self._source = source
        self._never_started: list[int] = []
        self._is_exhausted = False

    @property
    def is_settled(self) -> bool:
        """Whether nothing is queued or running and, in a first rung, all its trials are there."""
        return is_settled(self.study.rows(), self.rung.trials, self.rung.seeds[0])

    @property
    def may_start(self) -> bool:
        """Whether another run of this rung may start, if a slot is free."""
        return self._brake.may_ask and not self.broken and self.refusal is None

    @property
    def refusal(self) -> str | None:
        """Why the study cannot afford another run of this rung; None where it can."""
        if not self._spec.spend.bounds():
            return None
        return self._spending().refusal(self.rung)

    @property
    def has_more(self) -> bool:
        """Whether an ask would give something that this rung wants."""
        rows = self.study.rows()
        if self._never_started or any(row.status is TrialStatus.QUEUED for row in rows):
            return True
        wanted = self.rung.trials or 0
        return not self._is_exhausted and counted(rows, self.rung.seeds[0]) < wanted

    def take_over(self) -> None:
        """Find the runs of an earlier driver: tell those that ended, wait for those alive, start what never ran."""
        rows = self.study.rows()
        found = left_over(self._services.ledger, self._spec.name, self.rung.name, rows, self._services.clock())
        self._never_started = list(found.never_started)
        for record in found.watched:
            self.in_flight.follow(record.run_id, record.trial_number, is_watched=True)
        for record in found.settled:
            self._settle(record)

    def queue_due(self) -> None:
        """Queue repeats of lost trials, and in the first rung the further seeds of recipes that are worth them."""
        rows = self.study.rows()
        for row in retries_due(rows):
            self._queue_again(row, row.attributes["seed"], retry_of=row.number)
        if self.rung.trials is not None:
            for row, seed in seeds_due(rows, self.rung.seeds):
                self._queue_again(row, seed)

    def start_runs(self, num_gpus: float) -> None:
        """Start runs while the runner, prepared for this rung, has slots.

        Args:
            num_gpus: GPUs that each run holds.
        """
        while self.may_start and self._services.runner.free_slots > 0 and self.has_more:
            resumed = self._never_started.pop(0) if self._never_started else None
            proposal = self._proposals.next(resumed)
            if isinstance(proposal, Proposal):
                self._start(proposal, num_gpus)
            elif proposal in {Unrun.TOLD, Unrun.REFUSED}:
                if proposal is Unrun.TOLD:
                    self._brake.count_trial()
                self._services.observer.trial_finished(self.study.rows()[self._proposals.latest])
            self._is_exhausted = proposal is Unrun.EXHAUSTED

    def _spending(self) -> Spending:
        return Spending(self._spec, self._services.ledger.runs(self._spec.name), self._services.clock())

    def _why_stop(self, number: int, progress: Mapping[str, Any]) -> Failure | None:
        """Why a run should be stopped now; None lets it run."""
        rules = [rule for rule in (self._early_stop, self._dear_stop) if rule is not None]
        return next((reason for rule in rules if (reason := rule.why_stop(number, progress)) is not None), None)

    def _queue_again(self, row: TrialRow, seed: int, retry_of: int | None = None) -> None:
        recipe = row.recipe
        if recipe is not None:
            origin = {name: row.attributes.get(name) for name in ("promoted_from", "decision", "solved")}
            self.study.queue(recipe, seed, self._proposals.params_of(recipe), **origin, retry_of=retry_of)

    def _start(self, proposal: Proposal, num_gpus: float) -> None:
        budget = self.rung.run_budget(proposal.recipe, self._base)
        code = self._services.bundle(self.rung.run_recipe(proposal.recipe), budget)
        known = [*(self._source.rows() if self._source else ()), *self.study.rows()]  # as for the promotion into it
        predicted = self._services.predict_bytes(proposal.recipe, len(code), known)
        limit = self._spec.limits.artifact_bytes
        if predicted > limit * OVERSIZE_MARGIN:
            message = f"artifact_bytes: must be at most {limit:,}, predicted {predicted:,}; not run"
            failure = Failure(kind=FailureKind.OVERSIZE, message=message)
            self.study.tell(proposal.number, failure, predicted_bytes=predicted)
            self._services.observer.trial_finished(self.study.rows()[proposal.number])
            return
        self._brake.count_trial()
        run = self._new_run(proposal, code, num_gpus)
        run_set = {RUN_SET: json.dumps(self.rung.set, sort_keys=True)} if self.rung.set else {}
        run_tokens = {RUN_TOKENS: budget.train_tokens} if self.rung.tokens_by_speed else {}
        facts = {"run_id": run.run_id, "predicted_bytes": predicted}
        self.study.describe(proposal.number, **facts, **run_set, **run_tokens)
        self._services.ledger.insert(self._new_record(proposal, run, code))
        self._services.runner.submit(run)
        self.in_flight.follow(run.run_id, proposal.number)

    def _new_run(self, proposal: Proposal, code: bytes, num_gpus: float) -> Run:
        run_id, folder = self._new_folder(proposal.number)
        (folder / CODE_FILE).write_bytes(code)
        data = self._spec.data
        return Run(
            run_id=run_id,
            folder=folder,
            world_size=self.rung.to_budget().world_size,
            num_gpus=num_gpus,
            accelerator=self.rung.accelerator,
            environment={
                "DATA_PATH": str(data.path),
                "TOKENIZER_PATH": str(data.tokenizer),
                "SEED": str(proposal.seed),
                "RUN_ID": run_id,
            },
            deadline_seconds=self._deadline_seconds(num_gpus),
            storage_url=self._services.ledger.url,
        )

    def _new_folder(self, number: int) -> tuple[str, Path]:
        """A run id that neither this runs folder nor the ledger, which may have seen another, has; its empty folder."""
        parent = self._services.runs_folder / self._spec.name / self.rung.name
        names = (f"{self._spec.name}-{self.rung.name}-{number:04d}-{start}" for start in itertools.count(1))
        run_id = next(name for name in names if not ((parent / name).exists() or self._services.ledger.has(name)))
        (parent / run_id).mkdir(parents=True)
        return run_id, parent / run_id

    def _new_record(self, proposal: Proposal, run: Run, code: bytes) -> RunRecord:
        rows, now = self.study.rows(), self._services.clock()
        return RunRecord(
            run_id=run.run_id,
            study=self._spec.name,
            rung=self.rung.name,
            trial_number=proposal.number,
            attempt=attempt_of(rows[proposal.number], {row.number: row for row in rows}),
            recipe_hash=recipe_hash(proposal.recipe),
            code_sha256=hashlib.sha256(code).hexdigest(),
            seed=proposal.seed,
            folder=str(run.folder),
            world_size=run.world_size,
            num_gpus=run.num_gpus,
            queued_at=now,
            lease_expires_at=now + START_SECONDS,
        )

    def _deadline_seconds(self, num_gpus: float) -> float:
        """The rung's own, or twice what its limits allow, for machines slower than the challenge's.

        As many times that where runs wait for each other on a GPU. A run that is to tell the cost of others is stopped
        once it has spent all there is.
        """
        spending = self._spending() if self._spec.spend.bounds() else None
        bound = spending.seconds_left(self.rung) if spending and spending.is_probe(self.rung) else math.inf
        return min(self._own_deadline_seconds(num_gpus), bound)

    def _own_deadline_seconds(self, num_gpus: float) -> float:
        turns = TURNS_PER_GPU if 0 < num_gpus < 1 else 1  # each may wait for all others
        if self.rung.max_run_seconds is not None:
            return turns * self.rung.max_run_seconds
        train_seconds = self.rung.to_budget().train_seconds or self._spec.limits.train_seconds
        return turns * (2 * (train_seconds + self._spec.limits.eval_seconds) + SLACK_SECONDS)

    def _settle(self, record: RunRecord) -> None:
        """Tell the trial of a run that has ended, as the ledger knows it."""
        assert record.outcome is not None
        self._is_exhausted = False
        self.study.attach(record.trial_number, Path(record.folder), self._services.artifacts)
        attributes = {"run_id": record.run_id, "gpu_seconds": record.gpu_seconds, "device": record.device or None}
        self.study.tell(record.trial_number, record.outcome, **attributes)
        rows = self.study.rows()
        self.broken = self.broken or _what_is_broken(rows, record.outcome)
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
