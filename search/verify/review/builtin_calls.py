"""Builtins and the standard library, as far as they matter to the rules."""

import ast
import copy
import re
from collections.abc import Callable

from search.verify.review.attributes import attribute
from search.verify.review.containers import copied, elements, held, pairs
from search.verify.review.machine import Call, Machine, instances
from search.verify.review.settings import option, setting
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Class,
    Flag,
    Instance,
    Items,
    Library,
    Made,
    Partial,
    Scope,
    Size,
    State,
    Table,
    Value,
    all_marks,
    const,
    join,
    marks_of,
    ref,
)

Model = Callable[[Machine, Call, str], Value]
MAX_SOURCE = 2_000_000
SCORE_TEXT = re.compile(r"(?:val_bpb|val_loss|bpb)\s*[:=]\s*\d+\.\d+")


def first(call: Call) -> Value:
    """The first argument."""
    return call.args[0] if call.args else Value()


def get_attribute(machine: Machine, call: Call, name: str) -> Value:
    """Follow getattr."""
    owner, key = first(call), call.get(1) or Value()
    if key.texts:
        found = [attribute(machine, owner, text, call.scope) for text in key.texts]
        default = call.args[2:3] if not owner.refs else []
        return join(*found, *default)
    if any(isinstance(one, Library) for one in owner.refs):
        machine.event(Kind.CALL, "getattr", consts=("computed",))
    return Value(owner.marks)


def set_attribute(machine: Machine, call: Call, name: str) -> Value:
    """Follow setattr."""
    if len(call.args) == 3:
        for one in call.args[0].refs:
            if isinstance(one, Instance | Class):
                for text in call.args[1].texts:
                    one.attrs[text] = call.args[2]
    return const(None)


def import_by_name(machine: Machine, call: Call, name: str) -> Value:
    """Follow __import__ and importlib.import_module."""
    texts = first(call).texts
    for text in texts:
        machine.event(Kind.IMPORT, text)
    if not texts:
        machine.event(Kind.CALL, "import_module", marks_of(first(call)), consts=("computed",))
        return Value()
    roots = texts if name != "__import__" else [text.split(".")[0] for text in texts]
    return ref(*[Library(text) for text in roots])


def execute(machine: Machine, call: Call, name: str) -> Value:
    """Follow exec, eval and compile: text that is known is followed as code."""
    text = first(call)
    known = text.exact
    source = known if isinstance(known, str) else None
    marks = marks_of(text)
    if name == "compile":
        return Value(marks, text.consts, text.refs, text.is_open)
    kind = "constant" if source is not None else "file" if marks & {Flag.OWN_CODE, Flag.OTHER_FILE} else "computed"
    machine.event(Kind.EXECUTE, name, marks, consts=(kind,))
    if source is None or len(source) > MAX_SOURCE or len(machine.frames) > 20:
        return Value(marks)
    try:
        tree = ast.parse(source, mode="eval" if name == "eval" else "exec")
    except (SyntaxError, ValueError, RecursionError):
        return Value(marks)
    if isinstance(tree, ast.Expression):
        return machine.evaluate(tree.body, call.scope)
    machine.run(tree.body, call.scope)
    return const(None)


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


def listed(machine: Machine, call: Call, name: str) -> Value:
    """Follow list, sorted and their like."""
    value = first(call)
    if not call.args:
        return ref(Items([]))
    if "key" in call.keywords:
        choose(machine, call, elements(machine, value, call.scope), name)
    if any(isinstance(one, Items) for one in value.refs):
        return copied(value)
    items = elements(machine, value, call.scope) if value.refs else []
    return ref(Items(items, is_exact=False)) if items else Value(marks_of(value), tuple(value.texts))


def queue(machine: Machine, call: Call, name: str) -> Value:
    """Follow Queue: what is put in comes out."""
    return ref(Items([], is_exact=False))


def chained(machine: Machine, call: Call, name: str) -> Value:
    """Follow itertools.chain."""
    return ref(Items([item for arg in call.args for item in elements(machine, arg, call.scope)], is_exact=False))


def mapping(machine: Machine, call: Call, name: str) -> Value:
    """Follow dict and its like."""
    made = Table(dict[object, Value](call.keywords))  # type: ignore[arg-type]
    for arg in call.args:
        for one in arg.refs:
            if isinstance(one, Table):
                made.entries.update(one.entries)
                made.rest = one.rest
        if not arg.consts and not any(isinstance(one, Table) for one in arg.refs) and name == "dict":
            made.rest = held(arg)
    return ref(made)


def enumerated(machine: Machine, call: Call, name: str) -> Value:
    """Follow enumerate."""
    return ref(Items([pairs(Value(), item) for item in elements(machine, first(call), call.scope)], is_exact=False))


def zipped(machine: Machine, call: Call, name: str) -> Value:
    """Follow zip."""
    columns = [elements(machine, arg, call.scope) for arg in call.args]
    if columns and all(len(column) == len(columns[0]) for column in columns) and len(columns[0]) <= 8:
        return ref(Items([ref(Items(list(row))) for row in zip(*columns, strict=True)]))
    return ref(Items([ref(Items([join(*column) if column else Value() for column in columns]))], is_exact=False))


def mapped(machine: Machine, call: Call, name: str) -> Value:
    """Follow map, filter and an executor's map and submit."""
    columns = [join(*items) for arg in call.args[1:] if (items := elements(machine, arg, call.scope))]
    if name.endswith("filter"):
        return ref(Items(elements(machine, call.args[1], call.scope) if len(call.args) > 1 else [], is_exact=False))
    return ref(Items([machine.call(first(call), columns, call.scope)], is_exact=False))


def counted(machine: Machine, call: Call, name: str) -> Value:
    """Follow range: numbers of which only the bounds' marks are known."""
    return Value(all_marks(call.values))


def following(machine: Machine, call: Call, name: str) -> Value:
    """Follow next: another item each turn of a loop."""
    value = first(call)
    found = elements(machine, value, call.scope)
    return (join(*found) if found else Value(marks_of(value))).marked(machine.turns)


def choose(machine: Machine, call: Call, items: list[Value], name: str) -> frozenset[State]:
    """Record a choice by a validation loss; what is chosen is marked as fitted by it."""
    given = machine.call(call.keywords["key"], [join(*items)], call.scope) if items else Value()
    marks = marks_of(given)
    if not {Flag.VAL, Flag.LOSS} <= marks:
        return frozenset()
    fitted = frozenset({State(machine.number(), is_model=False)})
    machine.event(Kind.SELECT, "rounding" if Flag.ROUNDED in marks | all_marks(items) else name, marks, fitted)
    return fitted


def extreme(machine: Machine, call: Call, name: str) -> Value:
    """Follow min and max; the choice of weights by a validation loss is recorded."""
    items = [item for arg in call.args for item in elements(machine, arg, call.scope)] if len(call.args) == 1 else call.args
    marks = all_marks(items)
    if "key" in call.keywords and items:
        return join(*items).marked(choose(machine, call, items, name))
    is_each = call.node is not None and len(call.args) == 1 and isinstance(call.node.args[0], ast.GeneratorExp | ast.ListComp)
    if is_each and {Flag.VAL, Flag.LOSS} <= marks:
        return Value(marks | {Flag.BEST})
    numbers = [item.exact for item in items]
    if items and all(isinstance(one, int | float) for one in numbers):
        known = [one for one in numbers if isinstance(one, int | float)]
        return Value(marks, (min(known) if name == "min" else max(known),), is_open=False)
    # A floor under a number is no other number.
    return Value(marks, (), join(*items).refs if items else ())


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
    from search.verify.review.library import format_spec_event  # the two modules need each other

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


def names_of(machine: Machine, call: Call, name: str) -> Value:
    """Follow globals, locals and vars."""
    for one in first(call).refs if call.args else ():
        if isinstance(one, Library):
            return ref(one)
        if isinstance(one, Instance):
            return ref(Table(dict[object, Value](one.attrs)))  # type: ignore[arg-type]
    scope: Scope = call.scope.root if name == "globals" else call.scope
    return ref(Table(dict[object, Value](scope.names)))  # type: ignore[arg-type]


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


def super_of(machine: Machine, call: Call, name: str) -> Value:
    """Follow super: methods of the script's own bases."""
    owner = next((frame.function.owner for frame in reversed(machine.frames) if frame.function), None)
    receiver = call.scope.find("self") or Value()
    for base in owner.bases if owner else []:
        for one in base.refs:
            if isinstance(one, Class):
                made = Instance(one, instances(receiver)[0].number if instances(receiver) else 0)
                made.attrs = instances(receiver)[0].attrs if instances(receiver) else {}
                return ref(made)
    return Value(receiver.marks)


BUILTINS: dict[str, Model] = {
    "getattr": get_attribute,
    "setattr": set_attribute,
    "__import__": import_by_name,
    "importlib.import_module": import_by_name,
    "importlib.__import__": import_by_name,
    **{f"{prefix}{name}": execute for name in ("exec", "eval", "compile") for prefix in ("", "builtins.", "__builtins__.")},
    "builtins.__import__": import_by_name,
    "builtins.getattr": get_attribute,
    "operator.attrgetter": cleared,
    "len": length,
    **dict.fromkeys(("list", "tuple", "set", "frozenset", "sorted", "reversed", "iter", ".cycle", ".deque", ".islice"), listed),
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

__all__ = ["BUILTINS", "Model", "add_option", "copy", "held"]
