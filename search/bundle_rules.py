"""What a trainer module may hold, so that all modules joined in one file mean what they mean apart.

Every rule raises BundleError with file and line; the rules are those of CONTRIBUTING.md, "The trainer stays bundlable".
"""

import ast
import builtins
import symtable
from collections.abc import Iterator, Sequence

from search.trainer_text import (
    Module,
    OutsideImport,
    definitions,
    is_string_statement,
    outside_imports,
    own_imports,
)

FORBIDDEN_NAMES = frozenset(
    {"__name__", "__file__", "__doc__", "__spec__", "__package__", "__loader__", "__builtins__"}
    | {"__import__", "globals", "locals", "vars", "exec", "eval", "compile"}
)
FORBIDDEN_ATTRIBUTES = frozenset({"__module__", "__globals__", "__doc__"})
FORBIDDEN_LIBRARIES = frozenset(
    {"importlib", "pickle", "marshal", "shelve", "dill", "cloudpickle", "runpy", "__future__"}
)
# torch.save and torch.load pickle.
FORBIDDEN_CALLS = frozenset({"torch.save", "torch.load"})
# Calls a module constant may make: they run at import but have no effect and depend on nothing.
CONSTANT_CALLS = frozenset(
    {"frozenset", "tuple", "range", "float", "int", "bytes", "len", "struct.Struct", "struct.calcsize", "re.compile"}
    | {"math.log", "math.sqrt", "math.log2", "MappingProxyType", "TypeVar", "NewType"}
)
CONSTANT_NODES = (
    *(ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.Dict, ast.Set),
    *(ast.BinOp, ast.UnaryOp, ast.Starred, ast.JoinedStr, ast.FormattedValue, ast.keyword),
    *(ast.expr_context, ast.operator, ast.unaryop),
)


def check_package(modules: Sequence[Module], package: str) -> None:
    """Check every rule on every module.

    Raises:
        BundleError: a rule is broken; the message names file, line, what was expected and what came.
    """
    for module in modules:
        for node in module.tree.body:
            check_statement(module, node)
        check_imports(module, package)
        check_names(module)
        check_resolves(module, package)
    check_own_names(modules, package)
    check_guards(modules, package)
    check_unique(modules, package)
    check_spelling(modules, package)


def check_statement(module: Module, node: ast.stmt) -> None:
    """Only imports, definitions, constants and guarded imports at the top: nothing runs at import."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return
        case ast.Expr() if is_string_statement(node):
            return
        case ast.Try():
            check_guard(module, node)
        case ast.Assign() | ast.AnnAssign():
            check_constant(module, node)
        case _:
            expected = "expected an import, a def, a class, a constant or a guarded import at the top"
            raise module.error(node.lineno, f"{expected}, got {ast.unparse(node).splitlines()[0]!r}")


def check_constant(module: Module, node: ast.Assign | ast.AnnAssign) -> None:
    """A constant is one name bound to an expression without effects."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if len(targets) != 1 or not isinstance(targets[0], ast.Name):
        raise module.error(node.lineno, f"expected one name to be assigned at the top, got {ast.unparse(node)!r}")
    if node.value is None:
        raise module.error(node.lineno, f"expected a value, got {ast.unparse(node)!r}")
    for inner in ast.walk(node.value):
        is_harmless_call = isinstance(inner, ast.Call) and ast.unparse(inner.func) in CONSTANT_CALLS
        if not (is_harmless_call or isinstance(inner, CONSTANT_NODES)):
            raise module.error(
                node.lineno, f"expected a constant, got {ast.unparse(node.value)!r}, which runs at import"
            )


def check_guard(module: Module, node: ast.Try) -> None:
    """A guard is imports of libraries, `except ImportError`, and constants that stand in for them."""
    handlers = [ast.unparse(handler.type) if handler.type else "everything" for handler in node.handlers]
    if handlers not in (["ImportError"], ["ModuleNotFoundError"]) or node.finalbody:
        raise module.error(node.lineno, "expected try: import ... except ImportError: name = None, got another form")
    for inner in node.body:
        if not isinstance(inner, ast.Import | ast.ImportFrom):
            raise module.error(inner.lineno, f"expected an import inside a guard, got {ast.unparse(inner)!r}")
    for inner in [*node.handlers[0].body, *node.orelse]:
        if not isinstance(inner, ast.Assign):
            raise module.error(inner.lineno, f"expected name = None in a guard, got {ast.unparse(inner)!r}")
        check_constant(module, inner)


def top_level_imports(module: Module) -> set[ast.AST]:
    """Import statements at the top of a module or in a guard there."""
    top: list[ast.stmt] = []
    for node in module.tree.body:
        top += node.body if isinstance(node, ast.Try) else [node]
    return {node for node in top if isinstance(node, ast.Import | ast.ImportFrom)}


def check_imports(module: Module, package: str) -> None:
    """Imports stand at the top, none is relative or starred, own ones are `from package.x import Name`."""
    top = top_level_imports(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            if node not in top:
                raise module.error(node.lineno, f"expected imports at the top only, got {ast.unparse(node)!r} inside")
            check_import(module, node, package)


def check_import(module: Module, node: ast.Import | ast.ImportFrom, package: str) -> None:
    """One import statement at the top."""
    shown = repr(ast.unparse(node))
    if isinstance(node, ast.ImportFrom):
        if node.level:
            raise module.error(node.lineno, f"expected an absolute import, got {shown}")
        if any(alias.name == "*" for alias in node.names):
            raise module.error(node.lineno, f"expected named imports, got {shown}")
    origins = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    for origin in origins:
        root, _, rest = origin.partition(".")
        if root in FORBIDDEN_LIBRARIES:
            raise module.error(node.lineno, f"must not be imported: {root}")
        if root == package:
            is_plain = isinstance(node, ast.ImportFrom) and rest and "." not in rest
            is_guarded = node not in module.tree.body
            if not is_plain or is_guarded or any(alias.asname for alias in node.names):
                raise module.error(node.lineno, f"expected `from {package}.x import Name`, got {shown}")


def check_names(module: Module) -> None:
    """No introspection of modules, no code from text, no pickles, no `global`."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=name) if name in FORBIDDEN_NAMES:
                raise module.error(node.lineno, f"must not be used: {name}")
            case ast.Attribute(attr=name) if name in FORBIDDEN_ATTRIBUTES or ast.unparse(node) in FORBIDDEN_CALLS:
                raise module.error(node.lineno, f"must not be used: {ast.unparse(node)}")
            case ast.Global():
                raise module.error(node.lineno, f"expected no mutable state in a module, got {ast.unparse(node)!r}")
            case _:
                pass


def global_reads(table: symtable.SymbolTable) -> Iterator[str]:
    """Names a module's code looks up at module level or among the builtins."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from global_reads(child)


def check_resolves(module: Module, package: str) -> None:
    """Every global name is the module's own, imported by it, or a builtin; another module's would only work joined."""
    known = set(dir(builtins)) | set(definitions(module, package))
    known |= {outside.name for outside in outside_imports(module, package)}
    known |= {alias.name for node in own_imports(module, package) for alias in node.names}
    # Names with two underscores are Python's own, or refused by check_names.
    unknown = {name for name in global_reads(module.symbols) if name not in known and not name.startswith("__")}
    for name in sorted(unknown):
        nodes = (node for node in ast.walk(module.tree) if isinstance(node, ast.Name) and node.id == name)
        line = next((node.lineno for node in nodes), 1)
        raise module.error(line, f"expected a name that is defined or imported here, got {name}")


def check_own_names(modules: Sequence[Module], package: str) -> None:
    """What is imported from an own module is defined there, not merely imported there."""
    defined = {f"{package}.{module.name}": definitions(module, package) for module in modules}
    for module in modules:
        for node in own_imports(module, package):
            for alias in node.names:
                if alias.name not in defined.get(node.module or "", {}):
                    raise module.error(node.lineno, f"expected a name that {node.module} defines, got {alias.name}")


def check_unique(modules: Sequence[Module], package: str) -> None:
    """A top-level name means one thing in the whole package, and never hides a builtin."""
    owner: dict[str, str] = {}
    libraries = {
        outside.name: module.shown
        for module in modules
        for outside in outside_imports(module, package)
        if not outside.is_guarded
    }
    for module in modules:
        for name, line in definitions(module, package).items():
            if name.startswith("__") or hasattr(builtins, name):
                raise module.error(line, f"expected a name that hides nothing of Python, got {name}")
            taken = owner.get(name) or libraries.get(name)
            if taken:
                raise module.error(line, f"expected a name unique in {package}, got {name}, also in {taken}")
            owner[name] = module.shown


def all_outside(modules: Sequence[Module], package: str) -> Iterator[tuple[Module, OutsideImport]]:
    """Every library import of the package with its module."""
    for module in modules:
        for outside in outside_imports(module, package):
            yield module, outside


def check_spelling(modules: Sequence[Module], package: str) -> None:
    """A library is imported in one spelling, and a name means one library."""
    spelling_of: dict[str, str] = {}
    bound_to: dict[str, str] = {}
    for module, outside in all_outside(modules, package):
        first = spelling_of.setdefault(outside.target, outside.spelling)
        if first != outside.spelling:
            raise module.error(outside.line, f"expected the spelling {first!r}, got {outside.spelling!r}")
        if hasattr(builtins, outside.name):
            raise module.error(outside.line, f"expected a name that hides nothing of Python, got {outside.name}")
        meaning = bound_to.setdefault(outside.name, outside.bound)
        if meaning != outside.bound:
            raise module.error(outside.line, f"expected {outside.name} to mean {meaning}, got {outside.bound}")


def check_guards(modules: Sequence[Module], package: str) -> None:
    """An optional library is guarded in one module and imported nowhere else."""
    guards: dict[str, str] = {}
    for module, outside in all_outside(modules, package):
        if outside.is_guarded:
            guards.setdefault(outside.target, module.shown)
    for module, outside in all_outside(modules, package):
        for target, home in guards.items():
            is_same = outside.target == target or outside.target.startswith(f"{target}.")
            if is_same and (module.shown != home or not outside.is_guarded):
                message = f"expected the optional library {target} only in the guard of {home}"
                raise module.error(outside.line, f"{message}, got {outside.spelling!r}")
