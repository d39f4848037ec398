"""Triton, where it is installed. A kernel is compiled for the device at its first call and kept on disk by Triton."""

from collections.abc import Callable
from typing import Any

# It comes with CUDA builds of torch only.
# pyright: reportMissingImports=false, reportUnusedImport=false
try:
    import triton
    from triton import language as tl
    from triton.language import constexpr
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:
    triton = None
    tl = None
    constexpr = None
    TensorDescriptor = None
try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import (
        fence_async_shared,
        mbarrier,
        tma,
        warpgroup_mma,
        warpgroup_mma_wait,
    )
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor as GluonTile
except ImportError:
    gluon = None
    gl = None
    fence_async_shared = None
    mbarrier = None
    tma = None
    warpgroup_mma = None
    warpgroup_mma_wait = None
    GluonTile = None

GLUON_VERSION = "3.6."  # of Triton, whose experimental language changes from one to the next: the one it was tried with


def jit(function: Callable[..., Any]) -> Any:
    """A function as a kernel; where there is no Triton it stays a function, which nobody calls."""
    return function if triton is None else triton.jit(function)


def gluon_jit(function: Callable[..., Any]) -> Any:
    """A function of Triton's lower language as a kernel."""
    return gluon.jit(function) if gluon is not None and has_gluon() else function


def has_triton() -> bool:
    """Whether kernels can be compiled here."""
    return triton is not None and TensorDescriptor is not None


def has_gluon() -> bool:
    """Whether kernels of its lower language can be, too."""
    return triton is not None and gluon is not None and triton.__version__.startswith(GLUON_VERSION)
