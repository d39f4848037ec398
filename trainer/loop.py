"""The training loop: warm-up, steps until the budget is used, averaging."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.average import average_of
from trainer.batched import copy_all
from trainer.config import Budget, Recipe
from trainer.environment import Environment
from trainer.errors import DivergedError
from trainer.events import Emit, MicroBatchHalved, TrainStep, WarmupStep
from trainer.loaders import open_loader
from trainer.model import Gpt
from trainer.optim import Optimizer
from trainer.qat import StoredWeights
from trainer.schedule import Variant, learning_rate_scale, momentum_at, slowdown, variant_at, variant_starts

MICRO_BATCH_TOKENS = 65_536  # the challenge's micro-batch; larger ones gain nothing at its shapes
WARMUP_STEPS = 2  # of each variant: compile, choose kernels; eager runs have nothing to warm
SETTLING_STEPS = 3  # more of them just before the clock starts, to fill the allocator
SECONDS_BETWEEN_REPORTS = 1.0
FIRST_STEPS_REPORTED = 10
RECENT_STEPS = 5  # whose longest stands for the next


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


class Trainer:
    """A model, its optimizer, its data and the micro-batch that fits the device. The model is in training mode."""

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
        model.train()
        self.optimizer = Optimizer(model, recipe.optim)
        self.stored_weights = StoredWeights(model, recipe) if recipe.qat else None
        self.micro_sequences = max(1, MICRO_BATCH_TOKENS // schedule.train_seq_len)
        self.loss: Callable[[Tensor, Tensor, bool, bool], Tensor] = model.loss

    def step(self, progress: float) -> Tensor:
        """One optimizer step, which starts at a progress; returns this rank's mean loss in nats, on the device."""
        ids_BT, targets_BT = self.loader.next_batch()
        variant = variant_at(progress, self.recipe)
        loss = self.accumulate(ids_BT, targets_BT, variant)
        while loss is None:
            self.optimizer.zero_grad()
            self.micro_sequences = math.ceil(min(self.micro_sequences, len(ids_BT)) / 2)
            self.emit(MicroBatchHalved(sequences=self.micro_sequences))
            torch.cuda.empty_cache()
            loss = self.accumulate(ids_BT, targets_BT, variant)
        gradients = [p.grad for p in self.optimizer.parameters if p.grad is not None]
        self.environment.average_gradients(gradients)
        self.optimizer.step(
            learning_rate_scale(progress, self.recipe.schedule), momentum_at(progress, self.recipe.optim)
        )
        return loss

    def accumulate(self, ids_BT: Tensor, targets_BT: Tensor, variant: Variant) -> Tensor | None:
        """Gradients of the mean loss over this rank's rows; None where the device's memory did not suffice.

        Raises:
            torch.OutOfMemoryError: one sequence at a time does not fit either.
        """
        total = torch.zeros((), device=self.environment.device)
        micro_batches = zip(ids_BT.split(self.micro_sequences), targets_BT.split(self.micro_sequences), strict=True)
        stored_weights = self.stored_weights if variant.is_quantized else None
        document_mask = self.recipe.schedule.document_mask
        try:
            with stored_weights or nullcontext():
                for micro_ids, micro_targets in micro_batches:
                    if stored_weights is not None:
                        stored_weights.refresh()
                    loss = self.loss(micro_ids, micro_targets, variant.is_looped, document_mask)
                    loss = loss * (len(micro_ids) / len(ids_BT))
                    loss.backward()
                    total += loss.detach()
        except torch.OutOfMemoryError:
            if self.micro_sequences == 1:
                raise
            # The retry happens outside: this exception's frames hold the memory that it needs.
            return None
        return total

    def warm_up(self, steps: int) -> None:
        """Run untimed steps of each variant, then restore weights, optimizer, data and random numbers."""
        initial = [parameter.detach().clone() for parameter in self.optimizer.parameters]
        progresses = [start for start in variant_starts(self.recipe) for _ in range(steps)]
        try:
            with torch.random.fork_rng([self.environment.device] if self.environment.device.type == "cuda" else []):
                for index, progress in enumerate(progresses):
                    self.step(progress)
                    self.emit(WarmupStep(step=index + 1, steps=len(progresses)))
        finally:
            with torch.no_grad():
                copy_all(self.optimizer.parameters, initial)
            self.optimizer.zero_grad()
            self.optimizer = Optimizer(self.model, self.recipe.optim)
            self.loader.reset()

    def release_memory(self) -> None:
        """Give the device's memory back that only training needs; further steps start without momentum."""
        self.optimizer = Optimizer(self.model, self.recipe.optim)
        torch.cuda.empty_cache()

    def calibration_batches(self, tokens: int) -> Iterator[Tensor]:
        """This rank's share of the next tokens of training text, as micro-batches (B, T) of ids; at least one row."""
        rows = math.ceil(tokens / self.recipe.schedule.train_seq_len / self.environment.world_size)
        while rows > 0:
            ids_BT = self.loader.next_batch()[0][:rows]
            yield from ids_BT.split(self.micro_sequences)
            rows -= len(ids_BT)

    def mean_loss(self, loss: Tensor) -> float:
        """A step's loss over all ranks.

        Raises:
            DivergedError: it is not finite.
        """
        value = self.environment.sum_over_ranks([float(loss.item())])[0] / self.environment.world_size
        if not math.isfinite(value):
            raise DivergedError(f"train_loss: expected a finite number, got {value}")
        return value


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


def train(trainer: Trainer, budget: Budget, reserve_seconds: float, clock: Callable[[], float]) -> Trained:
    """Train until the budget is used; leaves the averaged weights in the model where the recipe averages.

    A budget in seconds is never overrun: a step starts only if one like the slowest of the last few would still end
    in time, or a slower one where loops or quantization go on. The model is in evaluation mode afterwards.

    Args:
        reserve_seconds: kept back from a budget in seconds for quantization.

    Raises:
        DivergedError: a reported loss is not finite.
    """
    recipe = trainer.recipe
    batch_tokens = recipe.schedule.train_batch_tokens
    average = average_of(trainer.optimizer.parameters, recipe)
    watch = Stopwatch(trainer.environment, clock)
    pace = Pace(recipe, watch.steps_behind)
    step, elapsed, started, progress, reported = 0, 0.0, 0.0, 0.0, -SECONDS_BETWEEN_REPORTS
    loss = torch.zeros(())
    while step == 0 or not is_used_up(budget, reserve_seconds, step * batch_tokens, pace, progress):
        started = progress
        loss = trainer.step(progress)
        step += 1
        elapsed = watch.lap()
        pace.record(started, elapsed)
        progress = progress_of(budget, reserve_seconds, step * batch_tokens, elapsed)
        if average is not None:
            average.update(progress, progress - started)
        if step <= FIRST_STEPS_REPORTED or elapsed - reported >= SECONDS_BETWEEN_REPORTS:
            reported = elapsed
            report(trainer, step, started, progress, elapsed, trainer.mean_loss(loss))
    if average is not None:
        average.copy_to_parameters()
    seconds = watch.stop()
    final_loss = trainer.mean_loss(loss)
    report(trainer, step, started, 1.0, seconds, final_loss)
    trainer.model.eval()
    return Trained(steps=step, train_tokens=step * batch_tokens, train_seconds=seconds, train_loss=final_loss)


def is_used_up(budget: Budget, reserve_seconds: float, tokens: int, pace: Pace, progress: float) -> bool:
    """Whether no further step fits the budget."""
    if budget.train_tokens is not None:
        return tokens >= budget.train_tokens
    # Two steps: the clock runs up to one step behind the device.
    return pace.elapsed + 2 * pace.step_seconds(progress) > (budget.train_seconds or 0.0) - reserve_seconds


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
