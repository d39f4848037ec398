"""What a study has spent, by the table of runs, and whether a further run still fits what it may cost.

Everything is read off the table anew, so it holds over restarts and whoever drives the study. A run starts only if its
projected cost fits beside what was spent, what the runs under way are still to take, and what later rungs are to get.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from search.errors import SpecError
from search.promotion_rule import num_runs
from search.run_record import RunRecord
from search.spec import RungSpec, StudySpec
from trainer.result import Failure, FailureKind, Measurement

OVERHEAD_SECONDS = (
    130.0  # of a run beside its training: start-up, compilation, scoring; measured 51 to 126 s on an H100
)
LONGEST_SHARE = 0.9  # a run is projected to take as long as this share of those before it did at most
HOUR = 3600.0
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """What something costs.

    Attributes:
        gpu_hours: hours of processes on a machine without GPUs.
        dollars: 0 where the accelerator has no price.
        hours: of wall-clock time.
    """

    gpu_hours: float = 0.0
    dollars: float = 0.0
    hours: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        """Both, one after the other."""
        return Amount(
            gpu_hours=self.gpu_hours + other.gpu_hours,
            dollars=self.dollars + other.dollars,
            hours=self.hours + other.hours,
        )

    def times(self, runs: int, at_a_time: int = 1) -> "Amount":
        """So many of it, some of them side by side."""
        return Amount(
            gpu_hours=self.gpu_hours * runs,
            dollars=self.dollars * runs,
            hours=self.hours * math.ceil(runs / at_a_time),
        )


class Spending:
    """A study's costs as they stand.

    Args:
        records: all runs of the study.
        now: epoch seconds.
    """

    def __init__(self, spec: StudySpec, records: Sequence[RunRecord], now: float) -> None:
        self._spec = spec
        self._rungs = {rung.name: rung for rung in spec.rungs}
        self._records = [one for one in records if one.rung in self._rungs]
        self._now = now

    def spent(self) -> Amount:
        """What the runs so far have taken, those under way until now; hours are those in which any was under way."""
        gpu_hours = [(one, self._taken_seconds(one) / HOUR) for one in self._records]
        return Amount(
            gpu_hours=sum(hours for _, hours in gpu_hours),
            dollars=sum(hours * self._price(self._rungs[one.rung]) for one, hours in gpu_hours),
            hours=_covered((one.started_at, self._end(one)) for one in self._records if one.started_at) / HOUR,
        )

    def committed(self) -> Amount:
        """What the runs under way will take from now on; hours are those of the longest."""
        gpu_hours = dollars = hours = 0.0
        for one in self._records:
            if not one.state.is_final:
                whole = self.cost_of(self._rungs[one.rung])
                more = max(whole.gpu_hours - self._taken_seconds(one) / HOUR, 0.0)
                gpu_hours += more
                dollars += more * self._price(self._rungs[one.rung])
                passed = 0.0 if one.started_at is None else (self._end(one) - one.started_at) / HOUR
                hours = max(hours, whole.hours - passed)
        return Amount(gpu_hours=gpu_hours, dollars=dollars, hours=hours)

    def cost_of(self, rung: RungSpec) -> Amount:
        """What a further run of a rung is projected to take."""
        known = self._known_cost(rung)
        if known is not None:
            return known
        seconds = self._spec.limits.train_seconds + OVERHEAD_SECONDS
        return self._amount(rung, seconds * rung.budget.world_size, seconds)

    def owed(self, rung: RungSpec) -> int:
        """How many runs a later rung is still to get; of a fallback, none before its first."""
        if rung.fallback and not self._num_started(rung):
            return 0
        planned = num_runs(rung.promote or 0, len(rung.seeds), self._spec.promotion.rule)
        return max(planned - self._num_started(rung), 0)

    def reserved(self, rung: RungSpec) -> Amount:
        """What the rungs after one are still to get; nothing for those whose cost nothing is known of yet."""
        total = Amount()
        for later in self._spec.rungs[self._spec.rungs.index(rung) + 1 :]:
            cost = self._known_cost(later)
            if cost is not None:
                total += cost.times(self.owed(later), self._lanes(later))
        return total

    def left(self) -> dict[str, float]:
        """What of each bound is left, by its key; runs under way will take some of it."""
        spent = asdict(self.spent())
        return {key: bound - spent[key] for key, bound in self._spec.spend.bounds().items()}

    def num_affordable(self, rung: RungSpec) -> int:
        """How many further runs of a rung fit what is left, one after the other."""
        cost = asdict(self.cost_of(rung))
        fits = [math.floor(max(left, 0.0) / cost[key] + ROUNDING) for key, left in self.left().items() if cost[key]]
        return min(fits, default=0)

    def refusal(self, rung: RungSpec) -> str | None:
        """Why no further run of a rung may start; None where one may."""
        return None if self.is_probe(rung) else self._shortage(rung)

    def is_probe(self, rung: RungSpec) -> bool:
        """Whether a run of a rung may start although its deadline does not fit: it is to tell what its runs take.

        Where a rung has tokens to train on, nothing else can. Such a run starts alone and has what is left; where that
        was too little for one, no other starts.
        """
        is_projected = rung.budget.train_tokens is None or self._finished(rung) or self._scaled_cost(rung) is not None
        is_alone = all(one.state.is_final for one in self._records)
        was_cut = any(
            isinstance(one.outcome, Failure) and one.outcome.kind is FailureKind.DEADLINE for one in self._of(rung)
        )
        may_probe = is_alone and not is_projected and not was_cut and min(self.left().values(), default=0.0) > 0
        return may_probe and self._shortage(rung) is not None

    def seconds_left(self, rung: RungSpec) -> float:
        """How long a run of a rung may take until a bound is reached, were it the only one."""
        second = asdict(self._amount(rung, float(rung.budget.world_size), 1.0))
        return min((max(left, 0.0) / second[key] for key, left in self.left().items()), default=math.inf)

    def _shortage(self, rung: RungSpec) -> str | None:
        """What a further run of a rung would exceed, by what it is projected to take; None where it fits."""
        if not self._spec.spend.bounds():
            return None
        committed, cost, reserved = self.committed(), self.cost_of(rung), self.reserved(rung)
        side_by_side = max(committed.hours, cost.hours)
        for key, left in self.left().items():
            own = side_by_side if key == "hours" else getattr(committed, key) + getattr(cost, key)
            if own + getattr(reserved, key) > left + ROUNDING:
                return _refusal(key, rung.name, getattr(cost, key), getattr(reserved, key), left)
        return None

    def _known_cost(self, rung: RungSpec) -> Amount | None:
        """By the rung's own runs; else by its budget in seconds, or by another rung's runs and the tokens of both.

        Its deadline is the most that it can be; where nothing is known, a study file's own is taken for it.
        """
        finished = self._finished(rung)
        if finished:
            seconds = [self._end(one) - (one.started_at or 0.0) for one in finished]
            return self._amount(rung, _longest([one.gpu_seconds for one in finished]), _longest(seconds))
        bounds = [rung.max_run_seconds] if rung.max_run_seconds is not None else []
        if rung.budget.train_seconds is not None:
            bounds.append(rung.budget.train_seconds + OVERHEAD_SECONDS)
        longest = self._amount(rung, min(bounds) * rung.budget.world_size, min(bounds)) if bounds else None
        scaled = self._scaled_cost(rung)
        return min((one for one in (longest, scaled) if one is not None), key=lambda one: one.hours, default=None)

    def _scaled_cost(self, rung: RungSpec) -> Amount | None:
        tokens = rung.budget.train_tokens
        if tokens is None:
            return None
        others = [one for one in self._spec.rungs if one.budget.train_tokens is not None and self._finished(one)]
        if not others:
            return None
        nearest = min(others, key=lambda one: abs(math.log(tokens / (one.budget.train_tokens or 1))))
        longest = _longest([one.gpu_seconds for one in self._finished(nearest)])
        gpu_seconds = longest * max(tokens / (nearest.budget.train_tokens or 1), 1.0)  # a start takes what it takes
        return self._amount(rung, gpu_seconds, gpu_seconds / rung.budget.world_size)

    def _amount(self, rung: RungSpec, gpu_seconds: float, seconds: float) -> Amount:
        gpu_hours = gpu_seconds / HOUR
        return Amount(gpu_hours=gpu_hours, dollars=gpu_hours * self._price(rung), hours=seconds / HOUR)

    def _price(self, rung: RungSpec) -> float:
        return self._spec.spend.prices.get(rung.price_key, 0.0)

    def _of(self, rung: RungSpec) -> list[RunRecord]:
        return [one for one in self._records if one.rung == rung.name]

    def _finished(self, rung: RungSpec) -> list[RunRecord]:
        return [one for one in self._of(rung) if isinstance(one.outcome, Measurement)]

    def _num_started(self, rung: RungSpec) -> int:
        """Runs that need no repetition."""
        return sum(
            not isinstance(one.outcome, Failure) or one.outcome.kind.is_caused_by_recipe for one in self._of(rung)
        )

    def _taken_seconds(self, one: RunRecord) -> float:
        return one.gpu_seconds if one.state.is_final else one.held_seconds(self._end(one), self._records)

    def _end(self, one: RunRecord) -> float:
        return one.end_at(self._now)

    def _lanes(self, rung: RungSpec) -> int:
        """How many runs of a rung fit on what the study's runs held at most at a time."""
        held = [(one.started_at, one.num_gpus or one.world_size, self._end(one)) for one in self._records]
        steps = [(start, size) for start, size, _ in held if start] + [
            (end, -size) for start, size, end in held if start
        ]
        peak = level = 0.0
        for _, change in sorted(steps):
            level += change
            peak = max(peak, level)
        return max(math.floor(peak / rung.budget.world_size + ROUNDING), 1)


def refuse_unaffordable(spec: StudySpec) -> None:
    """Refuse a study of which not even the first run fits.

    Raises:
        SpecError: what is set aside for it is too little.
    """
    refusal = Spending(spec, [], 0.0).refusal(spec.rungs[0])
    if refusal is not None:
        raise SpecError(f"study {spec.name}: must be able to afford its first run, but {refusal}")


def _refusal(key: str, rung: str, cost: float, reserved: float, left: float) -> str:
    aside = f" and {word(key, reserved)} set aside for later rungs" if reserved else ""
    return f"spend.{key}: a run of {rung} takes about {word(key, cost)}{aside}, with {word(key, max(left, 0.0))} left"


def word(key: str, value: float) -> str:
    """An amount by its key in a study file, with its unit."""
    if key == "dollars":
        return f"${value:,.2f}"
    return f"{value:.3g} GPU-hours" if key == "gpu_hours" else f"{value:.3g} hours"


def _longest(values: Sequence[float]) -> float:
    """What LONGEST_SHARE of the values do not exceed; the largest of fewer than ten."""
    return sorted(values)[min(math.ceil(LONGEST_SHARE * (len(values) + 1)), len(values)) - 1]


def _covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
