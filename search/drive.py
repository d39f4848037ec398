"""Builds what a study or a single run needs from a storage URL, a runs folder and a Ray address, and drives it."""

import hashlib
import os
import signal
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from search.bundle import bundle, flatten, trainer_folder
from search.cluster import LOCAL_ADDRESS, count_gpus
from search.display import Display
from search.errors import RunnerError, SpecError
from search.late_runner import LateRunner
from search.launch import execute
from search.ledger import LEASE_SECONDS, Ledger
from search.loop import LoopResult, StudyLoop
from search.preflight import check_data
from search.promote import trial_to_promote
from search.reconcile import this_process
from search.run import Finished, Run
from search.run_record import RunRecord
from search.services import Brake, Services
from search.size_correction import predicted_in_study
from search.spec import StudySpec
from search.store import open_artifacts, open_storage, quiet_optuna, stored_spec
from search.study import read_rungs
from search.winner import terms_of
from spaces.fields import recipe_hash
from trainer.config import Budget, Recipe, check_fits

TRAIN_STUDY = "train"  # the ledger's study name of runs without a study
TRAIN_DEADLINE_SECONDS = 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where studies live and run.

    Attributes:
        storage: SQLAlchemy URL.
        runs: folder of run folders, seen under this path by every host that runs something.
        address: local, or the address of a Ray cluster.
    """

    storage: str
    runs: Path
    address: str


def run_study(spec: StudySpec, place: Place, console: Console, max_trials: int | None) -> LoopResult:
    """Run a study from wherever it stands until it is done or stopped.

    Raises:
        DatasetError: no run could train on the data; nothing has been made then.
        SpecError, StoreError, RunnerError: as StudyLoop.run.
    """
    check_study_data(spec, place)
    with study_loop(spec, place, console, max_trials) as loop:
        return loop.run()


def promote_trial(
    study: str, place: Place, console: Console, number: int | None, rung: str | None
) -> tuple[str, LoopResult]:
    """Queue a trial into the rung after its own and run that rung; returns the rung's name and how it went.

    Raises:
        DatasetError: no run could train on the data.
        SpecError, StoreError, RunnerError: as StudyLoop.promote and StudyLoop.run.
    """
    storage = open_storage(place.storage)
    spec, rows_of = stored_spec(storage, study), read_rungs(storage, study)
    source = rung or spec.rungs[0].name
    if source not in rows_of:
        raise SpecError(f"promote: rung must be one of {', '.join(rows_of)}, got {source}")
    seeds = next(one.seeds for one in spec.rungs if one.name == source)
    row = trial_to_promote(rows_of[source], terms_of(source, rows_of, seeds, spec.limits.artifact_bytes), number)
    check_study_data(spec, place)
    with study_loop(spec, place, console, None) as loop:
        target = loop.promote(row)
        return target, loop.run(only_rung=target)


def check_study_data(spec: StudySpec, place: Place) -> None:
    """Refuse data that no run could train on, as far as this machine sees it.

    Raises:
        DatasetError: see check_data.
    """
    if place.address == LOCAL_ADDRESS or spec.data.path.exists():  # on a cluster, data may lie on the workers only
        recipes = (spec.base_recipe(), *spec.queued_recipes())
        check_data(spec.data.path, spec.data.tokenizer, {recipe.model.vocab_size for recipe in recipes})


@contextmanager
def study_loop(spec: StudySpec, place: Place, console: Console, max_trials: int | None) -> Generator[StudyLoop]:
    """A loop over a study with everything it works with; Ctrl-C presses its brake."""
    quiet_optuna()
    storage, ledger = open_storage(place.storage), Ledger.open(place.storage)
    brake = Brake(trials_left=max_trials)
    trainer = flatten(trainer_folder())  # once: edits of the working tree do not reach a study that runs
    runs = place.runs.absolute()
    last_budget = spec.rungs[-1].to_budget()  # a trial is refused for what its recipe would take at the end
    with (
        closing(ledger),
        closing(LateRunner(ledger, place.address, announce=console.print)) as runner,
        Display(console, spec, time.monotonic) as display,
        pressing_on_interrupt(brake, console),
    ):
        services = Services(
            ledger=ledger,
            artifacts=open_artifacts(runs),
            bundle=lambda recipe, budget: bundle(recipe, budget, trainer).packed,
            predict_bytes=lambda recipe, code, rows: predicted_in_study(recipe, code, last_budget, rows),
            runner=runner,
            clock=time.time,
            sleep=time.sleep,
            runs_folder=runs,
            observer=display,
        )
        yield StudyLoop(spec, storage, services, this_process(), brake)


@contextmanager
def pressing_on_interrupt(brake: Brake, console: Console) -> Generator[None]:
    """Ctrl-C, and a polite kill, press the brake instead of raising."""

    def press(signal_number: int, frame: FrameType | None) -> None:
        brake.press()
        if brake.is_cancelling:
            console.print("Cancelling what runs; caddie run goes on later.")
        else:
            console.print("Stopping: nothing new starts, what runs may finish. Ctrl-C again cancels it.")

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(one, press) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def train_once(
    recipe: Recipe,
    budget: Budget,
    place: Place,
    data: Path,
    tokenizer: Path,
    seed: int,
    inherited: Mapping[str, str],
    report: Callable[[Mapping[str, Any]], None],
) -> tuple[Path, Finished]:
    """One run without a study, with the variables of this process; returns its folder and how it ended.

    Raises:
        ConfigError: the recipe does not fit the budget.
        DatasetError: it could not train on the data.
        RunnerError: the folder cannot be written, or there are GPUs, but fewer than processes.
    """
    check_fits(recipe, budget)
    check_data(data, tokenizer, [recipe.model.vocab_size])
    num_gpus = count_gpus()
    if 0 < num_gpus < budget.world_size:
        raise RunnerError(f"world_size: expected at most {num_gpus}, one process a GPU, got {budget.world_size}")
    code = bundle(recipe, budget).packed
    folder = new_train_folder(place.runs, code)
    run_id = folder.name
    with closing(Ledger.open(place.storage)) as ledger:
        now = time.time()
        ledger.insert(
            RunRecord(
                run_id=run_id,
                study=TRAIN_STUDY,
                rung="",
                trial_number=0,
                recipe_hash=recipe_hash(recipe),
                code_sha256=hashlib.sha256(code).hexdigest(),
                seed=seed,
                folder=str(folder),
                world_size=budget.world_size,
                num_gpus=min(budget.world_size, num_gpus),
                queued_at=now,
                lease_expires_at=now + LEASE_SECONDS,
            )
        )
        run = Run(
            run_id=run_id,
            folder=folder,
            world_size=budget.world_size,
            num_gpus=min(budget.world_size, num_gpus),
            accelerator=None,
            environment={
                "DATA_PATH": str(data.absolute()),
                "TOKENIZER_PATH": str(tokenizer.absolute()),
                "SEED": str(seed),
                "RUN_ID": run_id,
            },
            deadline_seconds=TRAIN_DEADLINE_SECONDS,
            storage_url=ledger.url,
        )
        return folder, execute(run, inherited, report=report)


def new_train_folder(runs: Path, code: bytes) -> Path:
    """A new folder, named by the time, that holds train_gpt.py.

    Raises:
        RunnerError: it cannot be written.
    """
    folder = runs.absolute() / TRAIN_STUDY / f"{TRAIN_STUDY}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
        (folder / "train_gpt.py").write_bytes(code)
    except OSError as error:
        raise RunnerError(f"runs folder {runs}: must be a folder that can be written, got {error.strerror}") from error
    return folder
