"""Which parameter is trained by which optimizer, and one step of all of them."""

import torch
from torch import nn

from trainer.model import Gpt
from trainer.muon import Muon
from trainer.train_config import OptimConfig


class Optimizer:
    """Muon for matrices, AdamW for token tables, AdamW for vectors and scalars.

    A parameter's group follows from its name: tok_emb and *.table are token tables, *.weight matrices, the rest
    vectors and scalars, gates of attention among them.
    """

    def __init__(self, model: Gpt, config: OptimConfig) -> None:
        self.config = config
        self.parameters = list(model.parameters())
        device = self.parameters[0].device
        named = list(model.named_parameters())
        tables = [parameter for name, parameter in named if is_table(name)]
        matrices = [parameter for name, parameter in named if is_matrix(name)]
        scalars = [parameter for name, parameter in named if not (is_table(name) or is_matrix(name))]
        newton_schulz_dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.muon = Muon(matrices, config, newton_schulz_dtype, model.fast.muon)
        self.adam = torch.optim.AdamW(
            [
                {"params": tables, "peak_lr": config.embed_lr, "weight_decay": config.embed_weight_decay},
                {"params": scalars, "peak_lr": config.scalar_lr, "weight_decay": config.scalar_weight_decay},
            ],
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
        # Fused Adam changes weights without saying so, and copies of them are made anew only where something says so.
        torch.autograd.graph.increment_version([p for group in self.adam.param_groups for p in group["params"]])
        self.muon.step(self.config.matrix_lr * lr_scale, momentum)
        self.zero_grad()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None


def is_table(name: str) -> bool:
    """Whether a parameter has a row a token, pair of tokens or the like."""
    return name == "tok_emb" or name.endswith(".table")


def is_matrix(name: str) -> bool:
    """Whether a parameter is a linear map's weight."""
    return name.endswith(".weight")
