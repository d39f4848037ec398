"""The training loop: warm-up, steps until the budget is used, averaging."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.average import Ema
from trainer.batched import copy_all
from trainer.config import Budget, Recipe
from trainer.environment import Environment
from trainer.errors import DivergedError
from trainer.events import Emit, MicroBatchHalved, TrainStep, WarmupStep
from trainer.loaders import open_loader
from trainer.model import Gpt
from trainer.optim import Optimizer
from trainer.schedule import learning_rate_scale, momentum_at

MICRO_BATCH_TOKENS = 65_536  # the challenge's micro-batch; larger ones gain nothing at its shapes
WARMUP_STEPS = 5  # compile, choose kernels, fill the allocator; CPU runs have nothing to warm
SECONDS_BETWEEN_REPORTS = 1.0
FIRST_STEPS_REPORTED = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """How training went.

    Attributes:
        train_loss: nats per token of the last step.
    """

    steps: int
    train_tokens: int
    train_seconds: float
    train_loss: float


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


class Trainer:
    """A model, its optimizer, its data and the micro-batch that fits the device."""

    def __init__(self, model: Gpt, recipe: Recipe, environment: Environment, emit: Emit) -> None:
        self.model, self.recipe, self.environment, self.emit = model, recipe, environment, emit
        schedule = recipe.schedule
        self.loader = open_loader(
            schedule.loader,
            environment.data_path,
            schedule.train_batch_tokens,
            schedule.train_seq_len,
            recipe.model.vocab_size,
            environment.rank,
            environment.world_size,
            environment.device,
            environment.seed,
        )
        self.optimizer = Optimizer(model, recipe.optim)
        self.micro_sequences = max(1, MICRO_BATCH_TOKENS // schedule.train_seq_len)
        self.loss = torch.compile(model.loss, dynamic=False, fullgraph=True) if environment.is_compiled else model.loss

    def step(self, progress: float) -> Tensor:
        """One optimizer step; returns this rank's mean loss in nats, on the device."""
        ids_BT, targets_BT = self.loader.next_batch()
        loss = self.accumulate(ids_BT, targets_BT)
        while loss is None:
            self.optimizer.zero_grad()
            self.micro_sequences = math.ceil(min(self.micro_sequences, len(ids_BT)) / 2)
            self.emit(MicroBatchHalved(sequences=self.micro_sequences))
            torch.cuda.empty_cache()
            loss = self.accumulate(ids_BT, targets_BT)
        gradients = [p.grad for p in self.optimizer.parameters if p.grad is not None]
        self.environment.average_gradients(gradients)
        self.optimizer.step(
            learning_rate_scale(progress, self.recipe.schedule), momentum_at(progress, self.recipe.optim)
        )
        return loss

    def accumulate(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor | None:
        """Gradients of the mean loss over this rank's rows; None where the device's memory did not suffice.

        Raises:
            torch.OutOfMemoryError: one sequence at a time does not fit either.
        """
        total = torch.zeros((), device=self.environment.device)
        micro_batches = zip(ids_BT.split(self.micro_sequences), targets_BT.split(self.micro_sequences), strict=True)
        try:
            for micro_ids, micro_targets in micro_batches:
                loss = self.loss(micro_ids, micro_targets, False, False) * (len(micro_ids) / len(ids_BT))
                loss.backward()
                total += loss.detach()
        except torch.OutOfMemoryError:
            if self.micro_sequences == 1:
                raise
            # The retry happens outside: this exception's frames hold the memory that it needs.
            return None
        return total

    def warm_up(self) -> None:
        """Run a few untimed steps, then restore weights, optimizer and data to their start."""
        if not self.environment.is_compiled:
            return
        initial = [parameter.detach().clone() for parameter in self.optimizer.parameters]
        for step in range(WARMUP_STEPS):
            self.step(0.0)
            self.emit(WarmupStep(step=step + 1, steps=WARMUP_STEPS))
        with torch.no_grad():
            copy_all(self.optimizer.parameters, initial)
        self.optimizer = Optimizer(self.model, self.recipe.optim)
        self.loader.reset()

    def mean_loss(self, loss: Tensor) -> float:
        """A step's loss over all ranks.

        Raises:
            DivergedError: it is not finite.
        """
        value = self.environment.sum_over_ranks([float(loss.item())])[0] / self.environment.world_size
        if not math.isfinite(value):
            raise DivergedError(f"train_loss: expected a finite number, got {value}")
        return value


def train(trainer: Trainer, budget: Budget, reserve_seconds: float, clock: Callable[[], float]) -> Trained:
    """Train until the budget is used; leaves the averaged weights in the model where the recipe averages.

    A budget in seconds is never overrun: a step starts only if one like the slowest of the last few would still end
    in time.

    Args:
        reserve_seconds: kept back from a budget in seconds for quantization.

    Raises:
        DivergedError: a reported loss is not finite.
    """
    recipe = trainer.recipe
    batch_tokens = recipe.schedule.train_batch_tokens
    ema = Ema(trainer.optimizer.parameters, recipe.ema) if recipe.ema else None
    watch = Stopwatch(trainer.environment, clock)
    step, elapsed, started, progress, reported = 0, 0.0, 0.0, 0.0, -SECONDS_BETWEEN_REPORTS
    laps = [0.0]
    loss = torch.zeros(())
    while step == 0 or not is_used_up(budget, reserve_seconds, step * batch_tokens, elapsed, slowest_step(laps)):
        started = progress
        loss = trainer.step(progress)
        step += 1
        elapsed = watch.lap()
        laps.append(elapsed)
        progress = progress_of(budget, reserve_seconds, step * batch_tokens, elapsed)
        if ema is not None:
            ema.update(progress, progress - started)
        if step <= FIRST_STEPS_REPORTED or elapsed - reported >= SECONDS_BETWEEN_REPORTS:
            reported = elapsed
            report(trainer, step, started, progress, elapsed, trainer.mean_loss(loss))
    seconds = watch.stop()
    final_loss = trainer.mean_loss(loss)
    report(trainer, step, started, 1.0, seconds, final_loss)
    if ema is not None:
        ema.copy_to_parameters()
    return Trained(steps=step, train_tokens=step * batch_tokens, train_seconds=seconds, train_loss=final_loss)


def slowest_step(laps: list[float]) -> float:
    """Longest of the last few steps, in seconds, from the times at which steps ended."""
    recent = laps[-6:]
    return max((after - before for before, after in itertools.pairwise(recent)), default=0.0)


def is_used_up(budget: Budget, reserve_seconds: float, tokens: int, elapsed: float, step_seconds: float) -> bool:
    """Whether no further step fits the budget."""
    if budget.train_tokens is not None:
        return tokens >= budget.train_tokens
    # Two steps: the clock runs up to one step behind the device.
    return elapsed + 2 * step_seconds > (budget.train_seconds or 0.0) - reserve_seconds


def progress_of(budget: Budget, reserve_seconds: float, tokens: int, elapsed: float) -> float:
    """Share of the budget used, [0, 1]."""
    if budget.train_tokens is not None:
        return min(tokens / budget.train_tokens, 1.0)
    return min(elapsed / max((budget.train_seconds or 0.0) - reserve_seconds, 1e-9), 1.0)


def report(trainer: Trainer, step: int, started: float, progress: float, elapsed: float, loss: float) -> None:
    """Emit a training step."""
    trainer.emit(
        TrainStep(
            step=step,
            expected_steps=max(step, round(step / max(progress, 1e-9))),
            progress=progress,
            train_loss=loss,
            train_seconds=elapsed,
            tokens_per_second=step * trainer.recipe.schedule.train_batch_tokens / max(elapsed, 1e-9),
            lr_scale=learning_rate_scale(started, trainer.recipe.schedule),
        )
    )
