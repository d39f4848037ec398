"""A simulated machine on which the driver of a study runs the surrogate instead of a trainer.

Runs end when the surrogate's seconds have passed; at each eighth they write their part of the curve to their events, so
that early stop reads what it would read of a real run.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from bench.search_game import Meter, sampled_truths, seconds_of, surrogate
from bench.surrogate import Outcome
from bench.surrogate_space import BUDGETS, CURVE_POINTS, TRAIN_TOKENS, values_of
from simulation import FakeRunner, World, measurement

from search.ledger import Ledger
from search.run import CODE_FILE, EVENTS_FILE, Finished, Progress, Run
from trainer.config import Budget, Recipe
from trainer.result import Failure, Measurement

FIRST_POINT = 4  # eighth of a run from which on the driver looks at its curve: no rule stops a run before


def packed(recipe: Recipe, budget: Budget) -> bytes:
    """Stands in for the bundle: what the simulated trainer reads, in as many bytes as the code of the real runs."""
    text = json.dumps({"values": values_of(recipe), "fidelity": BUDGETS.index(budget)}).encode()
    return text.ljust(surrogate().code_bytes)


@cache
def bpb_per_nat() -> float:
    """Bits per byte of validation text for a nat per token of training loss."""
    return median(truth.pre_quant_val_bpb / truth.curve[-1] for truth in sampled_truths())


def measured(outcome: Outcome, fidelity: int, seed: int) -> Measurement:
    """What the trainer would report of a surrogate's run."""
    code_bytes = surrogate().code_bytes
    return measurement(
        val_bpb=outcome.val_bpb,
        val_loss=outcome.val_bpb / bpb_per_nat(),
        pre_quant_val_bpb=outcome.pre_quant_val_bpb,
        post_quant_val_bpb=outcome.val_bpb,
        artifact_bytes=outcome.artifact_bytes,
        code_bytes=code_bytes,
        weight_bytes=outcome.artifact_bytes - code_bytes,
        train_loss=outcome.curve[-1],
        train_seconds=outcome.train_seconds,
        eval_seconds=outcome.eval_seconds,
        train_tokens=TRAIN_TOKENS[fidelity],
        steps=num_steps(fidelity),
        seed=seed,
    )


def num_steps(fidelity: int) -> int:
    """Not the run's own: it only has to be right for size prediction, which here does not depend on steps."""
    return TRAIN_TOKENS[fidelity] // 2048


@dataclass
class Flight:
    """A run under way.

    Attributes:
        points: eighths of its curve that it has written.
    """

    run: Run
    fidelity: int
    outcome: Outcome
    started_at: float
    ends_at: float
    points: int = 0
    stopped: Failure | None = None

    @property
    def next_at(self) -> float:
        """When it next writes something, or ends."""
        point = max(self.points + 1, FIRST_POINT)
        if self.stopped is not None or point >= CURVE_POINTS:
            return self.ends_at
        return min(self.started_at + self.outcome.train_seconds * point / CURVE_POINTS, self.ends_at)

    def write_points(self, count: int) -> None:
        """Let its events have the curve up to so many eighths."""
        self.points = count
        losses = enumerate(self.outcome.curve[:count], start=1)
        events = [{"event": "TrainStep", "progress": at / CURVE_POINTS, "train_loss": loss} for at, loss in losses]
        text = "".join(json.dumps(event) + "\n" for event in events)
        (self.run.folder / EVENTS_FILE).write_text(text)


class SurrogateRunner(FakeRunner):
    """Runs of the surrogate in simulated time. The clock goes from event to event.

    Args:
        seed: of the game; a run's noise belongs to it, the recipe and the run's own seed.
    """

    def __init__(self, world: World, ledger: Ledger, seed: int) -> None:
        super().__init__(world, ledger)
        self.seed = seed
        self.meter = Meter(now=world.now)
        self.flying: dict[str, Flight] = {}
        self.ended = [0] * len(TRAIN_TOKENS)
        self.num_stopped = 0

    @property
    def free_slots(self) -> int:
        return self.world.slots - len(self.flying)

    def submit(self, run: Run) -> None:
        given = json.loads((run.folder / CODE_FILE).read_bytes())
        seed, fidelity = int(run.environment["SEED"]), given["fidelity"]
        outcome = surrogate().outcome(given["values"], fidelity, self.seed * 1_000_003 + seed)
        assert self.ledger.start(run.run_id, "worker", 17, "fake", self.world.now)
        ends_at = self.world.now + seconds_of(outcome)
        self.flying[run.run_id] = Flight(run, fidelity, outcome, self.world.now, ends_at)

    def wait(self, timeout_seconds: float) -> Sequence[Progress | Finished]:
        """Let time pass until something happens, or so many seconds where nothing runs."""
        after = min((flight.next_at for flight in self.flying.values()), default=self.world.now + timeout_seconds)
        self.meter.pass_until(max(after, self.world.now), len(self.flying))
        self.world.now = self.meter.now
        due = [flight for flight in self.flying.values() if flight.next_at <= self.world.now]
        return [self._end(flight) if flight.ends_at <= self.world.now else self._progress(flight) for flight in due]

    def cancel(self, run_id: str) -> None:
        """End a run now. The ledger has its end already, so nothing is reported."""
        if self.flying.pop(run_id, None) is not None:
            self.num_stopped += 1

    def _progress(self, flight: Flight) -> Progress:
        flight.write_points(max(flight.points + 1, FIRST_POINT))
        values = {"phase": "train", "progress": flight.points / CURVE_POINTS, "train_loss": flight.outcome.curve[-1]}
        return Progress(run_id=flight.run.run_id, values=values)

    def _end(self, flight: Flight) -> Finished:
        run = flight.run
        del self.flying[run.run_id]
        self.ended[flight.fidelity] += 1
        outcome = measured(flight.outcome, flight.fidelity, int(run.environment["SEED"]))
        flight.write_points(CURVE_POINTS)
        return Finished(run_id=run.run_id, outcome=outcome, gpu_seconds=flight.ends_at - flight.started_at)
