"""Methods that the script does not define itself, known by their names alone."""

from search.verify.review.builtin_calls import add_option, mapped, started
from search.verify.review.containers import changed, held
from search.verify.review.file_calls import content_marks, packed, sized, unpacked
from search.verify.review.machine import Call, Machine, instances, only, truth, without
from search.verify.review.subscripts import counted, is_token_key
from search.verify.review.tensor_calls import banded, cross_entropy, gathered, log_softmax, multiplied, reduced_stream, rolled, rounded, softmax, states
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Class,
    Flag,
    Function,
    Instance,
    Items,
    Made,
    Marks,
    Shift,
    State,
    Table,
    Turn,
    Value,
    all_marks,
    const,
    join,
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
    | {"endswith", "is_contiguous", "is_floating_point", "stride", "data_ptr", "zero_grad", "vocab_size", "GetPieceSize"}
    | {"get_piece_size", "unk_id", "bos_id", "eos_id", "pad_id", "is_control", "is_unknown", "is_unused", "is_byte"}
    | {"IsControl", "IsUnknown", "IsUnused", "IsByte", "item_size", "mkdir", "unlink", "close", "flush", "index"}
)
PIECES = frozenset(
    {"id_to_piece", "IdToPiece", "decode_single_token_bytes", "id_to_token", "convert_ids_to_tokens", "token_byte_values"}
    | {"decode_ids", "DecodeIds", "DecodeIdsWithCheck", "decode_bytes", "convert_ids_to_string", "decode_tokens_bytes"}
)
# Objects of these libraries do what no other may.
FOREIGN = frozenset({"ctypes", "cffi", "socket", "urllib", "requests", "http", "subprocess", "asyncio"})
UNCHANGED = frozenset({"encode", "decode", "read", "read_text", "read_bytes", "__len__", "tobytes"})
SAME_TEXT = frozenset({"resolve", "absolute", "expanduser", "as_posix", "strip", "rstrip", "lstrip", "with_suffix", "lower"})


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
            machine.event(Kind.CALL, f"{one.name}.{call.name}", marks, consts=tuple(one for arg in call.args[:1] for one in arg.texts))
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
                machine.event(Kind.RESET, "load_state_dict", all_marks(call.values), frozenset({State(one.number, True)}))
                machine.stored[one.number] = all_marks(call.values) & {Flag.ROUNDED}
            return Value()
        case "register_forward_hook" | "register_forward_pre_hook":
            machine.hooks.append(call.args[0] if call.args else Value())
            return ref(Made("hook", machine.number()))
        case "remove" if any(isinstance(one, Made) and one.name == "hook" for one in [*receiver.refs, *held(receiver).refs]):
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
    models = [*instances(receiver), *[one for thing in receiver.refs if isinstance(thing, Items) for one in instances(held(receiver))]]
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


def file_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of paths, files and compressors."""
    made = next((one for one in receiver.refs if isinstance(one, Made)), None)
    match call.name:
        case "read" | "readline" | "readlines" | "read_bytes" | "read_text":
            if made is None:
                return Value(content_marks(machine, receiver))
            return Value(receiver.marks | (machine.turns if not receiver.marks else frozenset()))
        case "readinto":
            for arg in call.args:
                arg.add(receiver.marks)
            return Value()
        case "write" | "write_bytes" | "write_text" | "writelines":
            path = receiver.texts[0] if receiver.texts else ""
            machine.event(Kind.WRITE, path, all_marks(call.values), consts=(call.name,))
            if path:
                kept = all_marks(call.values) & {Flag.VAL, Flag.TRAIN}
                machine.files[path] = machine.files.get(path, frozenset()) | kept
            receiver.add(all_marks(call.values) & {Flag.WEIGHTS, Flag.ROUNDED, Flag.PACKED})
            return Value()
        case "open" if receiver.texts or made is None:
            return machine.call(ref_open(), [receiver, *call.args, *call.keywords.values()], call.scope)
        case "glob" | "rglob" if call.args:
            texts = [f"{start}/{end}" for start in receiver.texts or ["\0"] for end in call.args[0].texts or ["*"]]
            return ref(Items([Value(receiver.marks, tuple(texts))], is_exact=False))
        case "iterdir":
            return ref(Items([Value(receiver.marks, tuple(f"{text}/*.bin" for text in receiver.texts))], is_exact=False))
        case "stat" | "getsize":
            return sized(machine, receiver)
        case "compress" | "compress_nodict":
            return packed(machine, call, "compress")
        case "decompress":
            return unpacked(machine, call, "decompress")
        case "with_name" | "with_suffix" | "with_stem" if call.args:
            return Value(receiver.marks, tuple(renamed(receiver, call.args[0], call.name)))
        case "joinpath":
            texts = [f"{start}/{end}" for start in receiver.texts for arg in call.args for end in arg.texts]
            return Value(receiver.marks, tuple(texts))
        case "add_argument" if made is not None:
            add_option(machine, made, call)
            return Value()
        case "parse_args" | "parse_known_args" if made is not None:
            return Value(refs=(made,)) if call.name == "parse_args" else ref(Items([ref(made), Value()]))
        case _:
            return None


def renamed(path: Value, part: Value, name: str) -> list[str]:
    """A path with its last part, or that part's end, exchanged."""
    found: list[str] = []
    for text in path.texts:
        folder, _, last = text.rpartition("/")
        # A script's own path is a file in its folder.
        folder, last = (text, "train_gpt.py") if text == "__file__" else (folder, last)
        for new in part.texts:
            other = new if name == "with_name" else last.rpartition(".")[0] + new
            found.append(f"{folder}/{other}" if folder else other)
    return found


def ref_open() -> Value:
    """The builtin open."""
    from search.verify.review.values import Library  # only here

    return ref(Library("open"))


def text_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of strings, and of a tokenizer."""
    exact = receiver.exact
    if call.name in PIECES:
        return Value(frozenset({Flag.PIECES}))
    if call.name == "decode" and any(isinstance(one, Made) and one.name == "tokenizer" for one in receiver.refs):
        return Value(frozenset({Flag.PIECES}))
    if call.name == "join" and receiver.texts:
        parts = [item.texts[0] if item.texts else "\0" for arg in call.args for one in arg.refs if isinstance(one, Items) for item in one.items]
        is_open = any(item.is_open for arg in call.args for one in arg.refs if isinstance(one, Items) for item in one.items)
        return Value(all_marks(call.args), (receiver.texts[0].join(parts),) if parts else (), is_open=is_open)
    if call.name == "format" and receiver.texts:
        known = [str(arg.exact) if isinstance(arg.exact, str | int | float) else "\0" for arg in call.args]
        try:
            text = receiver.texts[0].format(*known)
        except (IndexError, KeyError, ValueError):
            text = receiver.texts[0]
        return Value(all_marks(call.values) | receiver.marks, (text,), is_open="\0" in text)
    if call.name in SAME_TEXT and receiver.texts and not call.args:
        return Value(receiver.marks, receiver.consts, (), receiver.is_open)
    if receiver.texts and call.name in {"replace", "lower", "upper", "removesuffix", "removeprefix"}:
        words = [arg.exact for arg in call.args]
        if all(isinstance(one, str) for one in words):
            made = tuple(getattr(text, call.name)(*words) for text in receiver.texts)
            return Value(receiver.marks, made, (), receiver.is_open)
    if isinstance(exact, str) and call.name in {"startswith", "endswith"} and call.args:
        word = call.args[0].exact
        return const(getattr(exact, call.name)(word)) if isinstance(word, str) else Value()
    if isinstance(exact, str | bytes) and call.name in {"encode", "decode"}:
        return receiver
    return None


def tensor_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of tensors, losses and threads."""
    made = next((one for one in receiver.refs if isinstance(one, Made)), None)
    match call.name:
        case "gather" | "take_along_dim":
            return gathered(machine, call, "gather")
        case "log_softmax" if not call.args or receiver.marks:
            return log_softmax(machine, Call(call.node, call.name, call.callee, None, [receiver], {}, call.scope), call.name)
        case "mean" | "sum" | "amax" | "std" | "var" | "max" | "logsumexp" if Flag.STREAM in receiver.marks:
            args = [receiver, *call.args]
            return reduced_stream(machine, Call(call.node, call.name, call.callee, None, args, call.keywords, call.scope), call.name)
        case "view" | "reshape" | "transpose" | "permute" | "flatten" | "unflatten" | "split" | "chunk" | "unbind":
            refs = tuple(one for one in receiver.refs if isinstance(one, Items | Instance))
            return Value(marks_of(receiver) - {Flag.STREAM}, (), refs)
        case "triu" | "tril":
            return banded(machine, Call(call.node, call.name, call.callee, None, [receiver, *call.args], call.keywords, call.scope), call.name)
        case "nonzero" | "argwhere":
            return Value(frozenset(only(receiver.marks, Turn)))
        case "softmax":
            args = [receiver, *call.args]
            return softmax(machine, Call(call.node, call.name, call.callee, None, args, {}, call.scope), call.name)
        case "masked_fill" | "masked_fill_":
            return Value((marks_of(receiver) | all_marks(call.values)) - {Flag.SCORES})
        case "mm" | "matmul" | "addmm" | "bmm" | "outer":
            return multiplied(machine, call, call.name)
        case "round" | "round_":
            return rounded(machine, Call(call.node, call.name, call.callee, None, [receiver], {}, call.scope), call.name)
        case "roll":
            args = [receiver, *call.args]
            return rolled(machine, Call(call.node, call.name, call.callee, None, args, call.keywords, call.scope), "roll")
        case "new_zeros" | "new_empty" | "new_full" | "new_ones":
            return Value(frozenset({Flag.BUFFER}))
        case "detach" | "clone" | "item" | "cpu" | "numpy" | "tolist" | "float" | "contiguous" | "data":
            return Value(receiver.marks - {Flag.BUFFER}, receiver.consts, receiver.refs, receiver.is_open)
        case "submit" | "apply_async" if call.args and call.args[0].refs:
            return mapped(machine, call, "submit")
        case "start" if any(one.cls.find("run") is not None for one in instances(receiver)):
            for one in instances(receiver):
                machine.call(one.cls.find("run") or Value(), [receiver], call.scope)
            return Value()
        case "start" | "run" if made is not None and "Thread" in made.name:
            return started(machine, Call(None, "", Value(), None, [], {}, call.scope), made.name)
        case "__call__" if made is not None and made.name == "CrossEntropyLoss":
            return cross_entropy(machine, call, "cross_entropy")
        case _:
            return None


__all__ = ["call_method", "join", "only"]
