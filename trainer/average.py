"""Averages of the weights over training."""

import torch
from torch import Tensor, nn

from trainer.batched import copy_all, move_all
from trainer.train_config import EmaConfig


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
