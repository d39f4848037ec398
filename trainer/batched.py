"""Torch's fused operations over lists of tensors: one kernel for all of them. Torch keeps the names private."""

from collections.abc import Sequence

import torch
from torch import Tensor


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Write sources into targets."""
    torch._foreach_copy_(list(targets), list(sources))  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def scale_all(targets: Sequence[Tensor], factor: float) -> None:
    """Multiply targets by a factor."""
    torch._foreach_mul_(list(targets), factor)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def add_all(targets: Sequence[Tensor], terms: Sequence[Tensor], factor: float) -> None:
    """Add factor times terms to targets."""
    torch._foreach_add_(list(targets), list(terms), alpha=factor)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def move_all(targets: Sequence[Tensor], goals: Sequence[Tensor], share: float) -> None:
    """Move targets a share of their way to goals."""
    torch._foreach_lerp_(list(targets), list(goals), share)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
