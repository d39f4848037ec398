"""Strategies that are Optuna alone: random search, its TPE on dear runs only, and its Hyperband."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import optuna
from bench.search_game import DEAREST, Gpus, Played, Report, Values, is_within, seconds_of, surrogate
from bench.surrogate import Outcome
from bench.surrogate_space import ARTIFACT_CAP, BASE, SPACE, TRAIN_TOKENS
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import Trial, TrialState

REDUCTION = 3  # of Hyperband: Optuna's default, and the surrogate's fidelities
BYTES_PENALTY = 10.0  # bits per byte for being over the cap by as much as the cap; see penalised


def penalised(outcome: Outcome) -> float:
    """The score with bytes over the cap as a penalty, for strategies that know no constraints: 1 % over costs 0.1."""
    return outcome.val_bpb + BYTES_PENALTY * max(outcome.artifact_bytes / ARTIFACT_CAP - 1, 0.0)


def more_seconds(values: Values, fidelity: int, seed: int) -> float:
    """What a run takes more than that of the fidelity before."""
    longer, shorter = (surrogate().outcome(values, one, seed) for one in (fidelity, fidelity - 1))
    return max(seconds_of(longer) - seconds_of(shorter), 0.0)


@dataclass(frozen=True, slots=True)
class Step:
    """A run of a trial at one fidelity, under way."""

    trial: Trial
    fidelity: int
    outcome: Outcome


class SingleFidelity:
    """A sampler whose trials are all dear runs; bytes are a constraint of Optuna's."""

    first_fidelity = DEAREST

    def __init__(self, sampler: optuna.samplers.BaseSampler) -> None:
        self.study = optuna.create_study(sampler=sampler, pruner=NopPruner())

    def take(self, step: Step) -> bool:
        """Take in a result; True where the trial goes on in the next fidelity."""
        step.trial.set_constraint("artifact_bytes", step.outcome.artifact_bytes / ARTIFACT_CAP - 1)
        self.study.tell(step.trial, step.outcome.val_bpb)
        return False

    def best(self) -> Trial | None:
        """What Optuna reports: the best feasible trial."""
        try:
            return cast("Any", self.study.best_trial)
        except ValueError:
            return None


class Hyperband:
    """Optuna's Hyperband over its TPE, from the cheapest fidelity to the dearest, with its defaults.

    A trial that goes on pays for what the longer run takes more. Pruners know no constraints: the score is penalised.
    """

    first_fidelity = 0

    def __init__(self, sampler: optuna.samplers.BaseSampler, seed: int) -> None:
        pruner = HyperbandPruner(min_resource=1, max_resource=REDUCTION**DEAREST, reduction_factor=REDUCTION)
        name = f"hyperband {seed}"  # it decides which trial is in which bracket
        self.study = optuna.create_study(sampler=sampler, pruner=pruner, study_name=name)
        self._fits: dict[int, bool] = {}

    def take(self, step: Step) -> bool:
        """Take in a result; True where the trial goes on in the next fidelity."""
        value = penalised(step.outcome)
        step.trial.report(value, REDUCTION**step.fidelity)
        if step.fidelity < DEAREST and not step.trial.should_prune():
            return True
        is_whole = step.fidelity == DEAREST
        self._fits[step.trial.number] = is_within(step.outcome)
        if is_whole:
            self.study.tell(step.trial, value)
        else:  # Optuna keeps the last reported value
            self.study.tell(step.trial, state=TrialState.PRUNED)
        return False

    def best(self) -> Trial | None:
        """The best of its trials that came to the dearest fidelity and kept the cap."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        fitting = [trial for trial in trials if self._fits[trial.number]]
        return cast("Any", min(fitting, key=lambda trial: trial.value or 0.0, default=None))


Strategy = SingleFidelity | Hyperband


def play(strategy: Strategy, in_flight: int, budget: float, seed: int) -> Played:
    """Let a strategy work until the budget is spent."""
    gpus = Gpus[Step](in_flight, budget)
    runs = [0] * len(TRAIN_TOKENS)
    reports: list[Report] = []
    for step in results(strategy, gpus, seed):
        runs[step.fidelity] += 1
        best = strategy.best()
        reports.append(Report(gpus.meter.held, None if best is None else dict(best.params)))
    return Played(reports, gpus.meter.held, runs)


def results(strategy: Strategy, gpus: Gpus[Step], seed: int) -> Iterator[Step]:
    """Each run's end, after the strategy has heard of it."""

    def start(trial: Trial, fidelity: int, *, is_resumed: bool = False) -> None:
        step = Step(trial, fidelity, surrogate().outcome(trial.params, fidelity, seed))
        gpus.start(step, more_seconds(trial.params, fidelity, seed) if is_resumed else seconds_of(step.outcome))

    while True:
        while gpus.has_room:
            trial = strategy.study.ask()
            SPACE.suggest(trial, BASE)
            start(trial, strategy.first_fidelity)
        step = gpus.next_end()
        if step is None:
            return
        if strategy.take(step):
            start(step.trial, step.fidelity + 1, is_resumed=True)
        yield step


def random_search(in_flight: int, budget: float, seed: int) -> Played:
    """Dear runs of random recipes."""
    return play(SingleFidelity(RandomSampler(seed=seed)), in_flight, budget, seed)


def tpe(in_flight: int, budget: float, seed: int) -> Played:
    """Dear runs as Optuna's default sampler proposes them, with bytes as its constraint."""
    return play(SingleFidelity(TPESampler(seed=seed)), in_flight, budget, seed)


def hyperband(in_flight: int, budget: float, seed: int) -> Played:
    """Optuna's Hyperband over its default sampler."""
    return play(Hyperband(TPESampler(seed=seed), seed), in_flight, budget, seed)
