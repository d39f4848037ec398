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


def jit(function: Callable[..., Any]) -> Any:
    """A function as a kernel; where there is no Triton it stays a function, which nobody calls."""
    return function if triton is None else triton.jit(function)


def has_triton() -> bool:
    """Whether kernels can be compiled here."""
    return triton is not None and TensorDescriptor is not None
