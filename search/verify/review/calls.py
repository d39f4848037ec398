"""Calls of the script's own functions and classes."""

import ast

from search.verify.review.attributes import decorators
from search.verify.review.machine import Call, Frame, Machine, only
from search.verify.review.marks import NO_MARKS, Computed, Flag, Marks, State
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Class,
    Function,
    Instance,
    Items,
    Method,
    Partial,
    Scope,
    Table,
    Value,
    all_marks,
    const,
    join,
    ref,
)

KERNELS = frozenset({"jit", "autotune", "heuristics"})


def function_of(machine: Machine, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> Value:
    """A function; other decorators than the usual ones are called with it."""
    function = Function(node, scope, scope.owner if scope.is_class else None)
    value = ref(function)
    for one in reversed(node.decorator_list):
        made = machine.evaluate(one, scope)
        wraps = [thing for thing in made.refs if isinstance(thing, Function)]
        if wraps:
            value = join(machine.call(made, [value], scope), value)
    return value


def invoke_own(machine: Machine, call: Call, thing: object) -> Value | None:
    """What calling one of the script's own things gives; None if it is not one."""
    match thing:
        case Function():
            first = [call.receiver] if is_class_method(thing) and call.receiver else []
            return run_function(machine, thing, [*first, *call.args], call.keywords)
        case Method():
            return run_function(machine, thing.function, [thing.receiver, *call.args], call.keywords)
        case Partial():
            inner = Call(call.node, call.name, thing.callee, None, [*thing.args, *call.args], call.keywords, call.scope)
            inner.keywords = {**thing.keywords, **call.keywords}
            return machine.invoke(inner)
        case Class():
            return construct(machine, thing, call)
        case Instance():
            return call_object(machine, thing, call)
        case Items() if thing.items:
            value = call.args[0] if call.args else Value()
            for one in thing.items:
                value = machine.call(one, [value, *call.args[1:]], call.scope)
            return value
        case _:
            return None


def is_class_method(function: Function) -> bool:
    """Whether a function gets its class as first argument."""
    return "classmethod" in decorators(function)


def run_function(machine: Machine, function: Function, args: list[Value], keywords: dict[str, Value]) -> Value:
    """Follow a call."""
    if decorators(function) & KERNELS or machine.is_too_deep(function):
        return Value(all_marks([*args, *keywords.values()]))
    scope = Scope(function.scope, owner=function.scope.owner)
    bind_arguments(machine, function, args, keywords, scope)
    is_module = machine.is_in_module or (function.owner is not None and function.owner.is_module)
    is_hook = any(function in hook.refs for hook in machine.hooks)
    frame = Frame(function, is_module and not is_hook)
    machine.frames.append(frame)
    line = machine.line
    try:
        if isinstance(function.node, ast.Lambda):
            return machine.evaluate(function.node.body, scope)
        ended = machine.run(function.node.body, scope)
    finally:
        machine.frames.pop()
        machine.line = line
    if frame.yields:
        return ref(Items(frame.yields, is_exact=False))
    if not frame.returns:
        return const(None)
    return join(*frame.returns) if ended else join(*frame.returns, const(None))


def bind_arguments(
    machine: Machine, function: Function, args: list[Value], keywords: dict[str, Value], scope: Scope
) -> None:
    """Give parameters their values."""
    spec = function.node.args
    names = [one.arg for one in (*spec.posonlyargs, *spec.args)]
    for name, value in zip(names, args, strict=False):
        scope.names[name] = value
    if spec.vararg:
        scope.names[spec.vararg.arg] = ref(Items(list(args[len(names) :])))
    known = {*names, *(one.arg for one in spec.kwonlyargs)}
    scope.names.update({name: value for name, value in keywords.items() if name in known})
    if spec.kwarg:
        rest: dict[object, Value] = {name: value for name, value in keywords.items() if name not in known}
        scope.names[spec.kwarg.arg] = ref(Table(rest))  # type: ignore[arg-type]
    defaults = [*zip(reversed(names), reversed(spec.defaults), strict=False)]
    defaults += [(one.arg, node) for one, node in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if node]
    for name, node in defaults:
        if name not in scope.names:
            scope.names[name] = machine.evaluate(node, function.scope)
    for name in known:
        scope.names.setdefault(name, Value())


def construct(machine: Machine, cls: Class, call: Call) -> Value:
    """Follow the making of an object."""
    one = Instance(cls, machine.number())
    value = ref(one)
    init = cls.find("__init__")
    own = [thing for thing in init.refs if isinstance(thing, Function)] if init else []
    if own:
        for function in own:
            run_function(machine, function, [value, *call.args], call.keywords)
        return value
    fields = annotated(cls)
    for name, arg in zip(fields, call.args, strict=False):
        one.attrs[name] = arg
    one.attrs.update(call.keywords)
    if not fields and call.values:
        # Made by a base class from a library, such as an optimizer of its parameters.
        return Value(frozenset(only(all_marks(call.values), State)), (), (one,))
    post = cls.find("__post_init__")
    if post is not None:
        machine.call(post, [value], call.scope)
    return value


def annotated(cls: Class) -> list[str]:
    """The fields of a dataclass or named tuple, those of its bases first."""
    names: list[str] = []
    for base in cls.bases:
        for one in base.refs:
            if isinstance(one, Class):
                names += annotated(one)
    return names + [
        node.target.id
        for node in cls.node.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def call_object(machine: Machine, one: Instance, call: Call) -> Value:
    """Follow a call of an object: of a torch module, its forward and the hooks."""
    name = "__call__" if one.cls.find("__call__") is not None else "forward"
    method = one.cls.find(name)
    if not one.cls.is_module:
        return (
            Value(all_marks(call.values))
            if method is None
            else machine.call(method, [ref(one), *call.args], call.scope)
        )
    own = [thing for thing in method.refs if isinstance(thing, Function)] if method else []
    is_outermost = machine.model_depth == 0
    machine.model_depth += 1
    given = [run_function(machine, function, [ref(one), *call.args], call.keywords) for function in own]
    machine.model_depth -= 1
    run_hooks(machine, one, call)
    result = join(*given) if given else Value(all_marks(call.values))
    return model_output(machine, one, call, result, is_outermost=is_outermost)


def run_hooks(machine: Machine, one: Instance, call: Call) -> None:
    """Follow what is hooked to models, as if it saw what this one is given."""
    if machine.model_depth or not machine.hooks:
        return
    inputs = Value(all_marks(call.values) | {Flag.HIDDEN})
    for hook in list(machine.hooks):
        machine.call(hook, [ref(one), ref(Items([inputs])), inputs], call.scope)


def model_output(machine: Machine, one: Instance, call: Call, result: Value, *, is_outermost: bool) -> Value:
    """A model's result, marked as computed with its weights."""
    marks: Marks = frozenset({State(one.number, is_model=True), Flag.HIDDEN}) | machine.stored.get(one.number, NO_MARKS)
    if is_outermost and not machine.is_in_module:
        event = machine.event(Kind.LOSS, call.name, all_marks(call.values) | marks, all_marks(call.values))
        marks |= {Computed(event.where)}
    return mark_parts(result, marks)


def mark_parts(value: Value, marks: Marks) -> Value:
    """A value, and the parts of a tuple, with more marks."""
    refs = tuple(
        Items([mark_parts(item, marks) for item in one.items], one.is_exact) if isinstance(one, Items) else one
        for one in value.refs
    )
    return Value(value.marks | marks, value.consts if not value.refs else (), refs, value.is_open)


def run_body(machine: Machine, thing: object, name: str) -> None:
    """Follow a function as if it were called with arguments of which nothing is known."""
    if isinstance(thing, Function) and thing.name == name:
        run_function(machine, thing, [], {})
