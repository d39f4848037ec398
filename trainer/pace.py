"""Time of training: how much has passed, and whether another step fits."""

from collections.abc import Callable

import torch

from trainer.config import Recipe
from trainer.environment import Environment
from trainer.schedule import Variant, slowdown, variant_at

RECENT_STEPS = 5  # whose longest stands for the next


class Stopwatch:
    """Seconds of device work since it was made, agreed on by all ranks, never more than one step behind the device.

    Waiting for the step before the last keeps the host one step ahead, so the device never idles for the clock.
    """

    def __init__(self, environment: Environment, clock: Callable[[], float]) -> None:
        self.environment, self.clock = environment, clock
        self.pending: torch.cuda.Event | None = None
        environment.synchronize()
        environment.barrier()
        self.start = clock()

    @property
    def steps_behind(self) -> int:
        """How many steps a lap's time runs behind: on a GPU it is the end of the step before."""
        return 1 if self.environment.device.type == "cuda" else 0

    def lap(self) -> float:
        """Seconds so far, to be read once a step."""
        if self.environment.device.type == "cuda":
            if self.pending is not None:
                self.pending.synchronize()
            self.pending = torch.cuda.Event()
            self.pending.record()
        return self.environment.agree(self.clock() - self.start)

    def stop(self) -> float:
        """Seconds in all, once the device has finished."""
        self.environment.synchronize()
        return self.environment.agree(self.clock() - self.start)


class Pace:
    """How long steps take, so that one starts only where it will end in time.

    Args:
        steps_behind: how many steps the clock of the laps runs behind.
    """

    def __init__(self, recipe: Recipe, steps_behind: int) -> None:
        self.recipe, self.steps_behind = recipe, steps_behind
        self.elapsed = 0.0
        self.variants: list[Variant] = []
        self.laps: list[tuple[float, Variant]] = []

    def record(self, started: float, elapsed: float) -> None:
        """Take in a step that started at a progress, and the time after it."""
        self.variants.append(variant_at(started, self.recipe))
        measured = self.variants[max(0, len(self.variants) - 1 - self.steps_behind)]
        self.laps.append((elapsed - self.elapsed, measured))
        self.elapsed = elapsed

    def step_seconds(self, progress: float) -> float:
        """The longest of the last few steps, had it been one of the variant that starts at a progress."""
        variant = variant_at(progress, self.recipe)
        recent = self.laps[-RECENT_STEPS:]
        return max((seconds * slowdown(before, variant, self.recipe) for seconds, before in recent), default=0.0)
