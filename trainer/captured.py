"""Passes over micro-batches as CUDA graphs: the host launches one graph where it launched thousands of kernels.

A small model's kernels take less of the device's time than of the host's to launch them, and a host that other runs
share is slower still.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.copies import WeightCopies


class PassKind(NamedTuple):
    """What a graph is for: all that is not the text and the weights.

    Attributes:
        share: of the step's rows that the micro-batch holds.
        is_first: whether it is the first of its step, which writes gradients where the others add to them.
    """

    rows: int
    is_looped: bool
    share: float
    is_first: bool


class CapturedPass(NamedTuple):
    """A graph, the tensors it reads, and those it writes; a parameter without a gradient has None."""

    graph: torch.cuda.CUDAGraph
    ids_BT: Tensor
    targets_BT: Tensor
    loss: Tensor
    gradients: list[Tensor | None]


class CapturedPasses:
    """Runs passes, each kind by a graph of its own which is captured at its first use.

    The caller has run a pass of the kind before, so that all its kernels are compiled and loaded. Graphs share memory:
    they run one after the other.

    Args:
        run: a pass forward and backward; returns its share of the step's loss.
        copies: of the weights, which every graph makes anew.
    """

    def __init__(
        self,
        run: Callable[[Tensor, Tensor, PassKind], Tensor],
        parameters: list[nn.Parameter],
        copies: WeightCopies | None,
    ) -> None:
        self.run, self.parameters, self.copies = run, parameters, copies
        self.captured: dict[PassKind, CapturedPass] = {}

    def __call__(self, ids_BT: Tensor, targets_BT: Tensor, kind: PassKind) -> Tensor:
        """This pass's share of the step's loss, which the next pass of its kind overwrites; gradients are left."""
        if kind not in self.captured:
            self.captured[kind] = self.capture(ids_BT, targets_BT, kind)
        captured = self.captured[kind]
        captured.ids_BT.copy_(ids_BT)
        captured.targets_BT.copy_(targets_BT)
        captured.graph.replay()
        for parameter, gradient in zip(self.parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        return captured.loss

    def capture(self, ids_BT: Tensor, targets_BT: Tensor, kind: PassKind) -> CapturedPass:
        """A graph of a pass. It adds to the gradients that are there now, if the pass is not its step's first."""
        if kind.is_first:
            for parameter in self.parameters:
                parameter.grad = None
        if self.copies is not None:
            self.copies.forget()
        ids_BT, targets_BT, graph = ids_BT.clone(), targets_BT.clone(), torch.cuda.CUDAGraph()
        pool = next(iter(self.captured.values())).graph.pool() if self.captured else None
        # Of this thread alone: NCCL's own thread looks at events meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            loss = self.run(ids_BT, targets_BT, kind)
        gradients = [parameter.grad for parameter in self.parameters]
        return CapturedPass(graph, ids_BT, targets_BT, loss, gradients)
