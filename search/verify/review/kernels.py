"""Kernels that a script launches: which of their arguments they may write to."""

import ast
from collections.abc import Iterator
from functools import lru_cache

from search.verify.review.machine import Call
from search.verify.review.values import Function, Library, Scope

LANGUAGE = "triton"  # a library that has tl and gl


def is_kernel(call: Call) -> bool:
    """Whether a call is one of something indexed, as a kernel and its grid are, or of an own operator."""
    node = call.node
    if node is None:
        return False
    return isinstance(node.func, ast.Subscript) or (
        isinstance(node.func, ast.Attribute) and ast.unparse(node.func).startswith("torch.ops.")
    )


def read_places(call: Call) -> frozenset[int]:
    """Places of a call's arguments that its kernel only reads."""
    kernel = kernel_of(call)
    return frozenset() if kernel is None or not call.has_known_places else places_only_loaded(kernel)


@lru_cache(maxsize=256)  # a kernel is launched many times, and read whole for this
def places_only_loaded(kernel: Function) -> frozenset[int]:
    """Places of a kernel's parameters that stand in addresses of loads alone."""
    spec, nodes = kernel.node.args, list(ast.walk(kernel.node))
    loaded = {id(name) for node in nodes for name in names_of_load(node, kernel.scope)}
    others = [node for node in nodes if isinstance(node, ast.Name) and id(node) not in loaded]
    if any(isinstance(node.ctx, ast.Store) and is_language(node.id, kernel.scope) for node in others):
        return frozenset()
    written = {node.id for node in others}
    names = [one.arg for one in (*spec.posonlyargs, *spec.args)]
    return frozenset(place for place, name in enumerate(names) if name not in written)


def kernel_of(call: Call) -> Function | None:
    """The script's own function that a call launches by name[grid](...), if it is one alone."""
    node = call.node.func if call.node is not None else None
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return None
    found = call.scope.find(node.value.id)
    things = found.refs if found is not None else ()
    one = things[0] if len(things) == 1 else None
    return one if isinstance(one, Function) and isinstance(one.node, ast.FunctionDef) else None


def names_of_load(node: ast.AST, scope: Scope) -> Iterator[ast.Name]:
    """Names in the address of a load, those in calls inside it left out: they may do anything with them."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="load"), args=[address, *_]):
            if is_language(name, scope):
                yield from names_outside_calls(address)
        case _:
            pass


def is_language(name: str, scope: Scope) -> bool:
    """Whether a name is Triton's or Gluon's, or None where they are not installed, and nothing of the script's own."""
    found = scope.find(name)
    things = found.refs if found is not None else ()
    return bool(things) and all(isinstance(one, Library) and one.name.split(".")[0] == LANGUAGE for one in things)


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
