"""Operators on values of which marks are known."""

import ast
import math
import operator
from collections.abc import Callable

from search.verify.review.indices import MAX_OFFSET, counted_on, stepped, taken
from search.verify.review.machine import Machine, only, without
from search.verify.review.marks import Flag, Key, Marks, Part, Plus, Site, Turn
from search.verify.review.trace import Kind
from search.verify.review.values import Items, Value, marks_of, ref

MAX_BITS = 4_096  # of a power


def power(base: float, exponent: float) -> float:
    """A power of moderate size.

    Raises:
        OverflowError: it may be longer than that, or is not real.
    """
    if abs(exponent) * max(1, int(abs(base)).bit_length()) > MAX_BITS or (base < 0 and exponent != int(exponent)):
        raise OverflowError
    return base**exponent


FOLD: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
}
LN2 = math.log(2)
EXACT = (LN2, 1 / LN2, 1.0, -1.0, 0.0)
MAX_TEXT = 4_000


def binary(machine: Machine, node: ast.BinOp, left: Value, right: Value) -> Value:
    """What is known of an operator's result."""
    machine.line = node.lineno
    folded = fold(node.op, left, right)
    marks = marks_of(left) | marks_of(right)
    match node.op:
        case ast.MatMult():
            marks = product(machine, node.left, node.right, marks)
        case ast.Add():
            marks = added(node, left, right, marks)
            if joined := joined_items(left, right):
                return joined.marked(marks)
        case ast.Mod():
            # The index comes round again: turns of a loop no longer keep it apart.
            marks = without(marks, Turn, Plus)
        case ast.Mult() if repeated := [one for one in (*left.refs, *right.refs) if isinstance(one, Items)]:
            return Value(marks, (), tuple(repeated))
        case ast.Mult() | ast.Div() | ast.FloorDiv():
            marks = scaled(node.op, left, right, without(stepped(node.op, left, right, marks), Plus))
        case ast.Sub():
            marks = taken(left, right, marks) | (biased(left, right) & marks_of(left))
            if biased(left, right):
                marks |= {Flag.SCALED}
        case _:
            pass
    return Value(marks, folded[0], is_open=folded[1])


def fold(op: ast.operator, left: Value, right: Value) -> tuple[tuple[str | float | bool | bytes, ...], bool]:
    """Constants of the result, and whether it may be others."""
    is_open = left.is_open or right.is_open
    if isinstance(op, ast.Add | ast.Div) and (left.texts or right.texts):
        between = "" if isinstance(op, ast.Add) else "/"
        starts, ends = left.texts or ["\0"], [str(one) for one in right.consts] or ["\0"]
        found = [f"{start}{between}{end}"[:MAX_TEXT] for start in starts[:3] for end in ends[:3]]
        return tuple(found), is_open
    if isinstance(op, ast.Mod) and left.texts:
        return tuple(left.texts), True
    a, b = left.exact, right.exact
    if isinstance(a, bytes) and isinstance(b, bytes) and isinstance(op, ast.Add):
        return (a + b,), False
    function = FOLD.get(type(op))
    if function is None or not (isinstance(a, int | float) and isinstance(b, int | float)):
        return (), True
    try:
        return (function(a, b),), False
    except (ArithmeticError, ValueError):
        return (), True


def joined_items(left: Value, right: Value) -> Value | None:
    """The sum of two lists."""
    held = [one for value in (left, right) for one in value.refs if isinstance(one, Items)]
    if not held:
        return None
    made = Items([])
    for one in held:
        for item in one.items:
            made.append(item)
    made.is_exact = len(held) == 2 and all(one.is_exact for one in held)
    return ref(made)


def added(node: ast.BinOp, left: Value, right: Value, marks: Marks) -> Marks:
    """Of a sum: an index plus a constant, and bytes or bits changed by hand."""
    number = next((one.exact for one in (right, left) if isinstance(one.exact, int | float)), None)
    other = left if isinstance(right.exact, int | float) else right
    if isinstance(number, int) and not isinstance(number, bool) and number > 0 and not other.refs:
        has_minus = any(isinstance(one, ast.Sub) for one in ast.walk(node))
        if other.is_open and not has_minus and number <= MAX_OFFSET:
            marks = counted_on(marks, number)
    if Flag.SCORES in marks and number is None:
        marks -= {Flag.SCORES}  # a mask is added
    if isinstance(number, int | float) and abs(number) >= 1e-3:
        if Flag.PIECES in marks and Flag.OWN_CODE not in marks and number > 0:
            marks |= {Flag.INFLATED}
        if Flag.BITS in marks:
            marks |= {Flag.SCALED}
    return marks


def biased(left: Value, right: Value) -> Marks:
    """The mark of bits from which a constant is taken."""
    is_biased = Flag.BITS in marks_of(left) and isinstance(right.exact, float) and abs(right.exact) >= 1e-4
    return frozenset({Flag.BITS}) if is_biased else frozenset()


def scaled(op: ast.operator, left: Value, right: Value, marks: Marks) -> Marks:
    """Of a product or quotient: nats turned to bits, numbers scaled by hand, counts over counts."""
    for value, number in ((left, right.exact), (right, left.exact)):
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        own = marks_of(value)
        if any(math.isclose(number, one, rel_tol=1e-3) for one in (LN2, 1 / LN2)):
            marks |= {Flag.BITS}
        elif not any(math.isclose(number, one, rel_tol=1e-6, abs_tol=1e-9) for one in EXACT):
            if Flag.BITS in own:
                marks |= {Flag.SCALED}
            elif Flag.PIECES in own and Flag.OWN_CODE not in own and not is_power(number):
                marks |= {Flag.INFLATED}
    marks |= factor(left, right)
    if isinstance(op, ast.Div) and is_target_ratio(left, right):
        marks |= {Flag.TARGET_RATIO}
    return marks


def factor(left: Value, right: Value) -> Marks:
    """The mark of a count times a fraction, and of a loss that is divided by one or multiplied."""
    for value, other in ((left, right), (right, left)):
        exact, own = other.exact, marks_of(value)
        is_fraction = isinstance(exact, float) and not exact.is_integer() and exact not in EXACT
        if is_fraction and value.is_open and not value.refs and all(isinstance(one, Turn | Plus) for one in own):
            return frozenset({Flag.FACTOR})
        if {Flag.LOSS, Flag.VAL} <= own and Flag.FACTOR in marks_of(other) and Flag.VAL not in marks_of(other):
            return frozenset({Flag.SCALED})
    return frozenset()


def is_power(number: float) -> bool:
    """Whether a number turns units: a power of 2 or 10 of at least 1000, either way."""
    size = abs(number) if abs(number) >= 1 else 1 / abs(number) if number else 0
    return size >= 1000 and (math.log10(size).is_integer() or math.log2(size).is_integer())


def is_target_ratio(left: Value, right: Value) -> bool:
    """Whether counts are divided by counts that were looked up with fewer tokens."""
    above = [mark.sites for mark in only(marks_of(left), Key) if isinstance(mark, Key)]
    below = [mark.sites for mark in only(marks_of(right), Key) if isinstance(mark, Key)]
    return any(small < large for large in above for small in below if small)


def root_text(node: ast.expr) -> str:
    """A matrix's name without what transposes it."""
    while True:
        match node:
            case ast.Attribute(attr="T" | "mT" | "H"):
                node = node.value
            case ast.Call(func=ast.Attribute(attr="t" | "transpose" | "permute" | "float" | "to" | "double")):
                node = node.func.value if isinstance(node.func, ast.Attribute) else node
            case _:
                return ast.unparse(node)


def is_transposed(node: ast.expr) -> bool:
    """Whether an expression is a transpose."""
    return any(
        (isinstance(one, ast.Attribute) and one.attr in {"T", "mT", "H", "t", "transpose"}) for one in ast.walk(node)
    )


def product(machine: Machine, left: ast.expr, right: ast.expr, marks: Marks) -> Marks:
    """Of a matrix product: whether it is a matrix times itself, as a Hessian is."""
    if root_text(left) == root_text(right) and (is_transposed(left) != is_transposed(right)):
        return hessian(machine, marks)
    if machine.is_in_module and is_swap(right) and Flag.HIDDEN in marks:
        return marks | {Flag.SCORES}
    return marks


def is_swap(node: ast.expr) -> bool:
    """Whether an expression exchanges the last two dimensions, as keys are for attention."""
    match node:
        case ast.Attribute(attr="mT"):
            return True
        case ast.Call(func=ast.Attribute(attr="transpose" | "swapaxes"), args=[first, second]):
            return {ast.unparse(first), ast.unparse(second)} in ({"-1", "-2"}, {"2", "3"})
        case _:
            return False


def hessian(machine: Machine, marks: Marks) -> Marks:
    """Record activations times themselves."""
    if machine.is_in_module and not machine.hooks:
        return marks
    machine.event(Kind.HESSIAN, "", marks)
    return marks | {Flag.HESSIAN}


def comparison(node: ast.Compare, values: list[Value]) -> Value:
    """What is known of a comparison."""
    marks = frozenset(without(frozenset().union(*[marks_of(one) for one in values]), Plus, Site, Part))
    if len(values) != 2:
        return Value(marks)
    a, b = values[0].exact, values[1].exact
    op = node.ops[0]
    if isinstance(op, ast.Is | ast.IsNot) and isinstance(b, type(None)):
        known = is_none(values[0])
        return Value(marks) if known is None else Value(marks, (known == isinstance(op, ast.Is),), is_open=False)
    if not (isinstance(a, int | float | str | bool) and isinstance(b, int | float | str | bool)):
        return Value(marks)
    try:
        known = compare(op, a, b)
    except TypeError:
        known = None
    return Value(marks) if known is None else Value(marks, (known,), is_open=False)


def is_none(value: Value) -> bool | None:
    """Whether a value is None; None where that is not known."""
    if value.exact is None:
        return True
    if value.refs and not value.consts:
        return False
    return None if value.is_open else None not in value.consts


def compare(op: ast.cmpop, a: float | str, b: float | str) -> bool | None:
    """A comparison of constants."""
    match op:
        case ast.Eq():
            return a == b
        case ast.NotEq():
            return a != b
        case ast.In() if isinstance(a, str) and isinstance(b, str):
            return a in b
        case ast.NotIn() if isinstance(a, str) and isinstance(b, str):
            return a not in b
        case _:
            pass
    if isinstance(a, str) or isinstance(b, str):
        return None
    match op:
        case ast.Lt():
            return a < b
        case ast.LtE():
            return a <= b
        case ast.Gt():
            return a > b
        case ast.GtE():
            return a >= b
        case _:
            return None
