"""Operators of strangers' code on constants, within bounds."""

import ast
import operator
import struct
import zlib
from collections.abc import Callable, Mapping
from lzma import LZMAError
from typing import Any

from search.verify.wrapper.decoders import OpaqueError
from search.verify.wrapper.known import HAS_LARGE_WIDTH
from search.verify.wrapper.values import STRANGE, Budget, size_of

# What computing with constants may raise.
COMPUTE_ERRORS = (
    ArithmeticError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    LZMAError,
    MemoryError,
    OSError,
    NameError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
MAX_BITS = 1_000_000  # of a product or shift
OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.Pow: operator.pow,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
    ast.Invert: operator.invert,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def compute(kind: ast.operator, left: Any, right: Any, budget: Budget) -> Any:
    """The value of an operator with two sides."""
    for one in (left, right):
        if isinstance(one, STRANGE):
            raise OpaqueError("an operator on something that is no constant")
    budget.step()
    if isinstance(kind, ast.Mult | ast.LShift | ast.Pow):
        reserve_product(kind, left, right, budget)
    if isinstance(kind, ast.Mod) and not isinstance(left, int | float):
        if HAS_LARGE_WIDTH.search(str(left)) or "*" in str(left):
            raise OpaqueError("text that is formatted in an unusual way")
        budget.reserve(size_of(left) + 4 * sum(map(size_of, right if isinstance(right, tuple) else (right,))))
    budget.reserve(size_of(left) + size_of(right))
    return OPERATORS[type(kind)](left, right)


def reserve_product(kind: ast.operator, left: Any, right: Any, budget: Budget) -> None:
    """Count what a product, shift or power takes before it is computed."""
    if isinstance(left, int) and isinstance(right, int):
        factor = right if isinstance(kind, ast.LShift) else right.bit_length()
        bits = left.bit_length() * (max(right, 1) if isinstance(kind, ast.Pow) else 1)
        if not 0 <= bits + factor <= MAX_BITS:
            raise OpaqueError("a very large number")
        return
    number, other = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(number, int):
        budget.reserve(max(number, 0) * max(size_of(other), 1))


def truth(value: Any) -> bool:
    """Whether a value counts as true."""
    if isinstance(value, STRANGE):
        raise OpaqueError("a condition that is no constant")
    return bool(value)
