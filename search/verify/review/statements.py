"""Statements of a script that is followed: branches are both taken, loops twice."""

import ast
from collections.abc import Iterable

from search.verify.review.assign import assign, augment, bind_names, delete
from search.verify.review.calls import function_of, run_body
from search.verify.review.containers import elements
from search.verify.review.library import import_module, imported_name
from search.verify.review.loops import (
    run_for,
    run_while,
    written_names,
)
from search.verify.review.machine import Machine, branch, merged, truth
from search.verify.review.marks import Flag, State
from search.verify.review.trace import Kind
from search.verify.review.values import Class, Instance, Scope, Value, const, marks_of, ref

KEEPING = frozenset({"state_dict", "deepcopy", "save", "load_state_dict", "clone", "copy_"})


def run_block(machine: Machine, body: Iterable[ast.stmt], scope: Scope) -> bool:
    """Follow statements in order; whether the last one ended the block, as a return does."""
    return any(run_statement(machine, node, scope) for node in body)


def run_statement(machine: Machine, node: ast.stmt, scope: Scope) -> bool:
    """Follow one statement; whether nothing after it runs."""
    machine.spend()
    machine.line = node.lineno
    match node:
        case ast.Return():
            machine.frame.returns.append(machine.evaluate(node.value, scope) if node.value else const(None))
            return True
        case ast.Raise():
            if node.exc is not None:
                machine.evaluate(node.exc, scope)
            return True
        case ast.Break() | ast.Continue():
            return True
        case ast.If():
            return run_if(machine, node, scope)
        case ast.With() | ast.AsyncWith():
            return run_with(machine, node, scope)
        case ast.Try() | ast.TryStar():
            return run_try(machine, node, scope)
        case ast.Match():
            return run_match(machine, node, scope)
        case ast.For() | ast.AsyncFor():
            run_for(machine, node, scope)
        case ast.While():
            run_while(machine, node, scope)
        case _:
            run_simple(machine, node, scope)
    return False


def run_simple(machine: Machine, node: ast.stmt, scope: Scope) -> None:
    """Follow a statement that has no block, or defines something."""
    match node:
        case ast.Expr():
            machine.evaluate(node.value, scope)
        case ast.Assign():
            value = machine.evaluate(node.value, scope)
            for target in node.targets:
                assign(machine, target, value, scope)
        case ast.AnnAssign(value=value) if value is not None:
            assign(machine, node.target, machine.evaluate(value, scope), scope)
        case ast.AugAssign():
            augment(machine, node, scope)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            scope.bind(node.name, function_of(machine, node, scope))
        case ast.ClassDef():
            define_class(machine, node, scope)
        case ast.Import() | ast.ImportFrom():
            run_import(machine, node, scope)
        case ast.Global() | ast.Nonlocal():
            declare(node, scope)
        case ast.Delete():
            for target in node.targets:
                delete(machine, target, scope)
        case ast.Assert():
            machine.evaluate(node.test, scope)
        case _:
            pass


def declare(node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
    """Names that live in another scope."""
    for name in node.names:
        home = scope.root
        if isinstance(node, ast.Nonlocal):
            above = scope.parent
            while above is not None and name not in above.names:
                above = above.parent
            home = above or home
        scope.globals_[name] = home


def run_import(machine: Machine, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
    """Bind what is imported."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            full = f"{node.module or ''}.{alias.name}" if not node.level else f".{node.module or ''}.{alias.name}"
            if alias.name == "*":
                scope.root.starred.append(node.module or "")
                machine.event(Kind.IMPORT, node.module or "")
                continue
            machine.event(Kind.IMPORT, full)
            scope.bind(alias.asname or alias.name, imported_name(full))
        else:
            scope.bind(alias.asname or alias.name.split(".")[0], import_module(machine, alias))


def define_class(machine: Machine, node: ast.ClassDef, scope: Scope) -> None:
    """A class, its body followed."""
    made = Class(node, scope, [machine.evaluate(base, scope) for base in node.bases])
    inside = Scope(scope, is_class=True, owner=made)
    run_block(machine, node.body, inside)
    made.attrs = inside.names
    scope.bind(node.name, ref(made))


def run_if(machine: Machine, node: ast.If, scope: Scope) -> bool:
    """Follow both branches of a test that is not known, and the unlikely one of a setting as optional."""
    test = machine.evaluate(node.test, scope)
    fitted = note_selection(machine, node, test)
    can_body, can_else, is_setting = branch(test)
    if not (can_body and can_else):
        return run_block(machine, node.body if can_body else node.orelse, scope)
    is_on = truth(test)
    before = dict(scope.names)
    with machine.optionally(is_setting and is_on is False):
        ends_body = run_block(machine, node.body, scope)
    if fitted:
        mark_chosen(scope, node, fitted)
    after_body, scope.names = scope.names, dict(before)
    with machine.optionally(is_setting and is_on is True):
        ends_else = run_block(machine, node.orelse, scope)
    if ends_body:
        return ends_else
    scope.names = after_body if ends_else else merged(scope.names, after_body)
    # A setting decides: the likely branch ends the block although the other one would go on.
    return False


def mark_chosen(scope: Scope, node: ast.If, fitted: State) -> None:
    """Names that a branch on a validation loss assigns are fitted by it."""
    for name in written_names(node.body):
        if name in scope.names and not scope.names[name].refs:
            scope.names[name] = scope.names[name].marked({fitted})


def note_selection(machine: Machine, node: ast.If, test: Value) -> State | None:
    """What is kept or dropped by a validation loss: weights, or a number that is marked as fitted by it."""
    marks = marks_of(test)
    if not {Flag.VAL, Flag.LOSS} <= marks or machine.is_in_module:
        return None
    for inner in (one for statement in node.body for one in ast.walk(statement)):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in KEEPING:
            machine.event(Kind.SELECT, inner.func.attr, marks)
            return None
    names = {one.id for statement in node.body for one in ast.walk(statement) if isinstance(one, ast.Name)}
    if not names:
        return None
    fitted = State(machine.number(), is_model=False)
    machine.event(Kind.SELECT, "rounding" if Flag.ROUNDED in marks else "branch", marks, frozenset({fitted}))
    return fitted


def run_with(machine: Machine, node: ast.With | ast.AsyncWith, scope: Scope) -> bool:
    """Follow a with statement."""
    for item in node.items:
        value = machine.evaluate(item.context_expr, scope)
        if item.optional_vars is not None:
            assign(machine, item.optional_vars, entered(machine, value, scope), scope)
    return run_block(machine, node.body, scope)


def entered(machine: Machine, value: Value, scope: Scope) -> Value:
    """What a with statement binds."""
    for one in value.refs:
        if isinstance(one, Instance) and (enter := one.cls.find("__enter__")) is not None:
            return machine.call(enter, [value], scope)
    first = elements(machine, value, scope)
    return first[0] if first and not value.consts and not value.marks else value


def run_try(machine: Machine, node: ast.Try | ast.TryStar, scope: Scope) -> bool:
    """Follow the body, then each handler as if something in the body had failed."""
    ends = run_block(machine, node.body, scope)
    if not ends:
        ends = run_block(machine, node.orelse, scope)
    names = scope.names
    for handler in node.handlers:
        scope.names = dict(names)
        if handler.name:
            scope.bind(handler.name, Value())
        if not run_block(machine, handler.body, scope):
            names = merged(names, scope.names)
            ends = False
    scope.names = names
    return run_block(machine, node.finalbody, scope) or ends


def run_match(machine: Machine, node: ast.Match, scope: Scope) -> bool:
    """Follow every case; names in patterns get what the subject holds."""
    subject = machine.evaluate(node.subject, scope)
    before, after = dict(scope.names), None
    ends = True
    for case in node.cases:
        scope.names = dict(before)
        if not may_match(machine, case.pattern, subject, scope):
            continue
        bind_names(case.pattern, subject, scope)
        if not run_block(machine, case.body, scope):
            ends = False
            after = scope.names if after is None else merged(after, scope.names)
    scope.names = after or dict(before)
    return ends and any(isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None for case in node.cases)


def may_match(machine: Machine, pattern: ast.pattern, subject: Value, scope: Scope) -> bool:
    """Whether a subject may be of a pattern's class."""
    if not isinstance(pattern, ast.MatchClass) or not subject.refs:
        return True
    wanted = {one for one in machine.evaluate(pattern.cls, scope).refs if isinstance(one, Class)}
    own = [one.cls for one in subject.refs if isinstance(one, Instance)]
    return not wanted or len(own) < len(subject.refs) or any(wanted & ancestors(cls) for cls in own)


def ancestors(cls: Class) -> set[Class]:
    """A class and its bases."""
    found = {cls}
    for base in cls.bases:
        for one in base.refs:
            if isinstance(one, Class) and one is not cls:
                found |= ancestors(one)
    return found


def run_function_unasked(machine: Machine, name: str, value: Value) -> None:
    """Follow a function that nothing calls, with arguments of which nothing is known."""
    for one in value.refs:
        run_body(machine, one, name)
