"""Copies of a model's weights in the format of its activations, made once for each value the weights take.

A cast at every use costs a kernel for each weight, micro-batch and pass of a loop, and each has a backward of its own.
Gradients do not land on copies: they reach the float32 weights at once, and add up there.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trainer.attention import Attention
from trainer.batched import copy_all
from trainer.block import Block
from trainer.layers import Linear
from trainer.mlp import SwigluMlp


class WeightCopies:
    """The copies of all linear maps of a model.

    Maps that read the same input lie in one matrix. The maps that end attention and the MLP of a block are multiplied
    by the scales that their outputs get.

    Args:
        dtype: of the copies.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.linears = [module for module in model.modules() if isinstance(module, Linear)]
        self.joints = [module for module in model.modules() if isinstance(module, Attention | SwigluMlp)]
        blocks = [module for module in model.modules() if isinstance(module, Block)]
        self.scaled = [(block.attn.proj, block.attn_scale) for block in blocks]
        self.scaled += [(block.mlp.proj, block.mlp_scale) for block in blocks]
        ends = {linear for linear, _ in self.scaled}
        self.plain = [linear for linear in self.linears if linear not in ends]
        self.kept: list[tuple[nn.Module, str, Tensor]] = []
        self.versions: list[int] = []

    def make(self) -> None:
        """Give all maps their copies; refresh fills them.

        They stay where they were the first time: CUDA graphs go on writing there, whatever else lies there by then.
        """
        self.versions = []
        self.kept = self.kept or list(self.new_copies())
        for module, name, copy in self.kept:
            setattr(module, name, copy)
        for linear, _ in self.scaled:
            linear.copy_is_scaled = True

    def new_copies(self) -> Iterator[tuple[nn.Module, str, Tensor]]:
        """Room for all copies: whose each is, and as which of its attributes."""
        for module in self.joints:
            joint, rows = self.room_for(*module.joint_maps), [len(linear.weight) for linear in module.joint_maps]
            yield module, "joint_copy", joint
            yield from (
                (linear, "copy_OI", part) for linear, part in zip(module.joint_maps, joint.split(rows), strict=True)
            )
        joined = {linear for module in self.joints for linear in module.joint_maps}
        yield from ((linear, "copy_OI", self.room_for(linear)) for linear in self.linears if linear not in joined)

    def room_for(self, *linears: Linear) -> Tensor:
        """Room for the copies of some maps that read the same input, one below the other."""
        first, rows = linears[0].weight, sum(len(linear.weight) for linear in linears)
        return first.new_empty(rows, first.size(1), dtype=self.dtype, requires_grad=False)

    def drop(self) -> None:
        """Let the model cast its weights at every use again."""
        for module, name, _ in self.kept:
            setattr(module, name, None)

    def forget(self) -> None:
        """Copy at the next refresh, whether something has changed or not."""
        self.versions = []

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy anew if a weight or a scale has changed since the last time.

        Every change in place counts one up in a tensor's version, so whoever changes weights need not know of copies.
        Writing through .data does not, nor does fused Adam: Optimizer.step says so itself.
        """
        versions = [linear.weight._version for linear in self.linears]  # pyright: ignore[reportPrivateUsage]
        versions += [scale._version for _, scale in self.scaled]  # pyright: ignore[reportPrivateUsage]
        if versions == self.versions:
            return
        self.versions = versions
        copy_all([copy_of(linear) for linear in self.plain], [linear.weight for linear in self.plain])
        products = [scale[:, None] * linear.weight for linear, scale in self.scaled]
        copy_all([copy_of(linear) for linear, _ in self.scaled], products)


def copy_of(linear: Linear) -> Tensor:
    """The copy that a map has."""
    assert linear.copy_OI is not None
    return linear.copy_OI
