"""A simulated machine for tests of the loop: a runner whose workers write a real ledger, and a clock that they move."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from empty_database import empty_database
from optuna.storages import RDBStorage

from search.ledger import Driver, Ledger
from search.loop import LoopResult, StudyLoop
from search.run import Finished, Progress, Run
from search.services import Brake, Services
from search.spec import StudySpec
from search.store import open_artifacts, open_storage
from search.study import RungStudy
from search.trials import TrialRow
from trainer.config import Budget, Recipe
from trainer.result import Failure, FailureKind, Measurement, outcome_to_dict

RUN_SECONDS = 30.0


def measurement(**changes: Any) -> Measurement:
    """A feasible result."""
    plain = Measurement(
        val_bpb=1.5,
        val_loss=2.5,
        pre_quant_val_bpb=1.4,
        post_quant_val_bpb=1.45,
        artifact_bytes=1_000_000,
        code_bytes=40_000,
        weight_bytes=960_000,
        code_sha256="c" * 64,
        weight_sha256="w" * 64,
        num_parameters=1_000_000,
        steps=10,
        train_tokens=81_920,
        train_loss=2.6,
        train_seconds=20.0,
        eval_seconds=5.0,
        step_avg_ms=2000.0,
        peak_memory_bytes=500_000_000,
        seed=1337,
        world_size=1,
        device="cpu",
        torch_version="2.13.0",
        python_version="3.11.4",
        compressor_version="0.25.0",
    )
    return replace(plain, **changes)


def failure(kind: FailureKind, message: str = "as the test wants") -> Failure:
    return Failure(kind=kind, message=message)


def recipe_text(recipe: Recipe, budget: Budget) -> bytes:
    """Stands in for the bundle: what the fake trainer reads its recipe from."""
    values = {"num_layers": recipe.model.num_layers, "matrix_lr": recipe.optim.matrix_lr, "budget": str(budget)}
    return json.dumps(values).encode()


def measured_by_recipe(run: Run, values: Mapping[str, Any]) -> Measurement | Failure:
    """A score that the recipe and the seed decide, so that repeats of a run can be told from new ones."""
    score = 1.0 + abs(values["num_layers"] - 6) / 10 + abs(values["matrix_lr"] - 0.03)
    return measurement(
        val_bpb=score + int(run.environment["SEED"]) / 1e7, artifact_bytes=100_000 * values["num_layers"]
    )


Curve = Callable[[Run, Mapping[str, Any]], Sequence[tuple[float, float]]]  # progress and training loss
Behaviour = Callable[[Run, Mapping[str, Any]], Measurement | Failure | None]  # None: the worker is lost


@dataclass
class Worker:
    """One trainer at work. outcome None: it is lost, neither beating nor reporting."""

    run: Run
    outcome: Measurement | Failure | None
    started_at: float
    ends_at: float
    curve: Sequence[tuple[float, float]] = ()

    def progress(self, now: float) -> dict[str, Any]:
        """How far it is; the part of its curve that it has come to is in its events."""
        share = 0.5 if not self.curve else (now - self.started_at) / (self.ends_at - self.started_at)
        seen = [point for point in self.curve if point[0] <= share]
        events = [{"event": "TrainStep", "progress": at, "train_loss": loss} for at, loss in seen]
        if events:
            (self.run.folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        loss = {"train_loss": seen[-1][1]} if seen else {}
        return {"phase": "train", "step": 3, "progress": share, **loss}


@dataclass
class World:
    """Everything outside the driver: time, workers, and what they do. Survives a driver's death."""

    slots: int = 2
    behaviour: Behaviour = measured_by_recipe
    curve: Curve | None = None  # of a run; without one, runs report no loss
    run_seconds: float = RUN_SECONDS
    now: float = 1_000_000.0
    workers: dict[str, Worker] = field(default_factory=dict[str, Worker])
    submitted: list[Run] = field(default_factory=list[Run])
    in_flight_peak: int = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeRunner:
    """Runs whose workers start at once, beat while they run, and write ledger and files as search.launch does."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world = world
        self.ledger = ledger
        self.mine: set[str] = set()
        self.reports: list[Progress | Finished] = []
        self.prepared: list[tuple[str, int, str | None]] = []

    @property
    def free_slots(self) -> int:
        return self.world.slots - len(self.mine & self.world.workers.keys())

    def submit(self, run: Run) -> None:
        values = json.loads((run.folder / "train_gpt.py").read_bytes())
        assert self.ledger.start(run.run_id, "worker", 17, "fake", self.world.now)
        outcome = self.world.behaviour(run, values)
        curve = self.world.curve(run, values) if self.world.curve else ()
        ends_at = self.world.now + self.world.run_seconds
        self.world.workers[run.run_id] = Worker(run, outcome, self.world.now, ends_at, curve)
        self.world.submitted.append(run)
        self.mine.add(run.run_id)
        self.world.in_flight_peak = max(self.world.in_flight_peak, len(self.world.workers))

    def wait(self, timeout_seconds: float) -> Sequence[Progress | Finished]:
        self.world.now += max(timeout_seconds, 5.0)  # longer than asked, for fewer looks at the database
        step_workers(self.world, self.ledger, self.reports, self.mine)
        reports, self.reports = self.reports, []
        return reports

    def cancel(self, run_id: str) -> None:
        worker = self.world.workers.get(run_id)
        if worker is not None:
            cancelled = failure(FailureKind.CANCELLED, "cancelled by the user")
            self.ledger.finish(run_id, cancelled, 0.0, self.world.now)
            worker.outcome, worker.ends_at = cancelled, self.world.now

    def close(self) -> None:
        pass

    def prepare(self, rung: str, world_size: int, accelerator: str | None) -> float:
        self.prepared.append((rung, world_size, accelerator))
        return 0


def step_workers(
    world: World, ledger: Ledger, reports: list[Progress | Finished] | None = None, mine: set[str] | None = None
) -> None:
    """Let every worker beat, or end and say so."""
    for run_id, worker in list(world.workers.items()):
        if worker.outcome is None:  # lost: no beat, no report; its slot is free once somebody notices
            if world.now > worker.ends_at + 300:
                del world.workers[run_id]
            continue
        if world.now < worker.ends_at:
            progress = worker.progress(world.now)
            ledger.beat(run_id, progress, world.now)
            if reports is not None and mine is not None and run_id in mine:
                reports.append(Progress(run_id=run_id, values=progress))
            continue
        del world.workers[run_id]
        if isinstance(worker.outcome, Measurement):
            worker.progress(worker.ends_at)
        write_outputs(worker.run.folder, worker.outcome)
        ledger.finish(run_id, worker.outcome, world.run_seconds, world.now)
        if reports is not None and mine is not None and run_id in mine:
            reports.append(Finished(run_id=run_id, outcome=worker.outcome, gpu_seconds=world.run_seconds))


def write_outputs(folder: Path, outcome: Measurement | Failure) -> None:
    (folder / "train.log").write_text("step:1/10 train_loss:2.6\n")
    (folder / "result.json").write_text(json.dumps(outcome_to_dict(outcome)))


@dataclass
class Recorder:
    """An observer that keeps what it heard."""

    heard: list[str] = field(default_factory=list[str])

    def rung_started(self, rung: str, rows: Sequence[TrialRow]) -> None:
        self.heard.append(f"rung_started {rung} {len(rows)}")

    def trial_started(self, rung: str, number: int, run_id: str) -> None:
        self.heard.append(f"trial_started {rung} {number}")

    def trial_progress(self, rung: str, number: int, values: Mapping[str, Any]) -> None:
        self.heard.append(f"trial_progress {rung} {number}")

    def trial_finished(self, row: TrialRow) -> None:
        self.heard.append(f"trial_finished {row.rung} {row.number} {row.status}")

    def rung_finished(self, rung: str, rows: Sequence[TrialRow]) -> None:
        self.heard.append(f"rung_finished {rung} {len(rows)}")


def make_spec(**changes: Any) -> StudySpec:
    """A study of two searched fields and two rungs."""
    values: dict[str, Any] = {
        "name": "sim",
        "space": {
            "params": {
                "model.num_layers": {"low": 1, "high": 12},
                "optim.matrix_lr": {"low": 0.01, "high": 0.1, "log": True},
            }
        },
        "data": {"path": "data", "tokenizer": "data/tokenizer.model"},
        "rungs": [
            {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 4},
            {"name": "full", "budget": {"train_tokens": 9000}, "promote": 2},
        ],
        "sampler": {"seed": 7},
    }
    return StudySpec.model_validate({**values, **changes})


@dataclass
class Machine:
    """One database, one runs folder and one world; each start() is a new driver process."""

    folder: Path
    spec: StudySpec
    world: World = field(default_factory=World)
    observer: Recorder = field(default_factory=Recorder)
    bundle: Callable[[Recipe, Budget], bytes] = recipe_text
    predict_bytes: Callable[[Recipe, int, Sequence[TrialRow]], int] = lambda recipe, code_bytes, rows: 0
    starts: int = 0

    def __post_init__(self) -> None:
        self.url = f"sqlite:///{self.folder / 'caddie.db'}"
        shutil.copyfile(empty_database(), self.folder / "caddie.db")
        self.ledger = Ledger.open(self.url)  # the tests' and the workers' own; a driver opens another
        self.storage = open_storage(self.url)

    def loop(
        self,
        brake: Brake | None = None,
        *,
        ledger: Ledger | None = None,
        storage: RDBStorage | None = None,
        runner: FakeRunner | None = None,
    ) -> StudyLoop:
        self.starts += 1
        services = Services(
            ledger=ledger or self.ledger,
            artifacts=open_artifacts(self.folder / "runs"),
            bundle=self.bundle,
            predict_bytes=self.predict_bytes,
            runner=runner or FakeRunner(self.world, self.ledger),
            clock=self.world.clock,
            sleep=self.world.sleep,
            runs_folder=self.folder / "runs",
            observer=self.observer,
        )
        driver = Driver(owner=f"driver-{self.starts}", host="driver-host", pid=self.starts)
        return StudyLoop(self.spec, storage or self.storage, services, driver, brake or Brake())

    def run(self, brake: Brake | None = None, **parts: Any) -> LoopResult:
        return self.loop(brake, **parts).run()

    def rows(self, rung: str) -> list[TrialRow]:
        return self.study(rung).rows()

    def study(self, rung: str) -> RungStudy:
        study = optuna.load_study(study_name=f"{self.spec.name}/{rung}", storage=self.storage)
        return RungStudy(study, rung=rung, objectives=self.spec.objectives, limits=self.spec.limits)
