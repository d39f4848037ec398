"""Expressions of strangers' code, computed as far as constants go: nothing of it is executed by Python."""

import ast
import builtins
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from search.run import CODE_FILE
from search.verify.wrapper.decoders import OpaqueError
from search.verify.wrapper.known import CONSTANTS, HAS_LARGE_WIDTH
from search.verify.wrapper.operators import OPERATORS, compute, truth
from search.verify.wrapper.values import (
    CONTAINERS,
    STRANGE,
    Bound,
    Budget,
    Function,
    Named,
    Scope,
    Unknown,
    is_small,
    size_of,
)


class Evaluator(ABC):
    """Computes expressions. What it cannot raises an OpaqueError that says why.

    Attributes:
        data: the file itself, which it may read.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.budget = Budget()
        self.files: dict[str, Any] = {}

    @abstractmethod
    def call(self, function: object, arguments: list[Any], keywords: dict[str, Any], node: ast.AST) -> Any:
        """What a call returns."""

    def evaluate(self, node: ast.AST, scope: Scope) -> Any:
        """The value of an expression."""
        self.budget.step()
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise OpaqueError(f"{type(node).__name__} in line {getattr(node, 'lineno', 1)}")
        return method(node, scope)

    def kept(self, value: Any) -> Any:
        """A value that was computed, counted."""
        self.budget.reserve(size_of(value))
        if isinstance(value, CONTAINERS):
            self.budget.step(len(value) // 64)
            if not is_small(value):
                raise OpaqueError("lists of very many lists")
        return value

    def _constant(self, node: ast.Constant, scope: Scope) -> Any:
        return node.value

    def _name(self, node: ast.Name, scope: Scope) -> Any:
        try:
            value = scope.get(node.id)
        except KeyError:
            if node.id == "__file__":
                return CODE_FILE
            if node.id == "__name__":
                return "__main__"
            if node.id != "__builtins__" and not hasattr(builtins, node.id):
                raise OpaqueError(f"{node.id}, whose value is not in the text") from None
            return Named("builtins" if node.id == "__builtins__" else f"builtins.{node.id}", node)
        if isinstance(value, Unknown):
            raise OpaqueError(value.why)
        return value

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        return self.attribute(self.evaluate(node.value, scope), node.attr, node)

    def attribute(self, value: Any, name: str, node: ast.AST) -> Any:
        """An attribute of a value."""
        if isinstance(value, Named):
            path = f"{value.path}.{name}"
            if path == "sys.argv":
                return [CODE_FILE]
            return CONSTANTS[path] if path in CONSTANTS else Named(path, node)
        return Bound(value, name)

    def _namedexpr(self, node: ast.NamedExpr, scope: Scope) -> Any:
        value = self.evaluate(node.value, scope)
        scope.names[node.target.id] = value
        return value

    def _lambda(self, node: ast.Lambda, scope: Scope) -> Function:
        return Function(node, scope)

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        function = self.evaluate(node.func, scope)
        arguments, keywords = self.arguments(node, scope)
        return self.call(function, arguments, keywords, node)

    def arguments(self, node: ast.Call, scope: Scope) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call."""
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value, scope)
            keywords |= value if keyword.arg is None else {keyword.arg: value}
        return list(self.elements(node.args, scope)), keywords

    def elements(self, nodes: list[ast.expr], scope: Scope) -> Iterator[Any]:
        """Values of expressions, those with a star unpacked."""
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from self.evaluate(node.value, scope)
            else:
                yield self.evaluate(node, scope)

    def _list(self, node: ast.List, scope: Scope) -> Any:
        return self.kept(list(self.elements(node.elts, scope)))

    def _tuple(self, node: ast.Tuple, scope: Scope) -> Any:
        return self.kept(tuple(self.elements(node.elts, scope)))

    def _set(self, node: ast.Set, scope: Scope) -> Any:
        return self.kept(set(self.elements(node.elts, scope)))

    def _dict(self, node: ast.Dict, scope: Scope) -> Any:
        if None in node.keys:
            raise OpaqueError("a dict made of others")
        keys = [self.evaluate(key, scope) for key in node.keys if key is not None]
        return self.kept(dict(zip(keys, (self.evaluate(value, scope) for value in node.values), strict=True)))

    def _binop(self, node: ast.BinOp, scope: Scope) -> Any:
        right: list[ast.BinOp] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp):  # a sum of a thousand pieces is as deep
            right.append(left)
            left = left.left
        value = self.evaluate(left, scope)
        while right:
            one = right.pop()
            value = compute(one.op, value, self.evaluate(one.right, scope), self.budget)
        return value

    def _unaryop(self, node: ast.UnaryOp, scope: Scope) -> Any:
        value = self.evaluate(node.operand, scope)
        return not truth(value) if isinstance(node.op, ast.Not) else OPERATORS[type(node.op)](value)

    def _boolop(self, node: ast.BoolOp, scope: Scope) -> Any:
        is_and, value = isinstance(node.op, ast.And), None
        for one in node.values:
            value = self.evaluate(one, scope)
            if truth(value) != is_and:
                break
        return value

    def _compare(self, node: ast.Compare, scope: Scope) -> Any:
        left = self.evaluate(node.left, scope)
        for kind, operand in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(operand, scope)
            if isinstance(left, STRANGE) or isinstance(right, STRANGE):
                raise OpaqueError("a comparison with something that is no constant")
            self.budget.step(1 + size_of(left) // 64)
            if not OPERATORS[type(kind)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp, scope: Scope) -> Any:
        return self.evaluate(node.body if truth(self.evaluate(node.test, scope)) else node.orelse, scope)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Any:
        value, index = self.evaluate(node.value, scope), self.evaluate(node.slice, scope)
        if isinstance(value, Scope):
            return value.get(index) if index in value.names else self._name(ast.Name(index, ast.Load()), value)
        if isinstance(value, Named) and isinstance(index, str):  # __builtins__["exec"], sys.modules["lzma"]
            path = index if value.path == "sys.modules" else f"{value.path}.{index}"
            return Named(path.replace(".__dict__.", "."), node)
        if isinstance(value, STRANGE):
            raise OpaqueError("an element of something that is no constant")
        return self.kept(value[index])

    def _slice(self, node: ast.Slice, scope: Scope) -> slice:
        parts = (None if one is None else self.evaluate(one, scope) for one in (node.lower, node.upper, node.step))
        return slice(*parts)

    def _joinedstr(self, node: ast.JoinedStr, scope: Scope) -> str:
        return self.kept("".join(self.evaluate(value, scope) for value in node.values))

    def _formattedvalue(self, node: ast.FormattedValue, scope: Scope) -> str:
        value = self.evaluate(node.value, scope)
        spec = "" if node.format_spec is None else self.evaluate(node.format_spec, scope)
        if not isinstance(value, str | int) or HAS_LARGE_WIDTH.search(spec) or node.conversion >= 0:
            raise OpaqueError("text that is formatted in an unusual way")
        return format(value, spec)

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, scope: Scope) -> Any:
        return self.kept([self.evaluate(node.elt, inner) for inner in self.loops(node.generators, Scope(scope))])

    _generatorexp = _listcomp

    def _setcomp(self, node: ast.SetComp, scope: Scope) -> Any:
        return self.kept(set(self._listcomp(node, scope)))

    def _dictcomp(self, node: ast.DictComp, scope: Scope) -> Any:
        inner = self.loops(node.generators, Scope(scope))
        return self.kept({self.evaluate(node.key, one): self.evaluate(node.value, one) for one in inner})

    def loops(self, generators: list[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        """The names of a comprehension, once for each element."""
        first, *others = generators
        for value in self.evaluate(first.iter, scope):
            self.budget.step()
            self.bind(first.target, value, scope)
            if all(truth(self.evaluate(test, scope)) for test in first.ifs):
                yield from self.loops(others, scope) if others else iter((scope,))

    def bind(self, target: ast.expr, value: Any, scope: Scope) -> None:
        """Give names their values."""
        if isinstance(target, ast.Name):
            scope.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            values = [value] * len(target.elts) if isinstance(value, Unknown) else list(value)
            if len(values) != len(target.elts) or any(isinstance(one, ast.Starred) for one in target.elts):
                raise OpaqueError("names bound in an unusual way")
            for one, inner in zip(target.elts, values, strict=True):
                self.bind(one, inner, scope)
        elif isinstance(target, ast.Subscript):
            self.store(self.evaluate(target.value, scope), self.evaluate(target.slice, scope), value)
        else:
            raise OpaqueError("an attribute that is set")

    def store(self, container: Any, key: Any, value: Any) -> None:
        """Set an element."""
        if isinstance(container, Scope):
            container.names[key] = value
        elif isinstance(container, dict | list) and not isinstance(value, CONTAINERS):
            container[key] = value
        elif not (isinstance(container, Named) and container.path == "linecache.cache"):
            raise OpaqueError("an element that is set")
