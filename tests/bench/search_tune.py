"""Ray Tune as a strategy, run for real: its OptunaSearch proposes, its ASHA stops, its workers are Ray's.

Only the machine is simulated: a worker asks the umpire for a run of the surrogate, and the umpire answers when the
simulated clock has come to that run's end. It waits until every worker has asked, and answers the one that ends first,
so results come in the order of simulated time whatever Ray's own overheads are, and each GPU is busy all the time.

Needs ray[tune] (pandas, pyarrow) beside Caddie's own dependencies.
"""

import asyncio
import heapq
import logging
import os
import tempfile
import warnings
from collections.abc import Mapping
from typing import Any

from bench.search_game import DEAREST, Meter, Played, Report, is_within, seconds_of, surrogate
from bench.search_optuna import REDUCTION, more_seconds, penalised
from bench.surrogate_space import BASE, SPACE, TRAIN_TOKENS

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a cluster of this process's own, on the loopback
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

METRIC = "penalised_bpb"
RESOURCE = "resource"  # 1, 3 and 9: share of the dearest run
MANY = 100_000
PATIENCE_SECONDS = 300.0  # of real time, for workers to start; then the umpire goes on without those that do not ask
WORKERS = 8


class Umpire:
    """The simulated machine: an actor that answers workers in the order of simulated time."""

    def __init__(self) -> None:
        self.begin(1, 0.0, 0)

    def begin(self, count: int, budget: float, seed: int) -> None:
        """Start a game."""
        self.count, self.budget, self.seed = count, budget, seed
        self.meter, self.asked, self.is_over = Meter(), 0, False
        self.waiting: list[tuple[float, int, dict[str, Any], asyncio.Future[dict[str, Any]]]] = []

    async def run(self, values: Mapping[str, Any], fidelity: int) -> dict[str, Any]:
        """The result of a run, at its end. A trial that goes on pays only for what a run is longer than the last."""
        outcome = surrogate().outcome(values, fidelity, self.seed)
        seconds = more_seconds(values, fidelity, self.seed) if fidelity else seconds_of(outcome)
        result = {METRIC: penalised(outcome), RESOURCE: REDUCTION**fidelity, "fits": is_within(outcome)}
        future = asyncio.get_running_loop().create_future()
        self.asked += 1
        heapq.heappush(self.waiting, (self.meter.now + seconds, self.asked, result, future))
        if len(self.waiting) == self.count or self.is_over:
            self._answer()
        return await future

    def _answer(self) -> None:
        """Let time pass until the first run ends, or the budget is spent: then all are told that it is over."""
        ends_at, _, result, future = heapq.heappop(self.waiting)
        spent_at = self.meter.time_of(self.budget, self.count)
        self.is_over = self.is_over or ends_at > spent_at
        self.meter.pass_until(max(min(ends_at, spent_at), self.meter.now), self.count)
        futures = [future, *(one[3] for one in self.waiting)] if self.is_over else [future]
        for one in futures:
            one.set_result({**result, "held": self.meter.held, "is_over": self.is_over})
        if self.is_over:
            self.waiting.clear()


class Run(tune.Trainable):
    """A trial: each step is a run of the next fidelity. Actors are used again for the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.values, self.fidelity = config, -1
        self.umpire = ray.get_actor("umpire")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.values, self.fidelity = new_config, -1
        return True

    def step(self) -> dict[str, Any]:
        self.fidelity += 1
        result: dict[str, Any] = ray.get(self.umpire.run.remote(self.values, self.fidelity))  # pyright: ignore
        return {**result, "done": result["is_over"] or self.fidelity == DEAREST}

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...

    def load_checkpoint(self, checkpoint: Any) -> None: ...


class Reporter(tune.Callback):
    """Notes what Tune would name as its best after each result: the best by latest results, of those within the cap."""

    def __init__(self) -> None:
        self.latest: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self.reports: list[Report] = []
        self.runs = [0] * len(TRAIN_TOKENS)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """A result has come."""
        if result["is_over"]:
            return
        self.runs[[REDUCTION**fidelity for fidelity in range(len(TRAIN_TOKENS))].index(result[RESOURCE])] += 1
        self.latest.pop(trial.trial_id, None)
        if result["fits"]:
            self.latest[trial.trial_id] = (result[METRIC], dict(trial.config))
        best = min(self.latest.values(), key=lambda one: one[0], default=(0.0, None))[1]
        self.reports.append(Report(result["held"], best))


class Over(tune.Stopper):
    """Stops all once the budget is spent."""

    def __init__(self) -> None:
        self.is_over = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.is_over = self.is_over or result["is_over"]
        return self.is_over

    def stop_all(self) -> bool:
        return self.is_over


def umpire() -> Any:
    """The umpire, on a Ray of this process's own that is started once."""
    if not ray.is_initialized():
        ray.init(
            address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        actor = ray.remote(Umpire).options(name="umpire", num_cpus=0, max_concurrency=2 * WORKERS)
        umpire.handle = actor.remote()  # type: ignore[attr-defined]
    return ray.get_actor("umpire")


def suggest(trial: Any) -> None:
    """The space, as Optuna draws from it."""
    SPACE.suggest(trial, BASE)


def asha(in_flight: int, budget: float, seed: int) -> Played:
    """OptunaSearch and ASHA with their defaults; reduction by three, as the fidelities are."""
    machine = umpire()
    ray.get(machine.begin.remote(in_flight, budget, seed))
    scheduler = ASHAScheduler(time_attr=RESOURCE, grace_period=1, max_t=REDUCTION**DEAREST, reduction_factor=REDUCTION)
    reporter = Reporter()
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(Run, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="min",
                search_alg=OptunaSearch(space=suggest, metric=METRIC, mode="min", seed=seed),
                scheduler=scheduler,
                num_samples=MANY,
                max_concurrent_trials=in_flight,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                stop=Over(),
                callbacks=[reporter],
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0),
            ),
        )
        tuner.fit()
    return Played(reporter.reports, reporter.reports[-1].gpu_seconds, reporter.runs)
