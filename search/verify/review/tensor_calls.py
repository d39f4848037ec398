"""Functions of torch and numpy that matter to the rules."""

import ast
import math

from search.verify.review.arithmetic import hessian, is_transposed, root_text
from search.verify.review.builtin_calls import Model, first
from search.verify.review.machine import Call, Machine, only, without
from search.verify.review.marks import NO_MARKS, Computed, Flag, Marks, Plus, Shift, State, Tail
from search.verify.review.sequence_calls import (
    banded,
    chosen,
    convolution,
    embedded,
    embedding,
    joined_tensors,
    padded,
    parts_of,
    places_of,
    reduced_stream,
    rolled,
    softmax,
)
from search.verify.review.subscripts import holds_target, is_token_key
from search.verify.review.trace import Kind
from search.verify.review.values import Items, Made, Value, all_marks, const, join, marks_of, ref


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
    marks = all_marks(call.args[:3]) | all_marks(
        [call.keywords[key] for key in ("query", "key", "value") if key in call.keywords]
    )
    is_flash = "flash" in name
    mask = call.get(3, "attn_mask", "block_mask") if not is_flash else call.keywords.get("block_mask")
    causal = call.keywords.get("causal" if is_flash else "is_causal") or call.get(5 if not is_flash else 99)
    has_mask = mask is not None and mask.exact is not None
    is_open = causal is not None and (causal.exact is not False or Flag.SETTING in causal.marks)
    if not has_mask and not is_open and "flex" not in name and not ("varlen" in name and causal is None):
        marks |= {Shift(1)}
    return Value(marks)


def dataset(machine: Machine, call: Call, name: str) -> Value:
    """Follow DataLoader and its like: they give what their dataset gives."""
    value = first(call) if call.args else call.keywords.get("dataset", Value())
    return join(*parts_of(value)) if name.endswith(("ConcatDataset", "ChainDataset")) else value


def rows(machine: Machine, call: Call, name: str) -> Value:
    """Follow TensorDataset: rows of its tensors."""
    return ref(Items([ref(Items(list(call.args)))], is_exact=False))


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


def larger(machine: Machine, call: Call, name: str) -> Value:
    """Follow maximum: the larger of a model's and a table's probability of the target sums to more than one."""
    parts = [marks_of(value) for value in call.values]
    marks = NO_MARKS.union(*parts)
    is_picked = any(Flag.TARGET_PICK in part for part in parts)
    if is_picked and any(Flag.LOSS in part and Flag.COUNT not in part for part in parts):
        return Value(marks | {Flag.TARGET_KEY})
    return Value(marks)


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
    **dict.fromkeys(
        (".cholesky", ".svd", ".eigh", ".inv", ".pinv", ".lstsq", ".qr", ".cholesky_inverse", ".solve"), decomposed
    ),
    "torch.autograd.grad": gradient,
    "torch.autograd.backward": gradient,
    **dict.fromkeys((".maximum", ".fmax", ".minimum", ".fmin"), larger),
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

__all__ = [
    "TENSORS",
    "Computed",
    "cross_entropy",
    "gathered",
    "log_softmax",
    "multiplied",
    "rolled",
    "rounded",
    "states",
]
