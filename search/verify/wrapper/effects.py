"""Calls that strangers' code makes while it unpacks itself: answered for constants, without an effect outside."""

import ast
import io
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from search.run import CODE_FILE
from search.verify.python_text import decode
from search.verify.wrapper.decoders import OpaqueError
from search.verify.wrapper.evaluate import Evaluator
from search.verify.wrapper.known import DECOMPRESS, DECOMPRESSORS, FUNCTIONS, OPENERS, grown_size, method
from search.verify.wrapper.values import (
    STRANGE,
    UNKNOWN,
    Bound,
    Function,
    Named,
    Partial,
    PathTo,
    Scope,
    Source,
    Unknown,
)

MIN_PAYLOAD_BYTES = 40  # of what is decompressed and might be code
OBJECT_ARGUMENTS = {"lzma.LZMADecompressor": ("format", "memlimit", "filters"), "zlib.decompressobj": ("wbits",)}
SAME_PATH = frozenset({"resolve", "absolute", "expanduser", "as_posix", "__str__"})


def source_text(value: Any) -> str:
    """The code that exec would execute.

    Raises:
        OpaqueError: none can be read from it.
    """
    if isinstance(value, Source):
        return value.text
    if isinstance(value, str):
        return value
    if isinstance(value, Named):
        raise OpaqueError(f"{value.path[:80]}, which is not in the text")
    if not isinstance(value, bytes):
        raise OpaqueError(f"something of the type {type(value).__name__}")
    try:
        return decode(value)
    except SyntaxError as error:
        raise OpaqueError(f"a payload that is no text ({error.msg})") from error


class Effects(Evaluator):
    """Answers calls. Files that the code writes are kept in memory; code that it executes is handed to execute.

    Attributes:
        decompressed: what it took out of compressed payloads.
        module: names at the top.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.module = Scope()
        self.decompressed: list[bytes] = []
        self.specials: Mapping[str, Callable[..., Any]] = {
            "builtins.exec": self._exec,
            "builtins.eval": self._eval,
            "builtins.compile": lambda text, *_, **__: Source(source_text(text)),
            "builtins.getattr": lambda value, name, *_: self.attribute(value, name, ast.Constant(name)),
            "builtins.__import__": lambda name, *_, **__: Named(name.partition(".")[0]),
            "importlib.import_module": lambda name, *_: Named(name),
            "builtins.map": lambda function, *values: [
                self.apply(function, *one) for one in zip(*values, strict=False)
            ],
            "builtins.filter": lambda function, values: [one for one in values if self.apply(function, one)],
            "functools.reduce": self._reduce,
            "functools.partial": lambda function, *some, **names: Partial(function, some, names),
            "builtins.open": self._open,
            "io.open": self._open,
            "codecs.open": self._open,
            "builtins.globals": lambda: self.module,
            "builtins.locals": lambda: self.module,
            "builtins.vars": self._vars,
            "pathlib.Path": PathTo,
            "types.FunctionType": lambda code, *_, **__: Partial(Named("builtins.exec"), (code,), {}),
            "types.ModuleType": lambda name, *_: Named(str(name)),
            "runpy.run_path": self._run_path,
            "marshal.loads": self._compiled,
            **{f"{library}.loads": self._pickled for library in ("pickle", "_pickle", "dill", "cloudpickle")},
            "builtins.delattr": lambda *_: None,
        }

    @abstractmethod
    def execute(self, text: str) -> None:
        """Take note of code that is executed."""

    @abstractmethod
    def note(self, what: str, why: str, node: ast.AST | None = None) -> None:
        """Note something executed that cannot be read."""

    @abstractmethod
    def run_function(self, function: Function, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """What a function of the code returns."""

    @abstractmethod
    def expression(self, text: str) -> Any:
        """What eval returns."""

    def call(self, function: object, arguments: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:
        """What a call returns."""
        self.budget.step()
        if isinstance(function, Partial):
            some = [*function.arguments, *arguments]
            return self.call(function.function, some, {**function.keywords, **keywords}, node)
        if isinstance(function, Function):
            return self.run_function(function, arguments, keywords)
        if isinstance(function, Bound):
            return self.call_method(function, arguments, keywords)
        if isinstance(function, Named):
            return self.call_named(function.path, arguments, keywords)
        raise OpaqueError("a call of something that is not in the text")

    def apply(self, function: object, *arguments: Any) -> Any:
        """What a function returns for one element."""
        return self.call(function, list(arguments), {}, ast.Constant(None))

    def attribute(self, value: Any, name: str, node: ast.AST) -> Any:
        """An attribute of a value."""
        if isinstance(value, Partial) and isinstance(value.function, Named) and value.function.path in DECOMPRESS:
            return value if name in {"decompress", "process"} else Bound(b"", "strip")  # flush returns nothing more
        return super().attribute(value, name, node)

    def call_named(self, path: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """What a function of a library returns."""
        if path in self.specials:
            return self.kept(self.specials[path](*arguments, **keywords))
        if path in DECOMPRESSORS:
            name = next(name for name, function in DECOMPRESS.items() if function is DECOMPRESSORS[path])
            given = dict(zip(OBJECT_ARGUMENTS.get(path, ()), arguments, strict=False)) | keywords
            return Partial(Named(name), (), given | {"is_partial": True})
        if path in OPENERS:
            return self._open_compressed(path, *arguments, **keywords)
        parts = path.split(".")
        if path not in FUNCTIONS and parts[:2] in (["builtins", "bytes"], ["builtins", "str"]) and len(parts) == 3:
            return self.call_method(Bound(arguments[0], parts[2]), arguments[1:], keywords)
        if path not in FUNCTIONS:
            raise OpaqueError(f"{path[:80]}, which this check does not run")
        if "key" in keywords:
            key = keywords.pop("key")
            keywords["key"] = lambda one: self.apply(key, one)
        elif path != "builtins.print" and any(isinstance(one, STRANGE) for one in (*arguments, *keywords.values())):
            raise OpaqueError(f"{path} of something that is no constant")
        self.budget.step(sum(len(one) // 64 for one in arguments if isinstance(one, str | bytes | list)))
        found = self.kept(FUNCTIONS[path](*arguments, **keywords))
        if path in DECOMPRESS and len(found) >= MIN_PAYLOAD_BYTES:
            self.decompressed.append(found)
        return found

    def call_method(self, function: Bound, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """What a method of a constant returns."""
        value, name = function.value, function.name
        if isinstance(value, PathTo):
            return self.kept(self._path_method(value, name, arguments, keywords))
        if name == "sort" and "key" in keywords:
            raise OpaqueError("a sort by a function")
        if name in {"append", "insert", "extend", "update"} and any(_is_nested(one) for one in arguments):
            raise OpaqueError("lists put into lists")
        if any(isinstance(one, STRANGE) for one in arguments):
            raise OpaqueError(f"the method {name[:40]} of something that is no constant")
        self.budget.reserve(grown_size(value, name, arguments))
        return self.kept(method(value, name, arguments, keywords))

    def _path_method(self, path: PathTo, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if name in SAME_PATH:
            return path
        if name in {"write", "write_text", "write_bytes"}:
            old = self.files.get(path.name) if name == "write" else None
            self.files[path.name] = arguments[0] if old is None else old + arguments[0]
            return len(arguments[0])
        if name in {"close", "flush", "mkdir", "unlink"}:
            return None
        if name in {"read_bytes", "read_text", "open"}:
            modes = {"read_bytes": ["rb"], "read_text": ["r"], "open": arguments}
            file = self._open(path.name, *modes[name], **({} if name == "read_bytes" else keywords))
            return file if name == "open" or isinstance(file, PathTo) else file.read()
        raise OpaqueError(f"the method {name[:40]} of a path")

    def _open(self, path: Any, mode: str = "r", *_: Any, encoding: str | None = None, **__: Any) -> Any:
        name = path.name if isinstance(path, PathTo) else path
        if isinstance(name, str) and set(mode) & set("wax"):
            return PathTo(name)
        content = self.data if name == CODE_FILE else self.files.get(name) if isinstance(name, str) else None
        if content is None:
            raise OpaqueError(
                f"the file {name[:80]!r}" if isinstance(name, str) else "a file that is not named in the text"
            )
        self.budget.reserve(len(content))
        data = content.encode(encoding or "utf-8") if isinstance(content, str) else content
        return io.BytesIO(data) if "b" in mode else io.StringIO(data.decode(encoding or "utf-8"))

    def _open_compressed(self, path: str, file: Any = None, mode: str = "rb", *_: Any, **keywords: Any) -> Any:
        file = keywords.pop("fileobj", None) or file
        data = file.read() if isinstance(file, io.BytesIO) else self._open(file, "rb").read()
        name = next(name for name, function in DECOMPRESS.items() if function is OPENERS[path])
        encoding = keywords.pop("encoding", None) or "utf-8"
        found = self.call_named(name, [data], keywords)
        return io.StringIO(found.decode(encoding)) if "t" in mode else io.BytesIO(found)

    def _exec(self, code: Any, *_: Any, **__: Any) -> None:
        self.execute(source_text(code))

    def _eval(self, code: Any, *_: Any, **__: Any) -> Any:
        return self.expression(source_text(code))

    def _run_path(self, path: Any, *_: Any, **__: Any) -> None:
        name = path.name if isinstance(path, PathTo) else path
        if not isinstance(name, str) or name not in self.files:
            raise OpaqueError("a file that is not in the text")
        self.execute(source_text(self.files[name]))

    def _compiled(self, *_: Any) -> None:
        raise OpaqueError("compiled code")

    def _pickled(self, *_: Any, **__: Any) -> None:
        self.note("a pickle", "bytes that stand in the text")

    def _reduce(self, function: object, values: list[Any], *start: Any) -> Any:
        remaining = iter(values)
        found = start[0] if start else next(remaining)
        for value in remaining:
            found = self.apply(function, found, value)
        return found

    def _map(self, function: object, *values: Any) -> list[Any]:
        return [self.apply(function, *one) for one in zip(*values, strict=False)]

    def _vars(self, value: Any = UNKNOWN) -> Any:
        return self.module if isinstance(value, Unknown) else self.attribute(value, "__dict__", ast.Constant(None))


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | tuple | dict | set) and any(
        isinstance(one, list | tuple | dict | set) for one in value
    )
