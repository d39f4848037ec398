"""Methods of tensors, known by their names."""

from search.verify.review.builtin_calls import Model, mapped
from search.verify.review.machine import Call, Machine, instances, only
from search.verify.review.marks import Flag, Turn
from search.verify.review.tensor_calls import (
    banded,
    gathered,
    log_softmax,
    multiplied,
    reduced_stream,
    rolled,
    rounded,
    softmax,
)
from search.verify.review.values import (
    Instance,
    Items,
    Value,
    all_marks,
    marks_of,
)

# Methods that are functions of their tensor.
AS_FUNCTIONS: dict[str, Model] = {
    "log_softmax": log_softmax,
    **dict.fromkeys(("triu", "tril"), banded),
    "softmax": softmax,
    **dict.fromkeys(("round", "round_"), rounded),
    "roll": rolled,
}
REDUCTIONS = frozenset({"mean", "sum", "amax", "std", "var", "max", "logsumexp"})
RESHAPES = frozenset({"view", "reshape", "transpose", "permute", "flatten", "unflatten", "split", "chunk", "unbind"})
SAME = frozenset({"detach", "clone", "item", "cpu", "numpy", "tolist", "float", "contiguous", "data"})


def tensor_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of tensors."""
    if call.name in AS_FUNCTIONS:
        return AS_FUNCTIONS[call.name](machine, call.as_function(), call.name)
    if call.name in REDUCTIONS and Flag.STREAM in receiver.marks:
        return reduced_stream(machine, call.as_function(), call.name)
    if call.name in RESHAPES:
        refs = tuple(one for one in receiver.refs if isinstance(one, Items | Instance))
        return Value(marks_of(receiver) - {Flag.STREAM}, (), refs)
    if call.name in SAME:
        return Value(receiver.marks - {Flag.BUFFER}, receiver.consts, receiver.refs, receiver.is_open)
    match call.name:
        case "gather" | "take_along_dim":
            return gathered(machine, call, "gather")
        case "nonzero" | "argwhere":
            return Value(frozenset(only(receiver.marks, Turn)))
        case "masked_fill" | "masked_fill_":
            return Value((marks_of(receiver) | all_marks(call.values)) - {Flag.SCORES})
        case "mm" | "matmul" | "addmm" | "bmm" | "outer":
            return multiplied(machine, call, call.name)
        case "new_zeros" | "new_empty" | "new_full" | "new_ones":
            return Value(frozenset({Flag.BUFFER}))
        case _:
            return started_method(machine, call, receiver)


def started_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of threads and executors: what they start is followed at once."""
    match call.name:
        case "submit" | "apply_async" if call.args and call.args[0].refs:
            return mapped(machine, call, "submit")
        case "start" if any(one.cls.find("run") is not None for one in instances(receiver)):
            for one in instances(receiver):
                machine.call(one.cls.find("run") or Value(), [receiver], call.scope)
            return Value()
        case _:
            return None
