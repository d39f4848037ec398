"""Statements of strangers' code, followed as far as constants go, to find the code that it unpacks and executes."""

import ast
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from search.verify.python_text import MAX_TOKENS, count_tokens, parse
from search.verify.wrapper.decoders import OpaqueError
from search.verify.wrapper.statements import STOPPED, Statements, reason
from search.verify.wrapper.syntax import (
    FunctionNode,
    bound,
    calls_of,
    executing,
    holders,
    literals,
    mentioned,
    needed,
    parameters,
)
from search.verify.wrapper.values import (
    MAX_BYTES,
    MAX_STEPS,
    UNKNOWN,
    Budget,
    ExhaustedError,
    Function,
    Named,
    Scope,
    Unknown,
)

MAX_LAYERS = 8  # wrappers in wrappers; real ones have one, rarely two
MAX_PAYLOADS = 64
EXECUTES = frozenset({"builtins.exec", "builtins.eval", "runpy.run_path", "runpy.run_module", "marshal.loads"})
# A string that is evaluated is a setting, unless it is made by one of these.
UNPACKS = frozenset(
    {"decompress", "decode", "fromhex", "unhexlify", "read", "read_text", "read_bytes", "loads", "join", "open"}
    | {"b64decode", "b85decode", "a85decode", "b32decode", "b16decode", "chr", "bytes", "reversed", "compile"}
)


@dataclass(slots=True, eq=False)
class Layer:
    """A text, and the texts that it executes.

    Attributes:
        is_pure: it does nothing but unpack and execute them.
        is_visible: it stands in the text around it as it is, not packed.
    """

    text: str
    is_visible: bool = False
    is_pure: bool = True
    children: list["Layer"] = field(default_factory=list)

    @property
    def flat(self) -> str:
        """The code that is left to read: of a wrapper, what it executes; else both."""
        if not self.children:
            return self.text
        inner = [child.flat for child in self.children]
        is_wrapper = self.is_pure and not any(child.is_visible for child in self.children)
        return "\n".join(inner if is_wrapper else [self.text, *inner])

    @property
    def height(self) -> int:
        """How many layers are around the innermost text."""
        return max((child.height + 1 for child in self.children), default=0)


class Interpreter(Statements):
    """Follows a file's statements.

    Attributes:
        failures: what is executed and could not be read, with the line that does.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.failures: dict[ast.AST, str] = {}
        self.accounted: set[ast.AST] = set()
        self.stack: list[Layer] = []
        self.trees: list[ast.Module] = []
        self.tokens = self.payloads = 0
        self.shrunk = 1

    @property
    def layer(self) -> Layer:
        """The text whose statements are followed now."""
        return self.stack[-1]

    def follow(self, text: str, tree: ast.Module | None = None) -> Layer:
        """A text with everything that it executes.

        Raises:
            OpaqueError: it is no Python, or too much.
        """
        self.tokens += count_tokens(text)
        if self.tokens > MAX_TOKENS + len(self.stack) * MAX_TOKENS // 50:
            raise OpaqueError(f"code of more than {MAX_TOKENS} tokens")
        try:
            tree = tree or parse(text)
        except SyntaxError as error:
            raise OpaqueError(f"a payload that is not Python ({error.msg})") from error
        layer = Layer(text)
        if self.stack:
            self.layer.children.append(layer)
            layer.is_visible = text in set(literals(self.trees[-1]))
            if bound(self.trees[-1]) & needed(tree):
                self.taint()  # what it executes uses what it defines
        self.stack.append(layer)
        self.trees.append(tree)
        self.module.names["__doc__"] = ast.get_docstring(tree, clean=False)
        around, self.taken = self.taken, {}
        self.follow_all(tree)
        if self.has_left_out():
            self.taint()
        self.taken = around
        self.stack.pop()
        self.trees.pop()
        return layer

    def follow_all(self, tree: ast.Module) -> None:
        """Follow a text's statements, then whatever of it executes something and was not reached."""
        try:
            self.guess(tree.body, self.module)
        except ExhaustedError as error:
            self.forget(error)
        nodes = list(ast.walk(tree))
        mentions = list(executing(nodes))
        if not mentions:
            return
        try:
            self.uncalled(holders(nodes, mentions))
            self.unaccounted(mentions, calls_of(nodes, mentions))
        except ExhaustedError as error:
            self.forget(error)
            self.note("exec", str(error))

    def forget(self, error: ExhaustedError) -> None:
        """Trust no value that was computed until there was too much, and go on with less."""
        self.taint()
        self.shrunk *= 10
        self.budget = Budget(MAX_STEPS // self.shrunk, MAX_BYTES // self.shrunk)
        for name, value in self.module.names.items():
            if not isinstance(value, Named | Function):
                self.module.names[name] = Unknown(str(error))

    def execute(self, text: str) -> None:
        """Follow code that is executed."""
        if len(self.stack) > MAX_LAYERS:
            raise OpaqueError(f"more than {MAX_LAYERS} wrappers in one another")
        self.payloads += 1
        if self.payloads > MAX_PAYLOADS:
            raise OpaqueError(f"more than {MAX_PAYLOADS} payloads")
        self.follow(text)

    def taint(self) -> None:
        """Note that the text does something besides unpacking another."""
        self.layer.is_pure = False

    def expression(self, text: str) -> Any:
        """What eval returns."""
        self.execute(text.strip())
        statement = parse(text.strip()).body[0]
        if not isinstance(statement, ast.Expr):
            raise OpaqueError("eval of statements")
        return self.evaluate(statement.value, self.module)

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        function = self.evaluate(node.func, scope)
        is_executing = isinstance(function, Named) and function.path in EXECUTES
        try:
            arguments, keywords = self.arguments(node, scope)
            found = self.call(function, arguments, keywords, node)
        except STOPPED as error:
            if is_executing:
                self.account(function)
                self.fail(function.path, node, error)
            raise
        if is_executing:
            self.account(function)
        return found

    def apply(self, function: object, *arguments: Any) -> Any:
        """What a function returns for one element."""
        found = super().apply(function, *arguments)
        if isinstance(function, Named):
            self.account(function)
        return found

    def account(self, function: object) -> None:
        """Note that the code executed by this mention of exec is known, or its failure told."""
        if isinstance(function, Named) and function.origin is not None:
            self.accounted.add(function.origin)

    def fail(self, path: str, node: ast.AST, error: Exception) -> None:
        """Note something executed that cannot be read."""
        is_plain = isinstance(node, ast.Name) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
        if path == "builtins.eval" and is_plain and not any(name in UNPACKS for name in mentioned(node)):
            return  # the rules say what they think of eval
        self.note(path.removeprefix("builtins."), reason(error), node)

    def note(self, what: str, why: str, node: ast.AST | None = None) -> None:
        """Note something executed that cannot be read."""
        self.failures[node or ast.Constant(what)] = f"expected executed code that can be read, got {what} of {why}"

    def uncalled(self, functions: Iterable[FunctionNode]) -> None:
        """Follow functions that execute something and that nothing seen so far calls: their arguments are unknown."""
        for node in functions:
            if node not in self.called:
                self.taint()
                scope = Scope(self.module, {one.arg: UNKNOWN for one in parameters(node)})
                self.guess(node.body, scope)

    def unaccounted(self, mentions: Iterable[ast.expr], calls: Mapping[ast.AST, ast.Call]) -> None:
        """Whatever else of a text executes something: it is read now, or noted as a failure."""
        for node in mentions:
            if node in self.accounted or (isinstance(node, ast.Name) and node.id in self.module.names):
                continue
            self.taint()
            call = calls.get(node)
            if call is not None:
                with suppress(*STOPPED):
                    self.evaluate(call, self.module)
            if node not in self.accounted and (call is None or call not in self.failures):
                name = ast.unparse(node)
                path = "builtins.eval" if name == "eval" else name
                self.fail(path, call or node, OpaqueError(UNKNOWN.why))
