"""Functions of torch and numpy that matter to the rules."""

import ast
import math

from search.verify.review.arithmetic import hessian, is_transposed, root_text
from search.verify.review.builtin_calls import Model, first
from search.verify.review.machine import Call, Machine, only, without
from search.verify.review.subscripts import holds_target, is_token_key
from search.verify.review.trace import Kind
from search.verify.review.values import (
    NO_MARKS,
    Computed,
    Flag,
    Items,
    Made,
    Marks,
    Plus,
    Shift,
    State,
    Tail,
    Turn,
    Value,
    all_marks,
    const,
    join,
    marks_of,
    ref,
)


def is_true(value: Value | None) -> bool:
    """Whether an argument is given and may be true."""
    return value is not None and value.exact is not False


def made_tensor(machine: Machine, call: Call, name: str) -> Value:
    """A new tensor that holds nothing of its arguments; one to be optimized where it asks for gradients."""
    marks: Marks = frozenset({Flag.BUFFER})
    if is_true(call.keywords.get("requires_grad")) and "requires_grad" in call.keywords:
        marks |= {State(machine.number(), is_model=False)}
    return Value(marks)


def parameter(machine: Machine, call: Call, name: str) -> Value:
    """A parameter: outside a model, a tensor to be optimized."""
    marks = marks_of(first(call))
    if not machine.is_in_module:
        marks |= {State(machine.number(), is_model=False)}
    return Value(marks | {Flag.BUFFER})


def like(machine: Machine, call: Call, name: str) -> Value:
    """A new tensor of the shape of another."""
    return made_tensor(machine, call, name)


def shifts(marks: Marks) -> list[int]:
    """How far tokens lie behind their position."""
    by = [one.by for one in only(marks, Shift) if isinstance(one, Shift)]
    tails = [one.by for one in only(marks, Tail) if isinstance(one, Tail)]
    return [one + max(tails, default=0) for one in by or ([0] if tails else [])]


def leaks(inputs: Marks, targets: Marks) -> bool:
    """Whether a prediction is made from tokens as late as its target."""
    seen, wanted = shifts(inputs), shifts(targets)
    return bool(seen and wanted) and min(wanted) >= 1 and max(seen) >= min(wanted)


def cross_entropy(machine: Machine, call: Call, name: str) -> Value:
    """A loss of logits and targets."""
    logits, targets = first(call), call.get(1, "target") or Value()
    marks, wanted = marks_of(logits), marks_of(targets)
    if leaks(marks, wanted):
        machine.event(Kind.LEAK, "", marks, wanted)
    given = without(marks | wanted, Tail, Plus)
    event = machine.event(Kind.LOSS, name, given, wanted)
    return Value(given | {Flag.LOSS, Computed(event.where)})


def criterion(machine: Machine, call: Call, name: str) -> Value:
    """A loss object."""
    return ref(Made("CrossEntropyLoss", machine.number()))


def log_softmax(machine: Machine, call: Call, name: str) -> Value:
    """Log-probabilities: a loss once the target's are picked."""
    given = all_marks(call.args[:1] or ([call.receiver] if call.receiver else []))
    event = machine.event(Kind.LOSS, name, given)
    return Value(given | {Flag.LOSS, Computed(event.where)})


def attention(machine: Machine, call: Call, name: str) -> Value:
    """Attention: without a mask, every position sees those after it."""
    marks = all_marks(call.args[:3]) | all_marks([call.keywords[key] for key in ("query", "key", "value") if key in call.keywords])
    is_flash = "flash" in name
    mask = call.get(3, "attn_mask", "block_mask") if not is_flash else call.keywords.get("block_mask")
    causal = call.keywords.get("causal" if is_flash else "is_causal") or call.get(5 if not is_flash else 99)
    has_mask = mask is not None and mask.exact is not None
    is_open = causal is not None and (causal.exact is not False or Flag.SETTING in causal.marks)
    if not has_mask and not is_open and "flex" not in name and not ("varlen" in name and causal is None):
        marks |= {Shift(1)}
    return Value(marks)


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


def dataset(machine: Machine, call: Call, name: str) -> Value:
    """Follow DataLoader and its like: they give what their dataset gives."""
    value = first(call) if call.args else call.keywords.get("dataset", Value())
    return join(*parts_of(value)) if name.endswith(("ConcatDataset", "ChainDataset")) else value


def rows(machine: Machine, call: Call, name: str) -> Value:
    """Follow TensorDataset: rows of its tensors."""
    return ref(Items([ref(Items(list(call.args)))], is_exact=False))


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


def multiplied(machine: Machine, call: Call, name: str) -> Value:
    """Follow matmul and its like."""
    marks = all_marks(call.values) | (marks_of(call.receiver) if call.receiver and call.receiver.marks else NO_MARKS)
    nodes: list[ast.expr] = list(call.node.args) if call.node else []
    nodes = [one for one in nodes if not (isinstance(one, ast.Constant) and isinstance(one.value, str))]
    if call.node and isinstance(call.node.func, ast.Attribute) and call.receiver is not None and len(nodes) == 1:
        nodes = [call.node.func.value, *nodes]
    two = nodes[-2:]
    if len(two) == 2 and root_text(two[0]) == root_text(two[1]):
        is_einsum = "einsum" in name or "outer" in name
        if is_einsum or is_transposed(two[0]) != is_transposed(two[1]):
            marks = hessian(machine, marks)
    return Value(marks)


def rounded(machine: Machine, call: Call, name: str) -> Value:
    """Follow round: of weights, it quantizes them."""
    value = first(call) if call.args else call.receiver or Value()
    marks = marks_of(value) | all_marks(call.keywords.values())
    if Flag.WEIGHTS in marks:
        machine.event(Kind.ROUND, "", marks)
        return Value(marks | {Flag.ROUNDED})
    return Value(marks)


def decomposed(machine: Machine, call: Call, name: str) -> Value:
    """Follow cholesky, svd and their like: of validation activations, they are the start of a quantization."""
    marks = all_marks(call.values)
    if Flag.VAL in marks and not machine.is_in_module:
        machine.event(Kind.HESSIAN, name, marks)
    return Value(marks)


def gradient(machine: Machine, call: Call, name: str) -> Value:
    """Follow autograd.grad."""
    wanted = call.get(1, "inputs") or Value()
    marks = marks_of(first(call))
    machine.event(Kind.GRADIENT, "grad", marks, states(marks_of(wanted)))
    return Value(states(marks) | frozenset())


def states(marks: Marks) -> Marks:
    """The trainable numbers among marks."""
    return frozenset(only(marks, State))


def binned(machine: Machine, call: Call, name: str) -> Value:
    """Follow bincount: counts by key."""
    marks = marks_of(first(call))
    return Value(marks & {Flag.VAL, Flag.TRAIN} | ({Flag.TABLE} if is_token_key(first(call)) else set[Flag]()))


def added_at(machine: Machine, call: Call, name: str) -> Value:
    """Follow numpy.add.at: a table counts keys."""
    if call.args and len(call.args) > 1 and is_token_key(call.args[1]):
        call.args[0].add({Flag.TABLE})
    return const(None)


def module_list(machine: Machine, call: Call, name: str) -> Value:
    """Follow ModuleList: a list of modules."""
    return call.args[0] if call.args and call.args[0].refs else ref(Items(list(call.args), is_exact=bool(call.args)))


def sequential(machine: Machine, call: Call, name: str) -> Value:
    """Follow Sequential: modules to be called one after the other."""
    return ref(Items(list(call.args)))


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


def module(machine: Machine, call: Call, name: str) -> Value:
    """A module of torch's own, or an optimizer; it keeps the marks of the parameters it is given."""
    return Value(states(all_marks(call.values)), (), (Made(name, machine.number()),))


def logarithm(machine: Machine, call: Call, name: str) -> Value:
    """Follow log."""
    value = first(call) if call.args else call.receiver or Value()
    exact = value.exact
    if isinstance(exact, int | float) and exact > 0:
        base = {"log2": 2.0, "log10": 10.0}.get(name.split(".")[-1], math.e)
        return Value(marks_of(value), (math.log(exact, base),), is_open=False)
    return Value(all_marks(call.values) | marks_of(value))


def gathered(machine: Machine, call: Call, name: str) -> Value:
    """Follow gather: of log-probabilities, it picks the target's."""
    source = call.receiver if call.receiver is not None and call.receiver.marks else first(call)
    index = call.args[-1] if call.args else Value()
    index = call.keywords.get("index", index)
    marks, wanted = marks_of(source), marks_of(index)
    if Flag.LOSS in marks and holds_target(wanted) and leaks(marks, wanted):
        machine.event(Kind.LEAK, "", marks, wanted)
    return Value(marks | without(wanted, Plus))


def reduced(machine: Machine, call: Call, name: str) -> Value:
    """Follow all_gather_object and its like: what all ranks hold is what this one holds."""
    if len(call.args) > 1:
        for one in call.args[0].refs:
            if isinstance(one, Items):
                one.append(call.args[1])
    return const(None)


TENSORS: dict[str, Model] = {
    **dict.fromkeys(
        (
            *("torch.zeros", "torch.empty", "torch.ones", "torch.full", "torch.randn", "torch.rand", "torch.randint"),
            *("numpy.zeros", "numpy.empty", "numpy.ones", "numpy.full", "torch.eye", "numpy.eye", "torch.randperm"),
        ),
        made_tensor,
    ),
    **dict.fromkeys((".zeros_like", ".empty_like", ".ones_like", ".full_like", ".randn_like", ".rand_like"), like),
    **dict.fromkeys((".Parameter",), parameter),
    **dict.fromkeys((".cross_entropy", ".nll_loss", ".linear_cross_entropy"), cross_entropy),
    **dict.fromkeys((".CrossEntropyLoss", ".NLLLoss"), criterion),
    **dict.fromkeys((".log_softmax",), log_softmax),
    **dict.fromkeys(
        (
            *(".scaled_dot_product_attention", ".flash_attn_func", ".flash_attn_varlen_func", ".flash_attn_3_func"),
            *(".flash_attention", ".flex_attention"),
        ),
        attention,
    ),
    **dict.fromkeys((".cat", ".concat", ".concatenate", ".hstack"), joined_tensors),
    ".roll": rolled,
    **dict.fromkeys((".triu", ".tril"), banded),
    ".softmax": softmax,
    "torch.where": chosen,
    "numpy.where": chosen,
    **dict.fromkeys((".nonzero", ".argwhere", ".flatnonzero"), places_of),
    **dict.fromkeys((".DataLoader", ".ConcatDataset", ".ChainDataset", ".Subset", ".StatefulDataLoader"), dataset),
    ".TensorDataset": rows,
    ".pad": padded,
    **dict.fromkeys((".matmul", ".mm", ".bmm", ".addmm", ".einsum", ".outer", ".baddbmm", ".dot"), multiplied),
    **dict.fromkeys((".round", ".rint", ".round_", "round"), rounded),
    **dict.fromkeys((".cholesky", ".svd", ".eigh", ".inv", ".pinv", ".lstsq", ".qr", ".cholesky_inverse", ".solve"), decomposed),
    "torch.autograd.grad": gradient,
    "torch.autograd.backward": gradient,
    ".bincount": binned,
    **dict.fromkeys(("numpy.add.at", ".add.at", ".maximum.at"), added_at),
    **dict.fromkeys((".ModuleList", ".ModuleDict", ".ParameterList"), module_list),
    ".Sequential": sequential,
    ".Embedding": embedding,
    **dict.fromkeys((".Conv1d", ".Conv2d"), convolution),
    "torch.nn.functional.embedding": embedded,
    **dict.fromkeys(("torch.mean", "torch.sum", "torch.amax", "torch.std", "torch.var"), reduced_stream),
    **dict.fromkeys(
        (".Linear", ".LayerNorm", ".RMSNorm", ".Dropout", ".SGD", ".Adam", ".AdamW", ".Adagrad"),
        module,
    ),
    **dict.fromkeys(("math.log", "numpy.log", "math.log2", "numpy.log2", "math.log10", "torch.log"), logarithm),
    **dict.fromkeys((".gather", ".take_along_dim", ".take_along_axis"), gathered),
    **dict.fromkeys((".all_gather_object", ".gather_object"), reduced),
}

__all__ = ["TENSORS", "Computed", "cross_entropy", "gathered", "log_softmax", "multiplied", "rolled", "rounded", "states"]
