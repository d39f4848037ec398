"""The training loop: switches that act in compiled code, warm-up that leaves no trace, seconds never overrun."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from trainer_on_cpu import LOOP, TINY, environment_of, lively_model, trainer_of, write_tokens

from trainer.config import Budget, Recipe
from trainer.environment import Environment
from trainer.events import Event, WarmupStep
from trainer.gptq import collect_hessians
from trainer.loop import Trainer, train
from trainer.pace import Stopwatch
from trainer.schedule import slowdown, variant_at
from trainer.train_config import Loader, QatConfig, QatForm, SwaConfig

LOOPED = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, loop=LOOP))
LATE_QAT = dataclasses.replace(TINY, qat=QatConfig(start_fraction=0.5))
EVERYTHING = dataclasses.replace(
    TINY,
    model=dataclasses.replace(TINY.model, loop=LOOP, dropout=0.2),
    schedule=dataclasses.replace(TINY.schedule, loader=Loader.SHUFFLED),
    qat=QatConfig(form=QatForm.NOISE, start_fraction=0.75),
    swa=SwaConfig(start_fraction=0.6, every_fraction=0.1),
)


def gradients_at(trainer: Trainer, batch: tuple[Tensor, Tensor], progress: float) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a batch at a progress."""
    loss = trainer.accumulate(*batch, variant_at(progress, trainer.recipe))
    assert loss is not None
    gradients = [parameter.grad for parameter in trainer.optimizer.parameters if parameter.grad is not None]
    trainer.optimizer.zero_grad()
    return loss, gradients


@pytest.mark.parametrize("recipe", [LOOPED, LATE_QAT], ids=["loops", "late_qat"])
def test_a_switch_acts_in_compiled_code(tmp_path: Path, recipe: Recipe) -> None:
    """Traced before the switch, code that holds it as a constant would go on without it."""
    write_tokens(tmp_path)
    eager, compiled = trainer_of(tmp_path, recipe), trainer_of(tmp_path, recipe)
    compiled.model.loss = torch.compile(compiled.model.loss, backend="eager", fullgraph=True, dynamic=False)
    batch = eager.loader.next_batch()
    losses: list[float] = []
    for progress in (0.0, 0.49, 0.5, 1.0):
        expected_loss, expected = gradients_at(eager, batch, progress)
        loss, gradients = gradients_at(compiled, batch, progress)
        losses.append(float(loss))
        assert torch.equal(loss, expected_loss)
        assert all(torch.equal(got, wanted) for got, wanted in zip(gradients, expected, strict=True))
    assert losses[0] == losses[1] != losses[2] == losses[3]


def test_loops_train_what_scoring_uses(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    trainer = trainer_of(tmp_path, LOOPED)
    ids, targets = trainer.loader.next_batch()
    loss, _ = gradients_at(trainer, (ids, targets), 0.5)
    torch.testing.assert_close(loss, trainer.model.token_losses(ids, targets, 16, False).mean().detach())


def test_a_run_after_warm_up_equals_one_without_bit_for_bit(tmp_path: Path) -> None:
    """Three variants, dropout, noise and a random order of data: any of them would show what warm-up left."""
    write_tokens(tmp_path)
    results: list[tuple[list[Tensor], float]] = []
    events: list[Event] = []
    for is_warm in (False, True):
        torch.manual_seed(0)
        trainer = trainer_of(tmp_path, EVERYTHING, events)
        if is_warm:
            trainer.warm_up(2)
        trained = train(trainer, Budget(train_tokens=12 * 64), 0.0, lambda: 0.0)
        results.append(([parameter.detach() for parameter in trainer.model.parameters()], trained.train_loss))
    assert results[0][1] == results[1][1]
    assert all(torch.equal(cold, warm) for cold, warm in zip(results[0][0], results[1][0], strict=True))
    warm_steps = [event.step for event in events if isinstance(event, WarmupStep)]
    assert warm_steps == [1, 2, 3, 4, 5, 6]


def test_every_variant_is_warmed_up(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    trainer = trainer_of(tmp_path, EVERYTHING)
    seen: list[tuple[bool, bool]] = []
    real_loss, exact = trainer.model.loss, trainer.model.tok_emb

    def watched_loss(ids_BT: Tensor, targets_BT: Tensor, is_looped: bool, document_mask: bool) -> Tensor:
        is_noisy = trainer.stored_weights is not None and len(trainer.stored_weights.exact) > 0
        seen.append((is_looped, is_noisy))
        return real_loss(ids_BT, targets_BT, is_looped, document_mask)

    trainer.model.loss = watched_loss
    trainer.warm_up(2)
    assert trainer.model.tok_emb is exact
    assert seen == [(False, False)] * 2 + [(True, False)] * 2 + [(True, True)] * 2


def test_nothing_is_compiled_while_the_clock_runs(tmp_path: Path) -> None:
    """Not for a variant, nor because Hessians were gathered between, nor for swapped weights."""
    write_tokens(tmp_path)
    trainer = trainer_of(tmp_path, EVERYTHING)
    trainer.model.loss = torch.compile(trainer.model.loss, backend="eager", fullgraph=True, dynamic=False)
    trainer.warm_up(2)
    collect_hessians(trainer.model, trainer.calibration_batches(64), document_mask=False)
    trainer.loader.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):  # pyright: ignore[reportPrivateUsage]
        train(trainer, Budget(train_tokens=8 * 64), 0.0, lambda: 0.0)


def test_dropout_acts_in_training_and_nowhere_else(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    trainer = trainer_of(tmp_path, EVERYTHING)
    batch = trainer.loader.next_batch()
    assert float(gradients_at(trainer, batch, 0.0)[0]) != float(gradients_at(trainer, batch, 0.0)[0])
    train(trainer, Budget(train_tokens=64), 0.0, lambda: 0.0)
    assert torch.equal(*(trainer.model.loss(*batch, False, False) for _ in range(2)))


def test_swa_leaves_the_mean_of_its_checkpoints_in_the_model(tmp_path: Path) -> None:
    write_tokens(tmp_path)
    averaged = trainer_of(tmp_path, dataclasses.replace(TINY, swa=SwaConfig(start_fraction=0.5, every_fraction=0.25)))
    train(averaged, Budget(train_tokens=4 * 64), 0.0, lambda: 0.0)
    plain = trainer_of(tmp_path, TINY)
    checkpoints: list[Tensor] = []
    for step in range(4):
        plain.step(step / 4)
        checkpoints.append(plain.model.tok_emb.detach().clone())
    torch.testing.assert_close(averaged.model.tok_emb.detach(), torch.stack(checkpoints[1:]).mean(dim=0))


@pytest.mark.parametrize("world_size", [1, 2])
def test_calibration_reads_the_text_after_the_last_step(tmp_path: Path, world_size: int) -> None:
    tokens = write_tokens(tmp_path)
    read: list[np.ndarray] = []
    environments = [environment_of(tmp_path, rank, world_size) for rank in range(world_size)]
    trainers = [Trainer(lively_model(TINY.model), TINY, environment, [].append) for environment in environments]
    for trainer in trainers:
        for _ in range(3):
            trainer.loader.next_batch()
        trainer.micro_sequences = 3
        batches = list(trainer.calibration_batches(128))
        assert max(len(batch) for batch in batches) <= 3
        read.append(torch.cat(batches).numpy())
    # Global batches 3 and 4, each rank its part of the rows of both.
    rows = np.concatenate([part.reshape(2, -1, 16) for part in read], axis=1)
    assert rows.flatten().tolist() == tokens[3 * 64 : 5 * 64].tolist()
    assert sum(len(batch) for batch in trainers[0].calibration_batches(1)) == 1


class Device:
    """A device on which steps take time, and its clock, which may run a step behind until synchronized."""

    def __init__(self, is_behind: bool) -> None:
        self.is_behind, self.is_synchronized = is_behind, True
        self.ends = [0.0]

    def work(self, seconds: float) -> None:
        """A step."""
        self.ends.append(self.ends[-1] + seconds)
        self.is_synchronized = False

    def synchronize(self) -> None:
        """Wait for all steps."""
        self.is_synchronized = True

    def clock(self) -> float:
        """Seconds until the last step that was waited for."""
        return self.ends[-2] if self.is_behind and not self.is_synchronized else self.ends[-1]


@pytest.mark.parametrize("is_behind", [False, True])
@pytest.mark.parametrize("start", [0.05, 0.5, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99])
@pytest.mark.parametrize("num_steps", [8.0, 20.3, 57.7])
def test_seconds_are_never_overrun_whenever_steps_get_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_behind: bool, start: float, num_steps: float
) -> None:
    """Three layers become five passes and rounding doubles a step, both at once and as late as may be."""
    write_tokens(tmp_path)
    device = Device(is_behind)
    model = dataclasses.replace(TINY.model, loop=dataclasses.replace(LOOP, start_fraction=start))
    recipe = dataclasses.replace(TINY, model=model, qat=QatConfig(start_fraction=start))
    trainer = trainer_of(tmp_path, recipe)
    plain = variant_at(0.0, recipe)

    def timed_step(progress: float) -> Tensor:
        device.work(slowdown(plain, variant_at(progress, recipe), recipe))
        return torch.zeros(())

    monkeypatch.setattr(trainer, "step", timed_step)
    monkeypatch.setattr(Environment, "synchronize", lambda _: device.synchronize())
    monkeypatch.setattr(Stopwatch, "steps_behind", int(is_behind))
    budget = Budget(train_seconds=num_steps)
    trained = train(trainer, budget, 0.0, device.clock)
    slowest = slowdown(plain, variant_at(1.0, recipe), recipe)
    assert trained.train_seconds == device.ends[-1] <= num_steps
    assert trained.train_seconds > num_steps - 2 * slowest - 1e-9
