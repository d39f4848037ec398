"""Which fast paths a run takes. This is the one place that decides; each has a slow form with the same results."""

from dataclasses import dataclass, fields

import torch

from trainer.jit import has_triton

SMALLEST_CAPABILITY = (9, 0)  # kernels are tuned for, and measured on, Hopper; older devices keep to the slow forms


@dataclass(frozen=True, kw_only=True, slots=True)
class FastPaths:
    """Switches of the fast paths; the default is none.

    Attributes:
        copies: weights as copies in the compute format, made once a step, with output scales folded in, and with
            queries, keys and values as one product.
        mlp: products of a squared MLP that apply the activation themselves; needs copies.
        mix: a block's entry and its norm as one kernel each way, sums for the mix's gradient included.
        heads: queries' and keys' norms, rotations and gains as one kernel each way; needs copies.
        losses: softcap and cross-entropy of a row as one kernel each way.
        muon: Newton-Schulz in three batched products an iteration.
    """

    copies: bool = False
    mlp: bool = False
    mix: bool = False
    heads: bool = False
    losses: bool = False
    muon: bool = False

    @property
    def named(self) -> list[str]:
        """Those that are on."""
        return [field.name for field in fields(self) if getattr(self, field.name)]


def fast_paths_of(device: torch.device, compute_dtype: torch.dtype) -> FastPaths:
    """The fast paths that pay on a device: none on a CPU, whose results stay the same bit for bit."""
    is_fast = device.type == "cuda" and compute_dtype is torch.bfloat16
    if not is_fast or torch.cuda.get_device_capability(device) < SMALLEST_CAPABILITY:
        return FastPaths()
    kernels = has_triton()
    return FastPaths(copies=True, mlp=kernels, mix=kernels, heads=kernels, losses=kernels, muon=True)
