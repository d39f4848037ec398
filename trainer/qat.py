"""Quantization-aware training: forward and backward passes see the weights as they will be stored.

Parameters change their values for a step's passes and get them back before the optimizer updates them. So

- gradients of the stored weights land on the exact ones, as if rounding were not there (straight through);
- compiled code is the same with and without, is compiled once, and cannot take the switch for a constant (the late
  QAT of PR 315 was such a constant, and nothing was ever rounded);
- rounding is the quantizer's own, where a compiler that fuses it may leave out that steps are fp16.
"""

from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from trainer.batched import copy_all
from trainer.config import Recipe
from trainer.model import Gpt
from trainer.quantize import fake_quantize, storage_of
from trainer.train_config import QatForm


class StoredWeights:
    """Within its context, a model's integer-stored matrices hold their fake-quantized values once refreshed."""

    def __init__(self, model: Gpt, recipe: Recipe) -> None:
        assert recipe.qat is not None
        self.form, self.quant, self.num_layers = recipe.qat.form, recipe.quant, recipe.model.num_layers
        self.parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if storage_of(name, parameter.shape, self.quant, self.num_layers).bits is not None
        }
        self.exact: list[Tensor] = []
        self.is_fresh = False

    def __enter__(self) -> Self:
        """Keep the exact weights."""
        self.exact = [parameter.detach().clone() for parameter in self.parameters.values()]
        self.is_fresh = False
        return self

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the weights those of the next micro-batch: noise is new for each, rounding is the same for all."""
        if self.is_fresh:
            return
        exact = dict(zip(self.parameters, self.exact, strict=True))
        fake = fake_quantize(exact, self.quant, self.num_layers, self.form)
        copy_all(list(self.parameters.values()), [fake[name] for name in self.parameters])
        self.is_fresh = self.form is QatForm.STRAIGHT_THROUGH

    @torch.no_grad()
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the exact weights back."""
        copy_all(list(self.parameters.values()), self.exact)
        self.exact = []
