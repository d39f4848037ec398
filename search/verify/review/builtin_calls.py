"""Builtins and the standard library, as far as they matter to the rules."""

import re
from collections.abc import Callable

from search.verify.review.code_calls import execute, get_attribute, import_by_name, names_of, set_attribute, super_of
from search.verify.review.containers import copied, elements
from search.verify.review.iteration_calls import (
    Model,
    chained,
    counted,
    enumerated,
    extreme,
    first,
    following,
    listed,
    mapped,
    mapping,
    queue,
    zipped,
)
from search.verify.review.machine import Call, Machine
from search.verify.review.marks import Flag, Size
from search.verify.review.reports import format_spec_event
from search.verify.review.settings import option, setting
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Instance,
    Library,
    Made,
    Partial,
    Value,
    const,
    marks_of,
    ref,
)

SCORE_TEXT = re.compile(r"(?:val_bpb|val_loss|bpb)\s*[:=]\s*\d+\.\d+")


def length(machine: Machine, call: Call, name: str) -> Value:
    """Follow len: how many bytes, of what."""
    value = first(call)
    marks = marks_of(value)
    kept = frozenset(mark for mark in marks if isinstance(mark, Size))
    kept |= marks & {Flag.OWN_CODE, Flag.OTHER_FILE, Flag.CHANGED_CODE, Flag.PACKED, Flag.PIECES, Flag.INFLATED}
    exact = value.exact
    if isinstance(exact, str | bytes) and exact not in {"", b""}:
        return Value(kept, (len(exact),), is_open=bool(kept))
    return Value(kept)


def copied_deeply(machine: Machine, call: Call, name: str) -> Value:
    """Follow copy: an object of its own, with the same attributes."""
    value = first(call)
    refs = tuple(
        Instance(one.cls, machine.number(), dict(one.attrs)) if isinstance(one, Instance) else one for one in value.refs
    )
    return copied(Value(value.marks, value.consts, refs, value.is_open))


def printed(machine: Machine, call: Call, name: str) -> Value:
    """Follow print and loggers: each number behind its name, and text that holds a score already."""
    before = ""
    for value in call.args:
        if SCORE_TEXT.search(value.texts[0] if value.texts and not value.is_open else ""):
            machine.event(Kind.TEXT, "score", marks_of(value))
        report_after(machine, before, value)
        before = value.texts[0] if value.texts else ""
    return const(None)


def report_after(machine: Machine, before: str, value: Value) -> None:
    """Record a number that is printed after a text of its own, as in print("val_bpb:", x)."""
    format_spec_event(machine, before[-60:], value)


def partial(machine: Machine, call: Call, name: str) -> Value:
    """Follow functools.partial."""
    return ref(Partial(first(call), call.args[1:], call.keywords))


def same(machine: Machine, call: Call, name: str) -> Value:
    """What is wrapped without being changed, such as a compiled model."""
    if not call.args:
        return ref(Library("same"))  # a decorator with options
    return first(call)


def started(machine: Machine, call: Call, name: str) -> Value:
    """Follow a thread as if it ran at once."""
    target, args = call.keywords.get("target"), call.keywords.get("args")
    if target is not None:
        machine.call(target, elements(machine, args, call.scope) if args else [], call.scope)
    return ref(Made(name, machine.number()))


def environment(machine: Machine, call: Call, name: str) -> Value:
    """Follow os.environ.get and os.getenv."""
    text = first(call).exact
    return setting(machine, text if isinstance(text, str) else "", call.get(1, "default"))


def converted(machine: Machine, call: Call, name: str) -> Value:
    """Follow int, float, bool and str: constants are converted."""
    value = first(call)
    types: dict[str, Callable[[object], object]] = {"int": to_int, "float": to_float, "bool": bool, "str": str}
    convert = types[name]
    consts: list[bool | int | float | str] = []
    for one in value.consts:
        try:
            made = convert(one)
        except (ValueError, TypeError, OverflowError):
            continue
        if isinstance(made, bool | int | float | str):
            consts.append(made)
    return Value(marks_of(value), tuple(consts), (), value.is_open)


def to_int(value: object) -> int:
    """A number of a number or text."""
    return int(value) if isinstance(value, str | int | float | bool) else int(str(value))


def to_float(value: object) -> float:
    """The same with a fraction."""
    return float(value) if isinstance(value, str | int | float | bool) else float(str(value))


def is_instance(machine: Machine, call: Call, name: str) -> Value:
    """Follow isinstance and its like: not known."""
    return Value()


def parsed_options(machine: Machine, call: Call, name: str) -> Value:
    """Follow argparse.ArgumentParser."""
    return ref(Made("argparse.ArgumentParser", machine.number()))


def add_option(machine: Machine, parser: Made, call: Call) -> None:
    """Follow add_argument."""
    flags = [text for arg in call.args for text in arg.texts]
    if not flags:
        return
    action = call.keywords.get("action")
    default = call.keywords.get("default")
    if default is None and action is not None:
        default = const(action.texts != ["store_true"])
    names = [text for arg in (call.keywords.get("dest"),) if arg for text in arg.texts]
    name = (names or [max(flags, key=len)])[0].lstrip("-").replace("-", "_")
    parser.attrs[name] = option(machine.settings, flags, default or Value())


def cleared(machine: Machine, call: Call, name: str) -> Value:
    """A result that holds nothing of its arguments."""
    return Value()


BUILTINS: dict[str, Model] = {
    "getattr": get_attribute,
    "setattr": set_attribute,
    "__import__": import_by_name,
    "importlib.import_module": import_by_name,
    "importlib.__import__": import_by_name,
    **{
        f"{prefix}{name}": execute
        for name in ("exec", "eval", "compile")
        for prefix in ("", "builtins.", "__builtins__.")
    },
    "builtins.__import__": import_by_name,
    "builtins.getattr": get_attribute,
    "operator.attrgetter": cleared,
    "len": length,
    **dict.fromkeys(
        ("list", "tuple", "set", "frozenset", "sorted", "reversed", "iter", ".cycle", ".deque", ".islice"), listed
    ),
    **dict.fromkeys((".Queue", ".SimpleQueue", ".LifoQueue", ".JoinableQueue", ".Manager.list"), queue),
    ".chain": chained,
    ".tqdm": listed,
    **dict.fromkeys(("dict", ".defaultdict", ".Counter", ".OrderedDict", ".SimpleNamespace"), mapping),
    "enumerate": enumerated,
    "zip": zipped,
    **dict.fromkeys(("map", "filter"), mapped),
    "range": counted,
    ".trange": counted,
    "next": following,
    **dict.fromkeys(("min", "max"), extreme),
    **dict.fromkeys(("copy.deepcopy", "copy.copy"), copied_deeply),
    **dict.fromkeys(("print", ".rprint"), printed),
    "functools.partial": partial,
    **dict.fromkeys(
        (
            *("torch.compile", ".DistributedDataParallel", ".DDP", ".FullyShardedDataParallel", "torch.jit.script"),
            *("same", "functools.wraps", "functools.cache", "functools.lru_cache", ".contextmanager", ".closing"),
            *("torch.no_grad", "torch.inference_mode", "torch._dynamo.disable", "torch.compiler.disable", "property"),
            *("staticmethod", "classmethod", "id_", ".DataParallel", "atexit.register", "dataclasses.dataclass"),
        ),
        same,
    ),
    **dict.fromkeys(("threading.Thread", "multiprocessing.Process", ".Thread"), started),
    **dict.fromkeys(("os.environ.get", "os.getenv", "environ.get"), environment),
    **dict.fromkeys(("int", "float", "bool", "str"), converted),
    **dict.fromkeys(("globals", "locals", "vars"), names_of),
    **dict.fromkeys(
        ("isinstance", "issubclass", "hasattr", "callable", "type", "id", "time.time", "time.perf_counter", "issubset"),
        is_instance,
    ),
    "argparse.ArgumentParser": parsed_options,
    "super": super_of,
    **dict.fromkeys((".barrier", ".synchronize", ".manual_seed", ".empty_cache"), cleared),
}
