"""Statements of strangers' code, followed as far as constants go."""

import ast
import base64
import lzma
from abc import abstractmethod
from contextlib import suppress
from typing import Any

from search.verify.wrapper.decoders import OpaqueError
from search.verify.wrapper.effects import Effects
from search.verify.wrapper.known import DECOMPRESS
from search.verify.wrapper.operators import COMPUTE_ERRORS, compute, truth
from search.verify.wrapper.syntax import assigned, blocks, parameters
from search.verify.wrapper.values import (
    UNKNOWN,
    Function,
    Named,
    Scope,
    Unknown,
)

STOPPED = (OpaqueError, *COMPUTE_ERRORS)
MAX_CALLS = 20  # in one another
STEPS_PER_STOP = 50  # what an exception takes
# Modules whose import tells a reviewer nothing once the payload is open.
HARMLESS = frozenset(
    {"ast", "base64", "binascii", "brotli", "builtins", "bz2", "codecs", "compression", "functools", "gzip", "hashlib"}
    | {"importlib", "inspect", "io", "itertools", "linecache", "lzma", "operator", "os", "pathlib", "re", "runpy"}
    | {"string", "struct", "sys", "tempfile", "textwrap", "types", "zlib", "zstandard", "zstd", "__future__"}
)


# What `from module import *` gives, of the modules that wrappers use.
STARRED: dict[str, list[str]] = {
    "base64": base64.__all__,
    "lzma": lzma.__all__,
    "zlib": ["compress", "decompress", "decompressobj"],
    "brotli": ["compress", "decompress", "Decompressor"],
}


class Signal(Exception):
    """Statements are left early."""


class Break(Signal):
    """A loop ends."""


class Continue(Signal):
    """A loop goes on with its next turn."""


class Return(Signal):
    """A function returns."""

    def __init__(self, value: Any) -> None:
        self.value = value
        super().__init__()


def reason(error: Exception) -> str:
    """Why a statement could not be followed."""
    return str(error) if isinstance(error, OpaqueError) else f"{type(error).__name__}: {error}"


class Statements(Effects):
    """Follows statements.

    Attributes:
        called: functions of the code that were followed.
        stops: how many statements could not be.
        taken: which ways conditions of the text went.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.called: set[ast.AST] = set()
        self.taken: dict[ast.If, set[bool]] = {}
        self.depth = self.stops = 0

    @abstractmethod
    def taint(self) -> None:
        """Note that the text does something besides unpacking another."""

    def block(self, statements: list[ast.stmt], scope: Scope) -> None:
        """Follow statements; what one of them assigns is unknown where it cannot be computed."""
        for node in statements:
            try:
                self.budget.step()
                self.statement(node, scope)
            except STOPPED as error:
                self.taint()
                self.stops += 1
                self.budget.step(STEPS_PER_STOP)
                self.explore(node, scope)
                for name in assigned([node]):
                    scope.names[name] = Unknown(reason(error))

    def has_left_out(self) -> bool:
        """Whether a condition kept statements from being followed."""
        return any((node.orelse and False not in ways) or True not in ways for node, ways in self.taken.items())

    def guess(self, statements: list[ast.stmt], scope: Scope) -> None:
        """Follow statements that may be executed or not."""
        with suppress(Signal):
            self.block(statements, scope)

    def explore(self, statement: ast.stmt, scope: Scope) -> None:
        """Decompress what a statement decompresses, though it cannot be followed as a whole."""
        if next(blocks(statement), None) is not None:
            return
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                with suppress(*STOPPED):
                    function = self.evaluate(node.func, scope)
                    if isinstance(function, Named) and function.path in DECOMPRESS:
                        self.evaluate(node, scope)

    def statement(self, node: ast.stmt, scope: Scope) -> None:
        """Follow one statement."""
        follow = getattr(self, f"_{type(node).__name__.lower()}", None)
        if follow is None:
            self.taint()
            for inner in blocks(node):
                self.guess(inner, Scope(scope))
            return
        follow(node, scope)

    def _expr(self, node: ast.Expr, scope: Scope) -> None:
        self.evaluate(node.value, scope)

    def _assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.evaluate(node.value, scope)
        for target in node.targets:
            self.bind(target, value, scope)

    def _annassign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self.bind(node.target, self.evaluate(node.value, scope), scope)

    def _augassign(self, node: ast.AugAssign, scope: Scope) -> None:
        if not isinstance(node.target, ast.Name):
            raise OpaqueError("an element that is changed")
        left = self._name(ast.Name(node.target.id, ast.Load()), scope)
        value = compute(node.op, left, self.evaluate(node.value, scope), self.budget)
        scope.names[node.target.id] = self.kept(value)

    def _pass(self, node: ast.Pass, scope: Scope) -> None:
        pass

    def _delete(self, node: ast.Delete, scope: Scope) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                scope.names.pop(target.id, None)

    def _import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            root = alias.name.partition(".")[0]
            if root not in HARMLESS:
                self.taint()
            scope.names[alias.asname or root] = Named(alias.name if alias.asname else root)

    def _importfrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = "" if node.level else node.module or ""
        for alias in node.names:
            if alias.name == "*" and module in STARRED:
                scope.names.update({name: self.attribute(Named(module), name, node) for name in STARRED[module]})
                continue
            if module.partition(".")[0] not in HARMLESS or alias.name == "*":
                self.taint()
            value = self.attribute(Named(module), alias.name, node) if module else UNKNOWN
            scope.names[alias.asname or alias.name] = value

    def _if(self, node: ast.If, scope: Scope) -> None:
        try:
            is_so = truth(self.evaluate(node.test, scope))
        except STOPPED:
            self.guess(node.body, scope)
            self.guess(node.orelse, scope)
            raise
        self.taken.setdefault(node, set()).add(is_so)
        self.block(node.body if is_so else node.orelse, scope)

    def _try(self, node: ast.Try, scope: Scope) -> None:
        self.block(node.body, scope)
        for handler in node.handlers:
            self.guess(handler.body, Scope(scope))
        self.block([*node.orelse, *node.finalbody], scope)

    def _raise(self, node: ast.Raise, scope: Scope) -> None:
        pass

    def _with(self, node: ast.With, scope: Scope) -> None:
        for item in node.items:
            try:
                value = self.evaluate(item.context_expr, scope)
            except STOPPED:
                value = UNKNOWN
                self.taint()
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value, scope)
        self.block(node.body, scope)

    def _for(self, node: ast.For, scope: Scope) -> None:
        try:
            values = self.evaluate(node.iter, scope)
            for value in values:
                self.budget.step()
                self.bind(node.target, value, scope)
                with suppress(Continue):
                    self.block(node.body, scope)
        except Break:
            return
        except STOPPED:
            self.unknown_loop(node, scope)
            raise
        self.block(node.orelse, scope)

    def _while(self, node: ast.While, scope: Scope) -> None:
        try:
            while truth(self.evaluate(node.test, scope)):
                stops = self.stops
                with suppress(Continue):
                    self.block(node.body, scope)
                if self.stops > stops:
                    raise OpaqueError("a loop whose end is not in the text")
        except Break:
            return
        except STOPPED:
            self.unknown_loop(node, scope)
            raise

    def unknown_loop(self, node: ast.For | ast.While, scope: Scope) -> None:
        """Follow a loop's body once, whatever it runs over."""
        for name in assigned([node]):
            scope.names[name] = UNKNOWN
        self.guess(node.body, scope)

    def _functiondef(self, node: ast.FunctionDef, scope: Scope) -> None:
        value: object = Function(node, scope)
        for decorator in reversed(node.decorator_list):
            value = self.apply(self.evaluate(decorator, scope), value)
        scope.names[node.name] = value

    def _classdef(self, node: ast.ClassDef, scope: Scope) -> None:
        self.taint()
        value: object = UNKNOWN
        self.block(node.body, Scope(scope))
        scope.names[node.name] = UNKNOWN
        for decorator in reversed(node.decorator_list):
            value = self.apply(self.evaluate(decorator, scope), value)

    def _break(self, node: ast.Break, scope: Scope) -> None:
        raise Break

    def _continue(self, node: ast.Continue, scope: Scope) -> None:
        raise Continue

    def _return(self, node: ast.Return, scope: Scope) -> None:
        raise Return(None if node.value is None else self.evaluate(node.value, scope))

    def run_function(self, function: Function, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """What a function of the code returns."""
        node, scope = function.node, Scope(function.scope)
        self.called.add(node)
        self.pass_arguments(function, scope, arguments, keywords)
        if isinstance(node, ast.Lambda):
            return self.evaluate(node.body, scope)
        self.depth += 1
        try:
            if self.depth > MAX_CALLS:
                raise OpaqueError(f"calls nested more than {MAX_CALLS} deep")
            self.block(node.body, scope)
        except Return as returned:
            return returned.value
        finally:
            self.depth -= 1
        return None

    def pass_arguments(self, function: Function, scope: Scope, values: list[Any], keywords: dict[str, Any]) -> None:
        """Bind a function's parameters; those whose values are not known are unknown."""
        some = function.node.args
        names = [one.arg for one in (*some.posonlyargs, *some.args)]
        scope.names |= {one.arg: UNKNOWN for one in parameters(function.node)}
        defaults = zip(reversed(names), reversed(some.defaults), strict=False)
        named_defaults = zip((one.arg for one in some.kwonlyargs), some.kw_defaults, strict=True)
        for name, default in (*defaults, *named_defaults):
            if default is not None:
                scope.names[name] = self.evaluate(default, function.scope)
        if some.vararg is not None:
            scope.names[some.vararg.arg] = tuple(values[len(names) :])
        scope.names |= dict(zip(names, values, strict=False)) | keywords
