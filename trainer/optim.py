"""Which parameter is trained by which optimizer, and one step of all of them."""

import torch
from torch import nn

from trainer.model import Gpt
from trainer.muon import Muon
from trainer.train_config import OptimConfig


class Optimizer:
    """Muon for block matrices, Adam for the embedding, Adam for vectors and scalars.

    A parameter's group follows from where it lies and its name: tok_emb is the embedding group; two-dimensional
    tensors of blocks are matrices, save resid_mix, which is two vectors; the rest are scalars.
    """

    def __init__(self, model: Gpt, config: OptimConfig) -> None:
        self.config = config
        self.parameters = list(model.parameters())
        device = self.parameters[0].device
        matrices = [parameter for name, parameter in model.named_parameters() if is_matrix(name, parameter)]
        scalars = [p for name, p in model.named_parameters() if name != "tok_emb" and not is_matrix(name, p)]
        newton_schulz_dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.muon = Muon(matrices, config.muon_steps, config.muon_weight_decay, newton_schulz_dtype)
        self.adam = torch.optim.Adam(
            [{"params": [model.tok_emb], "peak_lr": config.embed_lr}, {"params": scalars, "peak_lr": config.scalar_lr}],
            betas=(config.beta1, config.beta2),
            eps=config.adam_eps,
            fused=device.type == "cuda",
        )

    def step(self, lr_scale: float, momentum: float) -> None:
        """Clip, update all parameters from their gradients, and drop the gradients."""
        if self.config.grad_clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip_norm)
        for group in self.adam.param_groups:
            group["lr"] = group["peak_lr"] * lr_scale
        self.adam.step()
        self.muon.step(self.config.matrix_lr * lr_scale, momentum)
        self.zero_grad()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a weight matrix of a block."""
    return name.startswith("blocks.") and parameter.ndim == 2 and not name.endswith("resid_mix")
