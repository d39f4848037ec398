"""Methods that the script does not define itself, known by their names alone."""

from search.verify.review.containers import changed, held
from search.verify.review.file_methods import file_method
from search.verify.review.machine import Call, Machine, instances, truth, without
from search.verify.review.marks import Flag, Marks, Shift, State, Turn
from search.verify.review.subscripts import counted, is_token_key
from search.verify.review.tensor_calls import (
    multiplied,
    states,
)
from search.verify.review.tensor_methods import tensor_method
from search.verify.review.text_methods import text_method
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Class,
    Function,
    Instance,
    Items,
    Made,
    Table,
    Value,
    all_marks,
    const,
    marks_of,
    ref,
)

WEIGHT_METHODS = frozenset(
    {"parameters", "named_parameters", "state_dict", "buffers", "named_buffers", "modules", "named_modules", "children"}
    | {"named_children"}
)
CONTAINER = frozenset(
    {"append", "extend", "insert", "pop", "popleft", "appendleft", "items", "values", "keys", "setdefault", "update"}
    | {"clear", "sort", "reverse", "copy", "put", "add", "get", "put_nowait", "get_nowait"}
)
NUMBERS_ONLY = frozenset(
    {"numel", "size", "dim", "ndimension", "element_size", "nelement", "exists", "is_file", "is_dir", "startswith"}
    | {
        "endswith",
        "is_contiguous",
        "is_floating_point",
        "stride",
        "data_ptr",
        "zero_grad",
        "vocab_size",
        "GetPieceSize",
    }
    | {"get_piece_size", "unk_id", "bos_id", "eos_id", "pad_id", "is_control", "is_unknown", "is_unused", "is_byte"}
    | {"IsControl", "IsUnknown", "IsUnused", "IsByte", "item_size", "mkdir", "unlink", "close", "flush", "index"}
)
# Objects of these libraries do what no other may.
FOREIGN = frozenset({"ctypes", "cffi", "socket", "urllib", "requests", "http", "subprocess", "asyncio"})
UNCHANGED = frozenset({"encode", "decode", "read", "read_text", "read_bytes", "__len__", "tobytes"})


def call_method(machine: Machine, call: Call) -> Value:
    """What receiver.name(...) gives where the script defines no such method."""
    receiver = call.receiver or Value()
    made = [one for one in receiver.refs if isinstance(one, Made)]
    if made and any("://" in text[:8] for arg in call.args for text in arg.texts):
        machine.event(Kind.CALL, "address", consts=(made[0].name,))
    for family in (model_method, file_method, text_method, tensor_method):
        given = family(machine, call, receiver)
        if given is not None:
            return given
    return default(machine, call, receiver)


def default(machine: Machine, call: Call, receiver: Value) -> Value:
    """Any other method: the result comes from the receiver and the arguments."""
    if call.name in CONTAINER and any(isinstance(one, Items | Table) for one in receiver.refs):
        return table_method(call, receiver)
    for one in receiver.refs:
        if isinstance(one, Class) and call.name == "apply" and (forward := one.find("forward")) is not None:
            return machine.call(forward, [Value(), *call.args], call.scope)
    marks = marks_of(receiver) | all_marks(call.values)
    if Flag.OWN_CODE in receiver.marks and call.name not in UNCHANGED:
        marks |= {Flag.CHANGED_CODE}
    for one in receiver.refs:
        if isinstance(one, Made) and one.name.split(".")[0] in FOREIGN:
            machine.event(
                Kind.CALL,
                f"{one.name}.{call.name}",
                marks,
                consts=tuple(one for arg in call.args[:1] for one in arg.texts),
            )
    if call.name.endswith("_") and not call.name.endswith("__"):
        return written(machine, call, receiver)
    if call.name in NUMBERS_ONLY:
        return Value()
    refs = tuple(one for one in receiver.refs if isinstance(one, Instance | Made | Items | Table | Function))
    return Value(marks, (), refs)


def table_method(call: Call, receiver: Value) -> Value:
    """A method of a list or dict; a lookup with tokens counts as one in a table."""
    if call.args and call.name in {"get", "setdefault", "pop"} and is_token_key(call.args[0]) and call.node is not None:
        return counted(receiver, call.node.args[0], call.args[0])
    if call.name == "update" and any(is_token_key(arg) for arg in call.args):
        receiver.add({Flag.TABLE})
    return changed(receiver, call.name, call.args)


def written(machine: Machine, call: Call, receiver: Value) -> Value:
    """A method that writes into its tensor."""
    marks = all_marks(call.values)
    match call.name:
        case "requires_grad_":
            if not instances(receiver) and not machine.is_in_module and is_on(call) and not states(receiver.marks):
                receiver.add({State(machine.number(), is_model=False)})
        case "copy_" | "set_" | "swap_":
            if any(isinstance(one, State) and one.is_model for one in receiver.marks):
                machine.event(Kind.RESET, call.name, marks, receiver.marks)
                for one in receiver.marks:
                    if isinstance(one, State):
                        machine.stored[one.number] = marks & {Flag.ROUNDED}
            else:
                receiver.marks = marks | states(receiver.marks) | {Flag.BUFFER}
        case "zero_" | "fill_" | "normal_" | "uniform_":
            receiver.marks = without(receiver.marks, Turn, Shift) - {Flag.VAL, Flag.LOSS, Flag.TRAIN}
        case "addmm_" | "baddbmm_":
            receiver.add(multiplied(machine, call, call.name).marks)
        case "index_add_" | "scatter_add_" | "index_put_" | "scatter_" | "index_fill_":
            keyed = any(is_token_key(arg) for arg in call.args[:2])
            receiver.add((marks & {Flag.VAL, Flag.TRAIN}) | {Flag.TABLE} if keyed else marks)
        case _:
            receiver.add(marks)
    return receiver


def is_on(call: Call) -> bool:
    """Whether requires_grad_ asks for gradients."""
    return not call.args or truth(call.args[0]) is not False


def model_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of models, losses and optimizers."""
    match call.name:
        case "backward":
            machine.event(Kind.GRADIENT, "backward", marks_of(receiver), frozenset())
            return const(None)
        case "step":
            if call.args and call.args[0].refs:
                machine.call(call.args[0], [], call.scope)
            name_trained(machine, receiver)
            return Value()
        case "eval" | "train" if len(call.args) < 2:
            machine.training = const(call.name == "train") if not call.args else Value()
            if call.args and isinstance(call.args[0].exact, bool):
                machine.training = const(call.args[0].exact)
            return receiver
        case "load_state_dict":
            for one in instances(receiver):
                machine.event(
                    Kind.RESET, "load_state_dict", all_marks(call.values), frozenset({State(one.number, True)})
                )
                machine.stored[one.number] = all_marks(call.values) & {Flag.ROUNDED}
            return Value()
        case "register_forward_hook" | "register_forward_pre_hook":
            machine.hooks.append(call.args[0] if call.args else Value())
            return ref(Made("hook", machine.number()))
        case "remove" if any(
            isinstance(one, Made) and one.name == "hook" for one in [*receiver.refs, *held(receiver).refs]
        ):
            machine.hooks.clear()
            return Value()
        case "register_buffer" | "register_parameter" | "add_module":
            for one in instances(receiver):
                if len(call.args) > 1 and call.args[0].texts:
                    one.attrs[call.args[0].texts[0]] = call.args[1]
            return Value()
        case name if name in WEIGHT_METHODS and not any(isinstance(one, Table) for one in receiver.refs):
            return weights(receiver, name)
        case _:
            return None


def weights(receiver: Value, name: str) -> Value:
    """A model's parameters, or its modules."""
    models = [
        *instances(receiver),
        *[one for thing in receiver.refs if isinstance(thing, Items) for one in instances(held(receiver))],
    ]
    marks: Marks = frozenset({State(one.number, True) for one in models}) | states(receiver.marks)
    if "module" in name or "children" in name:
        return Value(receiver.marks | states(receiver.marks), (), ())
    return Value(marks | {Flag.WEIGHTS})


def name_trained(machine: Machine, receiver: Value) -> None:
    """An optimizer's step: what it was given is what the last gradients train."""
    targets = states(marks_of(receiver))
    for event in reversed(machine.trace.events):
        if event.kind is Kind.GRADIENT:
            if not event.targets:
                event.targets = targets
            return
