"""Kernels that a script launches: which of their arguments they may write to."""

import ast
from collections.abc import Iterator

from search.verify.review.machine import Call
from search.verify.review.values import Function

LANGUAGES = frozenset({"tl", "gl", "language"})


def is_kernel(call: Call) -> bool:
    """Whether a call is one of something indexed, as a kernel and its grid are, or of an own operator."""
    node = call.node
    if node is None:
        return False
    return isinstance(node.func, ast.Subscript) or (
        isinstance(node.func, ast.Attribute) and ast.unparse(node.func).startswith("torch.ops.")
    )


def read_places(call: Call) -> frozenset[int]:
    """Places of arguments that a kernel only reads: nothing is done with them but to load from addresses in them."""
    kernel = kernel_of(call)
    if kernel is None or not call.has_known_places:
        return frozenset()
    names = [one.arg for one in kernel.args.args]
    loaded = {id(name) for node in ast.walk(kernel) for name in names_of_load(node)}
    used = [node for node in ast.walk(kernel) if isinstance(node, ast.Name)]
    written = {node.id for node in used if id(node) not in loaded}
    return frozenset(place for place, name in enumerate(names) if name not in written)


def kernel_of(call: Call) -> ast.FunctionDef | None:
    """The script's own function that a call launches by name[grid](...), if it is one alone."""
    node = call.node.func if call.node is not None else None
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return None
    found = call.scope.find(node.value.id)
    things = found.refs if found is not None else ()
    one = things[0] if len(things) == 1 else None
    return one.node if isinstance(one, Function) and isinstance(one.node, ast.FunctionDef) else None


def names_of_load(node: ast.AST) -> Iterator[ast.Name]:
    """Names in the address of a load, those in calls inside it left out: they may do anything with them."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=language), attr="load"), args=[address, *_]):
            if language in LANGUAGES:
                yield from names_outside_calls(address)
        case _:
            pass


def names_outside_calls(node: ast.expr) -> Iterator[ast.Name]:
    """Names of a sum and the like."""
    match node:
        case ast.Name():
            yield node
        case ast.BinOp():
            yield from names_outside_calls(node.left)
            yield from names_outside_calls(node.right)
        case _:
            pass
