"""Builtins that look names up or run text as code."""

import ast

from search.verify.review.attributes import attribute
from search.verify.review.iteration_calls import (
    first,
)
from search.verify.review.machine import Call, Machine, instances
from search.verify.review.marks import Flag
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Class,
    Instance,
    Library,
    Scope,
    Table,
    Value,
    const,
    join,
    marks_of,
    ref,
)

MAX_SOURCE = 2_000_000


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
        tree = ast.parse(source, mode="eval") if name.endswith("eval") else ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return Value(marks)
    if isinstance(tree, ast.Expression):
        return machine.evaluate(tree.body, call.scope)
    machine.run(tree.body, call.scope)
    return const(None)


def names_of(machine: Machine, call: Call, name: str) -> Value:
    """Follow globals, locals and vars."""
    for one in first(call).refs if call.args else ():
        if isinstance(one, Library):
            return ref(one)
        if isinstance(one, Instance):
            return ref(Table(dict[object, Value](one.attrs)))  # type: ignore[arg-type]
    scope: Scope = call.scope.root if name == "globals" else call.scope
    return ref(Table(dict[object, Value](scope.names)))  # type: ignore[arg-type]


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
