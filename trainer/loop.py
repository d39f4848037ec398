"""The training loop: warm-up, steps until the budget is used, averaging."""

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.average import average_of
from trainer.batched import copy_all
from trainer.captured import CapturedPasses, PassKind
from trainer.config import Budget, Recipe
from trainer.environment import Environment
from trainer.errors import DivergedError
from trainer.events import Emit, MicroBatchHalved, TrainStep, WarmupStep
from trainer.loaders import open_loader
from trainer.model import Gpt
from trainer.optim import Optimizer
from trainer.pace import Pace, Stopwatch
from trainer.qat import StoredWeights
from trainer.schedule import Variant, learning_rate_scale, momentum_at, variant_at, variant_starts

MICRO_BATCH_TOKENS = 131_072  # 3 % faster than the challenge's 65,536 on an H100
MICRO_BATCH_ACTIVATIONS = 2**30  # at most, as tokens x passes through layers x width: 15 to 25 GB of an H100's 80
WARMUP_STEPS = 2  # of each variant: compile, choose kernels; eager runs have nothing to warm
SETTLING_STEPS = 3  # more of them just before the clock starts, to capture graphs and fill the allocator
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
        self.micro_sequences = micro_sequences_of(recipe)
        self.passes_run: set[PassKind] = set()
        self.captured: CapturedPasses | None = None

    def step(self, progress: float) -> Tensor:
        """One optimizer step, which starts at a progress; returns this rank's mean loss in nats, on the device."""
        ids_BT, targets_BT = self.loader.next_batch()
        variant = variant_at(progress, self.recipe)
        loss = self.accumulate(ids_BT, targets_BT, variant)
        while loss is None:
            self.optimizer.zero_grad()
            self.micro_sequences = math.ceil(min(self.micro_sequences, len(ids_BT)) / 2)
            self.emit(MicroBatchHalved(sequences=self.micro_sequences))
            if self.captured is not None:
                self.capture_passes()
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
        try:
            with stored_weights or nullcontext():
                for index, (micro_ids, micro_targets) in enumerate(micro_batches):
                    if stored_weights is not None:
                        stored_weights.refresh()
                    share = len(micro_ids) / len(ids_BT)
                    total += self.passed(
                        micro_ids, micro_targets, PassKind(len(micro_ids), variant.is_looped, share, index == 0)
                    )
        except torch.OutOfMemoryError:
            if self.micro_sequences == 1:
                raise
            # The retry happens outside: this exception's frames hold the memory that it needs.
            return None
        return total

    def passed(self, ids_BT: Tensor, targets_BT: Tensor, kind: PassKind) -> Tensor:
        """This pass's share of the step's loss; gradients are left. A kind's first pass is never a graph's replay."""
        if self.captured is not None and kind in self.passes_run:
            return self.captured(ids_BT, targets_BT, kind)
        loss = self.run_pass(ids_BT, targets_BT, kind)
        self.passes_run.add(kind)
        return loss

    def run_pass(self, ids_BT: Tensor, targets_BT: Tensor, kind: PassKind) -> Tensor:
        """The same, kernel by kernel."""
        loss = self.model.loss(ids_BT, targets_BT, kind.is_looped, self.recipe.schedule.document_mask) * kind.share
        loss.backward()
        return loss.detach()

    def capture_passes(self) -> None:
        """Run passes as CUDA graphs from here on; where channels drop out, each pass has random numbers of its own."""
        if self.environment.is_compiled and not self.recipe.model.dropout:
            copies = self.model.copies if self.model.fast.copies else None
            self.captured = CapturedPasses(self.run_pass, self.optimizer.parameters, copies)

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
        self.captured = None
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


def micro_sequences_of(recipe: Recipe) -> int:
    """Sequences of a micro-batch: as many as pay and, beside another run that compiles, fit an H100's memory."""
    tokens = MICRO_BATCH_TOKENS
    while tokens * len(recipe.model.layer_order(True)) * recipe.model.model_dim > MICRO_BATCH_ACTIVATIONS:
        tokens //= 2
    return max(1, tokens // recipe.schedule.train_seq_len)


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
