"""Averages of the weights over training."""

import torch
from torch import Tensor, nn

from trainer.batched import copy_all, move_all
from trainer.config import Recipe
from trainer.train_config import EmaConfig, SwaConfig


class Ema:
    """Exponential moving average of parameters, float32 and on their device.

    The decay of a step follows from the progress it made, so that a proxy and a full run average over the same share
    of themselves.
    """

    def __init__(self, parameters: list[nn.Parameter], config: EmaConfig) -> None:
        self.parameters, self.config = parameters, config
        self.shadow: list[Tensor] | None = None

    @torch.no_grad()
    def update(self, progress: float, step_progress: float) -> None:
        """Take in the weights after a step that made step_progress and ended at progress."""
        if progress < self.config.start_fraction:
            return
        if self.shadow is None:
            self.shadow = [parameter.detach().clone() for parameter in self.parameters]
            return
        decay = 0.5 ** (step_progress / self.config.half_life_fraction)
        move_all(self.shadow, self.parameters, 1.0 - decay)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Replace the weights by their average, if averaging has started."""
        if self.shadow is not None:
            copy_all(self.parameters, self.shadow)


class Swa:
    """Plain average of checkpoints of parameters, float32 and on their device (PR 162).

    Checkpoints are taken after the first step that ends at or beyond start_fraction + k * every_fraction, for each k,
    and always at the end of the run. So a run too short for any other keeps its weights, and a large every_fraction
    does not leave the end of training out.

    Kept as a running mean, not as a sum: a sum of n checkpoints has log2 n bits less for what they differ in.
    """

    def __init__(self, parameters: list[nn.Parameter], config: SwaConfig) -> None:
        self.parameters, self.config = parameters, config
        self.mean: list[Tensor] = []
        self.num_checkpoints = 0
        self.next_checkpoint = config.start_fraction
        self.holds_last = False

    def update(self, progress: float, step_progress: float) -> None:
        """Take in the weights after a step that ended at progress, if a checkpoint is due."""
        self.holds_last = progress >= self.next_checkpoint
        if self.holds_last:
            self.take()
            start, every = self.config.start_fraction, self.config.every_fraction
            self.next_checkpoint = start + every * ((progress - start) // every + 1)

    @torch.no_grad()
    def take(self) -> None:
        """Take in the weights."""
        self.num_checkpoints += 1
        if self.num_checkpoints == 1:
            self.mean = [parameter.detach().clone() for parameter in self.parameters]
        else:
            move_all(self.mean, self.parameters, 1.0 / self.num_checkpoints)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Replace the weights by the average of all checkpoints and of themselves."""
        if not self.holds_last:
            self.take()
        copy_all(self.parameters, self.mean)


def average_of(parameters: list[nn.Parameter], recipe: Recipe) -> Ema | Swa | None:
    """The average a recipe asks for."""
    if recipe.ema is not None:
        return Ema(parameters, recipe.ema)
    return Swa(parameters, recipe.swa) if recipe.swa is not None else None
