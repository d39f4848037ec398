"""What the table of games says: curves over seeds with intervals, the goal, and paired differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bench.search_game import score_at
from bench.search_results import Line
from numpy.typing import NDArray

Array = NDArray[np.float64]

SHARES = (1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0)  # of the budget, at which tables read the curves
NUM_TIMES = 240  # of the budget, at which the goal is looked for
DRAWS = 400
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and what seeds leave open about it."""

    value: float
    low: float
    high: float


def bootstrap(rows_SX: Array, statistic: Callable[[Array], float]) -> Interval:
    """A statistic of seeds, with the interval of what it is for seeds drawn from them."""
    random = np.random.default_rng(0)
    drawn = sorted(statistic(rows_SX[random.integers(0, len(rows_SX), len(rows_SX))]) for _ in range(DRAWS))
    tail = round(DRAWS * (1 - CONFIDENCE) / 2)
    return Interval(statistic(rows_SX), drawn[tail], drawn[-1 - tail])


def median(values: Array) -> float:
    """Of seeds."""
    return float(np.median(values))


def mean(values: Array) -> float:
    """Of seeds."""
    return float(np.mean(values))


def games(lines: Sequence[Line], strategy: str, in_flight: int) -> dict[int, Line]:
    """A strategy's games, by seed."""
    return {line.seed: line for line in lines if (line.strategy, line.in_flight) == (strategy, in_flight)}


def scores(played: Mapping[int, Line], shares: Sequence[float]) -> Array:
    """True scores at shares of the budget, a row a seed."""
    return np.array([[score_at(line.curve, share * line.budget) for share in shares] for line in played.values()])


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """How soon a strategy is as good as the best other one is in the end.

    Attributes:
        rival: the other strategy of the best median final score.
        target: that score.
        share: of the budget, after which the median over seeds is at the target and stays there; inf where it never is.
        reached: seeds whose own score is at the target after a third of the budget.
        seeds: of the strategy.
        worse: seeds that end above random's score of the same seed, of those that both have.
    """

    rival: str
    target: float
    share: Interval
    reached: int
    seeds: int
    worse: Sequence[int]
    compared: int


def goal(lines: Sequence[Line], strategy: str, others: Sequence[str], in_flight: int) -> Goal | None:
    """The goal of the benchmark; None where games are missing."""
    mine = games(lines, strategy, in_flight)
    finals = {name: scores(games(lines, name, in_flight), [1.0]) for name in others if games(lines, name, in_flight)}
    if not mine or not finals:
        return None
    rival = min(finals, key=lambda name: median(finals[name]))
    target = median(finals[rival])
    times = np.arange(1, NUM_TIMES + 1) / NUM_TIMES
    paired = both(mine, games(lines, "random", in_flight))
    return Goal(
        rival=rival,
        target=target,
        share=bootstrap(scores(mine, [*times]), lambda rows: first_time(np.median(rows, axis=0), target)),
        reached=int(np.sum(scores(mine, [1 / 3]) <= target)),
        seeds=len(mine),
        worse=[seed for seed, (own, other) in paired.items() if own.curve[-1][1] > other.curve[-1][1]],
        compared=len(paired),
    )


def first_time(curve: Array, target: float) -> float:
    """The share of the budget from which on a curve stays at or under a target; inf where it ends above."""
    above = np.flatnonzero(curve > target)
    first = 0 if not len(above) else int(above[-1]) + 1
    return float("inf") if first == len(curve) else (first + 1) / len(curve)


def both(mine: Mapping[int, Line], others: Mapping[int, Line]) -> dict[int, tuple[Line, Line]]:
    """Games of the same seed."""
    return {seed: (mine[seed], others[seed]) for seed in sorted(mine.keys() & others.keys())}


def difference(changed: Mapping[int, Line], default: Mapping[int, Line], share: float) -> Interval:
    """Mean of a change's score less the default's, by seed: above 0, the default is better."""
    pairs = both(changed, default).values()
    rows = [[score_at(line.curve, share * line.budget) for line in pair] for pair in pairs]
    return bootstrap(np.array(rows), lambda drawn: mean(drawn[:, 0] - drawn[:, 1]))
