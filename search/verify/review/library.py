"""Imports, and calls of what the script does not define itself."""

import ast
import re

from search.verify.review.builtin_calls import BUILTINS
from search.verify.review.calls import invoke_own
from search.verify.review.file_calls import FILES
from search.verify.review.kernels import is_kernel, read_places
from search.verify.review.machine import Call, Machine
from search.verify.review.marks import Flag, Shift, State
from search.verify.review.methods import call_method
from search.verify.review.tensor_calls import TENSORS
from search.verify.review.trace import Kind
from search.verify.review.values import Instance, Items, Library, Made, Value, all_marks, join, ref

ADDRESS = re.compile(r"(?:https?|ftps?|s3|gs|hf|wss?)://")
QUIET = frozenset({"print", "info", "debug", "warning", "log", "write", "error", "append", "add"})
# Names under which calls matter to the rules, whatever their arguments.
ROOTS = frozenset(
    {"google", "gdown", "boto3", "paramiko", "kagglehub", "fsspec", "platform", "webbrowser", "ssl", "imp", "site"}
)
WATCHED = frozenset(
    {"os", "posix", "subprocess", "pty", "pexpect", "socket", "urllib", "requests", "httpx", "aiohttp", "shutil"}
    | {
        "http",
        "ftplib",
        "smtplib",
        "ctypes",
        "cffi",
        "_ctypes",
        "importlib",
        "runpy",
        "types",
        "marshal",
        "pickle",
        "multiprocessing",
    }
    | {"sys", "asyncio", "wandb", "huggingface_hub", "datasets", "code", "codeop", "builtins", "pip", "urllib3"}
)


def import_module(machine: Machine, alias: ast.alias) -> Value:
    """What `import a.b` or `import a.b as c` binds."""
    machine.event(Kind.IMPORT, alias.name)
    return ref(Library(alias.name if alias.asname else alias.name.split(".")[0]))


def imported_name(full: str) -> Value:
    """What `from a import b` binds."""
    return ref(Library(full))


def invoke(machine: Machine, call: Call) -> Value:
    """What a call gives; its effects are followed."""
    machine.spend()
    given: list[Value] = []
    for thing in call.callee.refs:
        if isinstance(thing, Library):
            given.append(call_library(machine, call, thing.name))
        elif (value := invoke_own(machine, call, thing)) is not None:
            given.append(value)
        elif isinstance(thing, Made):
            given.append(call_made(machine, call, thing))
    if given:
        return join(*given)
    if call.receiver is not None:
        return call_method(machine, call)
    spread(call)
    return Value(all_marks(call.values) | call.callee.marks)


def call_made(machine: Machine, call: Call, thing: Made) -> Value:
    """What calling a library's object gives, such as a layer of torch's own."""
    if thing.name == "CrossEntropyLoss":
        return TENSORS[".cross_entropy"](machine, call, "cross_entropy")
    if thing.name == "embedding":
        return TENSORS["torch.nn.functional.embedding"](machine, call, "embedding")
    if thing.name == "convolution" and thing.attrs["ahead"].exact is True:
        return Value(all_marks(call.values) | {Shift(1)})
    return Value(all_marks(call.values) | frozenset(one for one in call.callee.marks if isinstance(one, State)))


def call_library(machine: Machine, call: Call, name: str) -> Value:
    """What a library's function gives."""
    last = name.split(".")[-1]
    note_address(machine, call, name)
    if is_watched(name):
        looked_at = call.args if name.startswith("sys.path") else call.args[:1]
        texts = tuple(text for value in looked_at for text in literal_texts(value))
        is_known = bool(call.args) and not call.args[0].is_open
        machine.event(Kind.CALL, name, all_marks(call.values), consts=texts if texts or not is_known else ())
    for table in (BUILTINS, FILES, TENSORS):
        function = table.get(name) or table.get(f".{last}")
        if function is not None:
            return function(machine, call, name)
    spread(call)
    marks = all_marks(call.values)
    if Flag.OWN_CODE in marks:
        marks |= {Flag.CHANGED_CODE}
    if last[:1].isupper():
        return Value(marks, (), (Made(name, machine.number()),))
    kept = tuple(one for value in call.args[:1] for one in value.refs if isinstance(one, Instance))
    return Value(marks, (), kept)


def note_address(machine: Machine, call: Call, name: str) -> None:
    """Record that a library is given an address."""
    if "." in name and call.name not in QUIET and any(ADDRESS.match(text) for arg in call.values for text in arg.texts):
        machine.event(Kind.CALL, "address", consts=(name,))


def is_watched(name: str) -> bool:
    """Whether the rules on names look at calls of that name."""
    root = name.split(".")[0]
    if root == "torch":
        return name.startswith(
            ("torch.hub", "torch.ops.load", "torch.classes", "torch.utils.cpp", "torch.utils.model_zoo")
        )
    return root in WATCHED or root in ROOTS or name in {"getattr", "__import__"}


def literal_texts(value: Value) -> list[str]:
    """The words of a command: a string, or a list of them."""
    if value.texts:
        return value.texts
    for one in value.refs:
        if isinstance(one, Items):
            return [item.texts[0] if item.texts else "\0" for item in one.items]
    return []


def spread(call: Call) -> None:
    """Of a kernel's call: it may write any argument into any other that it does not only read."""
    if call.name in QUIET or not is_kernel(call):
        return
    marks, read = all_marks(call.values), read_places(call)
    for place, value in enumerate(call.args):
        if place not in read and not value.consts and not value.refs:
            value.add(marks)
