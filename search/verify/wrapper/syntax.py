"""What a tree of Python code mentions, without following it."""

import ast
from collections.abc import Iterable, Iterator

STATEMENT_LISTS = ("body", "orelse", "finalbody")
EXECUTING_NAMES = frozenset({"exec", "eval"})
EXECUTING_OF_MODULES = {
    "loads": {"marshal.loads"},
    "eval": {"builtins.eval", "__builtins__.eval"},
    "exec": {"builtins.exec", "__builtins__.exec"},
}
EXECUTING_ATTRIBUTES = frozenset({"exec_module", "load_module", "run_path", "run_module", "runsource", "runcode"})
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def literals(tree: ast.AST) -> Iterator[str]:
    """Every string of the code, also those written as bytes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Constant) and isinstance(node.value, bytes) and node.value.isascii():
            yield node.value.decode()


def assigned(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that statements bind, in whatever is inside them."""
    for outer in nodes:
        for node in ast.walk(outer):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, FunctionNode | ast.ClassDef):
                yield node.name


def bound(tree: ast.AST) -> frozenset[str]:
    """Names that a text binds anywhere: variables, functions, classes, imports, parameters."""
    found = set(assigned([tree]))
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return frozenset(found)


def needed(tree: ast.AST) -> frozenset[str]:
    """Names that a text reads and does not bind."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return frozenset(read - bound(tree))


def blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Lists of statements directly inside a statement, cases of a match included."""
    for name in STATEMENT_LISTS:
        inner = getattr(node, name, [])
        if inner:
            yield inner
    for case in getattr(node, "cases", []):
        yield case.body


def mentioned(node: ast.AST) -> Iterator[str]:
    """Names and attributes that an expression mentions."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr


def parameters(function: FunctionNode | ast.Lambda) -> list[ast.arg]:
    """All parameters of a function."""
    some = function.args
    stars = [one for one in (some.vararg, some.kwarg) if one is not None]
    return [*some.posonlyargs, *some.args, *some.kwonlyargs, *stars]


def executing(nodes: Iterable[ast.AST]) -> Iterator[ast.expr]:
    """Mentions of exec, eval and what runs files or compiled code."""
    for node in nodes:
        if isinstance(node, ast.Name):
            is_mention = node.id in EXECUTING_NAMES and isinstance(node.ctx, ast.Load)
        else:
            is_mention = isinstance(node, ast.Attribute) and (
                node.attr in EXECUTING_ATTRIBUTES
                or (node.attr in EXECUTING_OF_MODULES and ast.unparse(node) in EXECUTING_OF_MODULES[node.attr])
            )
        if is_mention and isinstance(node, ast.Name | ast.Attribute):
            yield node


def holders(nodes: Iterable[ast.AST], mentions: Iterable[ast.AST]) -> Iterator[FunctionNode]:
    """Functions whose bodies hold one of the mentions, methods and inner functions included."""
    wanted = set(mentions)
    for node in nodes:
        if isinstance(node, FunctionNode) and any(inner in wanted for one in node.body for inner in ast.walk(one)):
            yield node


def calls_of(nodes: Iterable[ast.AST], mentions: Iterable[ast.AST]) -> dict[ast.AST, ast.Call]:
    """The call of each mention that is called right there."""
    wanted = set(mentions)
    return {node.func: node for node in nodes if isinstance(node, ast.Call) and node.func in wanted}
