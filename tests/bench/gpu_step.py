"""Times training steps: PYTHONPATH=.:tests python tests/bench/gpu_step.py --dataset FOLDER [--tokens N].

In one process, or in several by torchrun. Steps are those of a run: set up, compiled, captured and settled by its own
session, timed by its own stopwatch, which waits for the step before the last. All-reduce and optimizer are marked on
the device within the same steps.
"""

import argparse
import dataclasses
import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from gpu_child import discard, environment_of, parser_of, recipe_of, without_packages, write
from step_checks import gradient_errors

from search.flops import flops_per_token
from trainer.config import Budget
from trainer.environment import Environment
from trainer.fast import FastPaths
from trainer.loop import WARMUP_STEPS, Trainer
from trainer.optim import Optimizer
from trainer.pace import Stopwatch
from trainer.phases import Session
from trainer.schedule import variant_at

TIMED_STEPS = 20
PROFILED_STEPS = 2
SHOWN_KERNELS = 30


class Mark:
    """A moment of the device."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True) if torch.cuda.is_available() else None
        self.seconds = time.perf_counter()
        if self.event is not None:
            self.event.record()

    def until(self, later: "Mark") -> float:
        """Milliseconds from here to a later one, both past."""
        if self.event is None or later.event is None:
            return 1000 * (later.seconds - self.seconds)
        return self.event.elapsed_time(later.event)


@contextmanager
def spans_of(owner: type, method: str) -> Generator[list[tuple[Mark, Mark]]]:
    """Within it, the start and the end of each call of a method are marked on the device."""
    function, spans = getattr(owner, method), list[tuple[Mark, Mark]]()

    def marked(*arguments: Any) -> Any:
        before = Mark()
        result = function(*arguments)
        spans.append((before, Mark()))
        return result

    with patch.object(owner, method, marked):
        yield spans


def settled_trainer(arguments: argparse.Namespace, environment: Environment) -> Trainer:
    """A trainer at the point where a run's clock would start."""
    recipe = without_packages(recipe_of(arguments))
    budget = Budget(train_tokens=recipe.schedule.train_batch_tokens, world_size=environment.world_size)
    session = Session(recipe, budget, environment, Path(), discard, time.perf_counter)
    model, _, _ = session.setup()
    if arguments.without:
        model.take(dataclasses.replace(model.fast, **dict.fromkeys(arguments.without, False)))
    trainer = Trainer(model, recipe, environment, discard)
    if environment.is_compiled:
        trainer.warm_up(WARMUP_STEPS)
    session.settle(trainer)
    return trainer


def timings(trainer: Trainer, progress: float, num_steps: int) -> dict[str, Any]:
    """Milliseconds of steps that start at a progress, of their parts, and their arithmetic on one GPU."""
    laps = list[float]()
    with spans_of(Environment, "average_gradients") as reductions, spans_of(Optimizer, "step") as updates:
        watch = Stopwatch(trainer.environment, time.perf_counter)
        for _ in range(num_steps + 2):
            trainer.step(progress)
            laps.append(watch.lap())
        seconds = watch.stop()
    steps = [1000 * (after - before) for before, after in pairwise(laps)][1:]  # the first lap waits for no step
    recipe, is_looped = trainer.recipe, variant_at(progress, trainer.recipe).is_looped
    tokens = recipe.schedule.train_batch_tokens // trainer.environment.world_size
    return {
        "progress": progress,
        "is_looped": is_looped,
        "ms": median(steps),
        "least_ms": min(steps),
        "most_ms": max(steps),
        "mean_ms": 1000 * seconds / len(laps),
        "all_reduce_ms": median(before.until(after) for before, after in reductions),
        "optimizer_ms": median(before.until(after) for before, after in updates),
        "flops": flops_per_token(recipe, is_looped) * tokens,
    }


def profile(trainer: Trainer, progress: float) -> dict[str, Any]:
    """Milliseconds of a step's kernels, longest first, and of all of them."""
    is_cuda = trainer.environment.device.type == "cuda"
    activity = torch.profiler.ProfilerActivity.CUDA if is_cuda else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profiler:
        for _ in range(PROFILED_STEPS):
            trainer.step(progress)
        trainer.environment.synchronize()
    times = [
        (row.self_device_time_total if is_cuda else row.self_cpu_time_total, row) for row in profiler.key_averages()
    ]
    kernels = [
        {"name": row.key, "ms": microseconds / 1000 / PROFILED_STEPS, "calls": row.count / PROFILED_STEPS}
        for microseconds, row in sorted(times, key=lambda pair: -pair[0])
        if microseconds > 0
    ]
    shown, rest = kernels[:SHOWN_KERNELS], kernels[SHOWN_KERNELS:]
    return {
        "kernels": shown,
        "other_kernels": len(rest),
        "other_ms": sum(kernel["ms"] for kernel in rest),
        "total_ms": sum(kernel["ms"] for kernel in kernels),
    }


def measure(arguments: argparse.Namespace, environment: Environment) -> dict[str, Any]:
    """All that was asked for."""
    start = time.perf_counter()
    trainer = settled_trainer(arguments, environment)
    environment.synchronize()
    warm_up_seconds = time.perf_counter() - start
    num_steps = 2 if arguments.tiny else arguments.steps
    at = [timings(trainer, progress, num_steps) for progress in arguments.at]
    is_cuda = environment.device.type == "cuda"
    result = {
        "recipe": arguments.recipe,
        "parameters": trainer.model.num_parameters,
        "tokens": trainer.recipe.schedule.train_batch_tokens,
        "seq_len": trainer.recipe.schedule.train_seq_len,
        "world_size": environment.world_size,
        "micro_sequences": trainer.micro_sequences,
        "fast": trainer.model.fast.named,
        "warm_up_seconds": warm_up_seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if is_cuda else 0,
        "reserved_bytes": torch.cuda.max_memory_reserved() if is_cuda else 0,
        "at": at,
    }
    if arguments.profile:
        result["profile"] = profile(trainer, arguments.at[-1])
    if arguments.check:
        result["checks"] = [gradient_errors(trainer, progress) for progress in arguments.at]
    return result


def main() -> None:
    """Measure, print a line for each progress, and write the file."""
    parser = parser_of(__doc__)
    names = [field.name for field in dataclasses.fields(FastPaths)]
    parser.add_argument("--at", type=float, nargs="+", default=[0.1], metavar="PROGRESS")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=names, metavar="PATH", help="fast paths not to take"
    )
    parser.add_argument("--steps", type=int, default=TIMED_STEPS, help="timed ones")
    parser.add_argument("--profile", action="store_true", help="also the kernels of a step")
    parser.add_argument("--check", action="store_true", help="also gradients next to float32 ones")
    arguments = parser.parse_args()
    environment = environment_of(arguments)
    result = measure(arguments, environment)
    if environment.is_main:
        for row in result["at"]:
            speed = result["tokens"] / row["ms"] * 1e-3
            print(f"{result['recipe']}, {result['tokens']:,} tokens: {row['ms']:.2f} ms a step, {speed:.4f} M tokens/s")  # noqa: T201
        write(arguments.out, result)
    environment.close()


if __name__ == "__main__":
    main()
