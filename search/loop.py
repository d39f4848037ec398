"""The driver of a study: its rungs, each promoting its best into the next, one process at a time."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from search.errors import RunnerError, SpecError
from search.ladder import Ladder
from search.ledger import LEASE_SECONDS, Driver
from search.notes import write_note
from search.plan import is_done
from search.promote import missing_seeds, queue_promoted
from search.promotion import Promotion
from search.proposals import params_finder, size_check
from search.reconcile import claim_study
from search.rung_loop import RungLoop
from search.sampler import make_sampler
from search.sampler_joint import with_joint_model
from search.sampler_prior import with_prior
from search.services import Brake, Services
from search.spec import RungSpec, StudySpec
from search.spec_rungs import steady_after, steady_before
from search.spending import refuse_unaffordable
from search.store import (
    check_definition,
    define_rung,
    open_rung,
    optuna_answering,
    rung_study_name,
    study_names,
)
from search.study import RungStudy, read_rows
from search.trials import TrialRow
from search.winner import terms_of
from spaces.fields import recipe_hash


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopResult:
    """How a drive of the study ended.

    Attributes:
        settled: rungs that have nothing left to run, in order.
        stopped_at: the rung that was under way when the brake stopped the loop; None where none was.
        refusal: why that rung cannot afford another run, where the study's spend stopped it.
        nothing_promoted_from: the rung that had nothing feasible to promote; None where that did not happen.
    """

    settled: tuple[str, ...]
    stopped_at: str | None = None
    refusal: str | None = None
    nothing_promoted_from: str | None = None


class StudyLoop:
    """Drives a study from wherever it stands.

    Args:
        driver: identity of this process for the study's lease.
    """

    def __init__(self, spec: StudySpec, storage: RDBStorage, services: Services, driver: Driver, brake: Brake) -> None:
        self._spec = spec
        self._storage = storage
        self._services = services
        self._driver = driver
        self._brake = brake
        self._kept_at = float("-inf")
        self._params_of = params_finder(spec)

    def run(self, only_rung: str | None = None) -> LoopResult:
        """Run every rung that is not settled, or one alone, until done or stopped.

        Raises:
            SpecError: the study exists with another definition, has no such rung, or cannot afford its first run.
            StoreError: the storage stopped answering.
            RunnerError: another process drives this study, the runs folder cannot be written, or no run can work.
        """
        names = [rung.name for rung in self._spec.rungs]
        if only_rung is not None and only_rung not in names:
            raise SpecError(f"study {self._spec.name}: rung must be one of {', '.join(names)}, got {only_rung}")
        with self._driving():
            if self._spec.name not in study_names(self._storage):
                refuse_unaffordable(self._spec)
                self._prepare(self._spec.rungs[0])  # a study that fits no machine is not made: it can still change
            self._define()
            return self._run_rungs(names if only_rung is None else [only_rung])

    def promote(self, source: TrialRow) -> str:
        """Queue a trial into the rung after its own, once a seed; run(only_rung=...) runs it.

        Returns:
            The name of the rung it is queued in.

        Raises:
            SpecError: there is no rung after that one, or the trial is in it already.
            RunnerError: another process drives this study, or no run of that rung could ever start.
        """
        names = [rung.name for rung in self._spec.rungs]
        if source.rung not in names[:-1]:
            raise SpecError(f"promote: rung must have a rung after it, got {source.rung} of {', '.join(names)}")
        target = steady_after(self._spec.rungs, names.index(source.rung))
        assert target is not None, "the last rung is no fallback"
        with self._driving():
            self._define()
            study = self._rung_study(target)
            if not missing_seeds(source, study, target.seeds):
                raise SpecError(
                    f"promote: trial {source.rung}/{source.number} must be new to {target.name}, got it again"
                )
            self._prepare(target)
            queue_promoted(source, study, target.seeds, self._params_of)
        return target.name

    @contextmanager
    def _driving(self) -> Generator[None]:
        """Hold the study's lease; what can be refused without Ray is refused before it starts."""
        with optuna_answering(self._storage.url):
            check_definition(self._storage, self._spec)
            self._check_runs_folder()
            self._keep()
            try:
                yield
            finally:
                self._kept_at = float("-inf")
                self._services.ledger.release(self._spec.name, self._driver.owner)

    def _define(self) -> None:
        """Make every rung's Optuna study, or bring its definition up to date."""
        for rung in self._spec.rungs:
            define_rung(self._open(rung), self._spec, rung)

    def _prepare(self, rung: RungSpec) -> float:
        return self._services.runner.prepare(rung.name, rung.to_budget().world_size, rung.accelerator)

    def _run_rungs(self, names: list[str]) -> LoopResult:
        rungs = [rung for rung in self._spec.rungs if rung.name in names]
        loops: list[RungLoop] = []
        for index, rung in enumerate(rungs):
            before = steady_before(rungs, index)
            source = loops[rungs.index(before)].study if before else None
            loops.append(RungLoop(self._spec, rung, self._study_to_run(rung), self._services, self._brake, source))
        promotions = [self._promotion(loops, index) for index in range(len(loops))]
        ladder = Ladder(loops, promotions, self._services, self._brake, self._keep)
        ladder.drive()
        self._write_notes(loops)
        settled: list[str] = []
        for index, loop in enumerate(loops):
            if not loop.study.rows() and ladder.is_finished(index):
                if loop.rung.fallback:
                    continue
                before = self._spec.rungs[self._spec.rungs.index(loop.rung) - 1]
                return LoopResult(settled=tuple(settled), nothing_promoted_from=before.name)
            if not ladder.is_finished(index):
                return LoopResult(settled=tuple(settled), stopped_at=loop.rung.name, refusal=loop.refusal)
            settled.append(loop.rung.name)
        return LoopResult(settled=tuple(settled))

    def _write_notes(self, loops: Sequence[RungLoop]) -> None:
        """Put the standings of each rung beside its study."""
        studies = {rung.name: self._rung_study(rung) for rung in self._spec.rungs}
        rows_of = {name: study.rows() for name, study in studies.items()}
        for rung in (loop.rung for loop in loops):
            terms = terms_of(rung.name, rows_of, rung.seeds, self._spec.limits.artifact_bytes)
            write_note(studies[rung.name].optuna, rows_of[rung.name], terms)

    def _promotion(self, loops: Sequence[RungLoop], index: int) -> Promotion | None:
        if index == 0:
            return None
        return Promotion(self._spec, index, [loop.study for loop in loops], self._services, self._params_of)

    def _study_to_run(self, rung: RungSpec) -> RungStudy:
        """A rung's trials; of the first one, with a sampler that knows how many runs there will be at a time."""
        study = self._rung_study(rung)
        if rung is not self._spec.rungs[0]:
            return study
        self._queue_first(rung, study)
        if is_done(study.rows(), rung.trials, rung.seeds):
            return study
        self._prepare(rung)
        return self._rung_study(rung, slots=self._services.runner.free_slots)

    def _queue_first(self, rung: RungSpec, study: RungStudy) -> None:
        """Queue the base recipe as trial 0, the control of every chart, the named recipes, then controls for noise."""
        present = {row.key for row in study.rows()}
        base, seed = self._spec.base_recipe(), rung.seeds[0]
        first = [(recipe, seed) for recipe in (base, *self._spec.queued_recipes())]
        others = range(max(rung.seeds) + 1, max(rung.seeds) + 1 + self._spec.sampler.controls)
        for recipe, seed in (*first, *((base, other) for other in others)):
            key = (recipe_hash(recipe), seed)
            if key not in present:
                study.queue(recipe, seed, self._params_of(recipe))
            present.add(key)

    def _rung_study(self, rung: RungSpec, slots: int = 1) -> RungStudy:
        study = self._open(rung, slots)
        return RungStudy(study, rung=rung.name, objectives=self._spec.objectives, limits=self._spec.limits)

    def _open(self, rung: RungSpec, slots: int = 1) -> optuna.Study:
        name = rung_study_name(self._spec.name, rung.name)
        study = open_rung(self._storage, name, self._spec.objectives)
        finished = len(study.get_trials(deepcopy=False))
        sampler: BaseSampler = make_sampler(self._spec.sampler, trials=rung.trials or 0, slots=slots, finished=finished)
        if rung is self._spec.rungs[0]:
            check = size_check(self._spec, self._services, lambda: read_rows(study, rung.name))
            sampler = with_joint_model(sampler, self._spec, self._later_trials, check, finished)
        study.sampler = with_prior(sampler, self._spec, finished)
        return study

    def _later_trials(self) -> list[list[FrozenTrial]]:
        """Trials of the rungs after the first."""
        return [study.get_trials(deepcopy=False) for study in self._later_studies]

    @cached_property
    def _later_studies(self) -> list[optuna.Study]:
        return [self._open(rung) for rung in self._spec.rungs[1:]]

    def _keep(self) -> None:
        """Renew this process's lease on the study, well before it runs out."""
        now = self._services.clock()
        if now - self._kept_at > LEASE_SECONDS / 12:
            claim_study(self._services.ledger, self._spec.name, self._driver, now)
            self._kept_at = now

    def _check_runs_folder(self) -> None:
        folder = self._services.runs_folder / self._spec.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            raise RunnerError(
                f"runs folder {folder}: must be a folder that can be written, got {error.strerror}"
            ) from error
