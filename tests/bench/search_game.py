"""The game that strategies play: runs of the surrogate on simulated GPUs, within a budget of simulated GPU-seconds.

A run costs the seconds that the surrogate says it trains and is scored. A GPU is held from a run's start to its end, or
to where the run is stopped; a result that would come after the budget is spent does not come.

A strategy is judged by what it would report at each time, going by its own noisy measurements: the score without noise
of that recipe in the dearest rung. A recipe whose bytes without noise are over the cap counts as nothing found, and
nothing found as a random recipe: NOTHING, the median score of the space's feasible recipes.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean, median
from typing import Any, Generic, TypeVar

from bench.surrogate import Outcome, Surrogate
from bench.surrogate_space import ARTIFACT_CAP, TRAIN_TOKENS, sobol_recipes

DEAREST = len(TRAIN_TOKENS) - 1
NUM_SAMPLED = 1024  # recipes that say what a random one is worth

T = TypeVar("T")
Values = Mapping[str, Any]  # what a trial suggests for a recipe
Curve = Sequence[tuple[float, float]]  # GPU-seconds and the true score of what is reported from then on


@dataclass(frozen=True, slots=True)
class Report:
    """What a strategy would report from a time on.

    Attributes:
        gpu_seconds: held by then.
        values: of the recipe; None where nothing feasible is known.
    """

    gpu_seconds: float
    values: Values | None


@dataclass(frozen=True, slots=True)
class Played:
    """One game of a strategy.

    Attributes:
        reports: in order of time.
        gpu_seconds: held in all.
        runs: that ended by themselves, by fidelity.
        stopped: runs that were stopped.
    """

    reports: Sequence[Report]
    gpu_seconds: float
    runs: Sequence[int]
    stopped: int = 0


@cache
def surrogate() -> Surrogate:
    """The surrogate, read once a process."""
    return Surrogate.load()


def seconds_of(outcome: Outcome) -> float:
    """GPU-seconds that a run holds."""
    return outcome.train_seconds + outcome.eval_seconds


def is_within(outcome: Outcome) -> bool:
    """Whether it keeps the cap of bytes."""
    return outcome.artifact_bytes <= ARTIFACT_CAP


@cache
def sampled_truths() -> tuple[Outcome, ...]:
    """What recipes spread evenly over the space come to in the dearest rung."""
    return tuple(surrogate().truth(values, DEAREST) for values, _ in sobol_recipes(NUM_SAMPLED))


@cache
def nothing() -> float:
    """What counts while nothing feasible is known: the median score of feasible recipes."""
    return median(outcome.val_bpb for outcome in sampled_truths() if is_within(outcome))


def feasible_share() -> float:
    """How many random recipes keep the cap."""
    return fmean(map(is_within, sampled_truths()))


@cache
def sampled_seconds(fidelity: int) -> float:
    """What a run of a random recipe takes on average. Budgets are multiples of that of a dear run."""
    return fmean(seconds_of(surrogate().truth(values, fidelity)) for values, _ in sobol_recipes(NUM_SAMPLED))


def dear_seconds() -> float:
    """What a dear run of a random recipe takes on average."""
    return sampled_seconds(DEAREST)


def true_score(values: Values | None) -> float:
    """What reporting a recipe is worth."""
    if values is None:
        return nothing()
    truth = surrogate().truth(values, DEAREST)
    return truth.val_bpb if is_within(truth) else nothing()


def score_curve(reports: Sequence[Report]) -> Curve:
    """The true score of what is reported, where it changes; it starts with nothing found."""
    curve = [(0.0, nothing())]
    for report in reports:
        score = true_score(report.values)
        if score != curve[-1][1]:
            curve.append((report.gpu_seconds, score))
    return curve


def score_at(curve: Curve, gpu_seconds: float) -> float:
    """The score of what is reported at a time."""
    return next(score for at, score in reversed(curve) if at <= gpu_seconds)


@dataclass
class Meter:
    """GPU-seconds held, as time passes."""

    now: float = 0.0
    held: float = 0.0

    def pass_until(self, time: float, busy: int) -> None:
        """Let time pass with so many GPUs held."""
        assert time >= self.now, "time does not go back"
        self.held += (time - self.now) * busy
        self.now = time

    def time_of(self, held: float, busy: int) -> float:
        """When so many GPU-seconds will be held, if as many GPUs stay busy."""
        return self.now + (held - self.held) / busy if busy else float("inf")


@dataclass
class Gpus(Generic[T]):
    """Simulated GPUs that work off runs, for strategies that are loops of their own.

    Attributes:
        count: runs in flight.
        budget: GPU-seconds.
    """

    count: int
    budget: float
    meter: Meter = field(default_factory=Meter)
    _flying: list[tuple[float, int, T]] = field(default_factory=list[tuple[float, int, T]])
    _started: int = 0

    @property
    def has_room(self) -> bool:
        """Whether a run may start."""
        return len(self._flying) < self.count

    def start(self, run: T, seconds: float) -> None:
        """Start a run that will take so long."""
        self._started += 1
        heapq.heappush(self._flying, (self.meter.now + seconds, self._started, run))

    def next_end(self) -> T | None:
        """Let time pass until a run ends; None where the budget is spent before, or nothing runs."""
        busy = len(self._flying)
        spent_at = self.meter.time_of(self.budget, busy)
        if not busy or self._flying[0][0] > spent_at:
            self.meter.pass_until(spent_at if busy else self.meter.now, busy)
            return None
        ends_at, _, run = heapq.heappop(self._flying)
        self.meter.pass_until(ends_at, busy)
        return run
