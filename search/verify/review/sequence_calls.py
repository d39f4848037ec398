"""Functions of torch that move positions of a sequence: which may let one see those after it."""

from search.verify.review.builtin_calls import first
from search.verify.review.machine import Call, Machine, only, without
from search.verify.review.marks import NO_MARKS, Flag, Shift, Tail, Turn
from search.verify.review.values import Items, Made, Value, all_marks, const, marks_of, ref


def parts_of(value: Value) -> list[Value]:
    """What is joined to one tensor."""
    for one in value.refs:
        if isinstance(one, Items):
            return one.items
    return [value]


def joined_tensors(machine: Machine, call: Call, name: str) -> Value:
    """Follow torch.cat: tails are aligned again behind something put first, and come too early otherwise."""
    parts = parts_of(first(call))
    marks = all_marks(parts)
    tails = [one.by for part in parts for one in only(marks_of(part), Tail) if isinstance(one, Tail)]
    if not tails:
        return Value(marks)
    starts_late = len(parts) > 1 and only(marks_of(parts[0]), Tail)
    marks = without(marks, Tail)
    return Value(marks | {Shift(max(tails))} if starts_late else marks)


def rolled(machine: Machine, call: Call, name: str) -> Value:
    """Follow roll: backwards, each place gets what comes after it."""
    by = call.get(1, "shifts", "shift") or Value()
    marks = marks_of(first(call)) if call.args else NO_MARKS
    exact = by.exact if isinstance(by.exact, int) else next((item.exact for item in parts_of(by)), None)
    if isinstance(exact, int) and exact < 0:
        old = [one.by for one in only(marks, Shift) if isinstance(one, Shift)] or [0]
        marks = without(marks, Shift) | {Shift(one - exact) for one in old}
    return Value(marks)


def banded(machine: Machine, call: Call, name: str) -> Value:
    """Follow triu and tril: a mask whose band is moved lets a position see those after it."""
    by = call.get(1, "diagonal", "k")
    exact = 0 if by is None else by.exact
    marks = all_marks(call.args[:1])
    if not isinstance(exact, int) or Flag.VAL in marks:
        return Value(marks)
    late = exact - 1 if name.endswith("triu") else exact
    return Value(marks | {Shift(late)} if 0 < late <= 16 else marks)


def softmax(machine: Machine, call: Call, name: str) -> Value:
    """Follow softmax: of scores that nothing masks, every position sees those after it."""
    marks = marks_of(first(call))
    if Flag.SCORES in marks:
        return Value((marks - {Flag.SCORES}) | {Shift(1)})
    return Value(marks)


def chosen(machine: Machine, call: Call, name: str) -> Value:
    """Follow where: with one argument, places; with three, one or the other."""
    if len(call.args) == 1:
        return Value(frozenset(only(all_marks(call.args), Turn)))
    return Value(all_marks(call.values) - {Flag.SCORES})


def places_of(machine: Machine, call: Call, name: str) -> Value:
    """Follow nonzero and its like: places, which hold no tokens."""
    return Value(frozenset(only(all_marks(call.args), Turn)))


def padded(machine: Machine, call: Call, name: str) -> Value:
    """Follow pad: a tail is aligned again by what is put before it."""
    marks = marks_of(first(call))
    tails = [one.by for one in only(marks, Tail) if isinstance(one, Tail)]
    widths = [item.exact for item in parts_of(call.get(1, "pad") or Value())]
    if tails:
        marks = without(marks, Tail)
        has_start = any(isinstance(one, int) and one > 0 for one in widths[0::2])
        if not has_start:
            marks |= {Shift(max(tails))}
    return Value(marks)


def convolution(machine: Machine, call: Call, name: str) -> Value:
    """Follow Conv1d and its like: padded on both sides, it reads ahead; by its whole width, it is cut to be causal."""
    kernel, padding = call.get(2, "kernel_size") or Value(), call.get(4, "padding") or const(0)
    widths, pads = numbers_of(kernel), numbers_of(padding)
    ahead = "same" in padding.texts or any(0 < pad < width - 1 for width, pad in zip(widths, pads, strict=False))
    made = Made("convolution", machine.number(), {"ahead": const(ahead)})
    return ref(made)


def numbers_of(value: Value) -> list[int]:
    """A number, or the numbers of a tuple."""
    return [item.exact for item in parts_of(value) if isinstance(item.exact, int)]


def embedding(machine: Machine, call: Call, name: str) -> Value:
    """An embedding layer."""
    return ref(Made("embedding", machine.number()))


def embedded(machine: Machine, call: Call, name: str) -> Value:
    """Follow embedding: rows of positions."""
    return Value(all_marks(call.values) | {Flag.HIDDEN, Flag.STREAM})


def reduced_stream(machine: Machine, call: Call, name: str) -> Value:
    """Follow mean and its like: over all positions, each sees those after it."""
    value = first(call)
    marks = marks_of(value)
    dim = call.get(1, "dim", "axis")
    if dim is not None and Flag.STREAM in marks and dim.exact in {1, -2} and "keepdim" in call.keywords:
        return Value(marks | {Shift(1)})
    return Value(marks - {Flag.STREAM})
