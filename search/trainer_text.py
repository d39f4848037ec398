"""The trainer package as text: its modules parsed, what each imports and defines, and their import order."""

import ast
import symtable
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from search.errors import BundleError


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the package.

    Attributes:
        name: without package and suffix.
        shown: as errors name it, such as trainer/config.py.
    """

    name: str
    shown: str
    text: str
    tree: ast.Module
    symbols: symtable.SymbolTable

    def error(self, line: int, message: str) -> BundleError:
        """An error at a line of this module."""
        return BundleError(f"{self.shown}:{line}: {message}")


@dataclass(frozen=True, slots=True)
class OutsideImport:
    """One name imported from a library.

    Attributes:
        target: what is imported, such as torch.nn.functional.
        name: the name it binds.
        bound: what the name then means; for `import a.b` the name a means a.
        origin: library module of a `from` import, "" for a plain import.
        is_guarded: stands in try/except ImportError.
    """

    target: str
    name: str
    bound: str
    origin: str
    spelling: str
    line: int
    is_guarded: bool


def parse_module(package: str, name: str, text: str) -> Module:
    """A module from its text.

    Raises:
        BundleError: the text is not Python.
    """
    shown = f"{package}/{name}.py"
    try:
        return Module(name, shown, text, ast.parse(text), symtable.symtable(text, shown, "exec"))
    except SyntaxError as error:
        raise BundleError(f"{shown}:{error.lineno}: expected Python, got a syntax error: {error.msg}") from error


def read_package(folder: Path) -> list[Module]:
    """All modules of a package in name order. __init__.py may hold a docstring only.

    Raises:
        BundleError: the folder has no modules or holds packages, __init__.py runs code, or a module is not Python.
    """
    paths = sorted(folder.glob("*.py"))
    nested = sorted(path.parent.name for path in folder.glob("*/*.py"))
    if nested:
        raise BundleError(f"{folder.name}: expected modules only, got the package {nested[0]}")
    modules = [parse_module(folder.name, path.stem, path.read_text(encoding="utf-8")) for path in paths]
    for module in modules:
        if module.name == "__init__" and not all(is_string_statement(node) for node in module.tree.body):
            raise module.error(1, "must hold a docstring only")
    kept = [module for module in modules if module.name != "__init__"]
    if not kept:
        raise BundleError(f"{folder.name}: expected Python modules, got none")
    return kept


def is_string_statement(node: ast.AST) -> bool:
    """Whether a statement is a bare string: a docstring, or a no-op."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def own_imports(module: Module, package: str) -> Iterator[ast.ImportFrom]:
    """Top-level imports from modules of the same package."""
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            yield node


def spell(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """One imported name as a statement of its own."""
    renamed = f" as {alias.asname}" if alias.asname else ""
    start = f"from {node.module} " if isinstance(node, ast.ImportFrom) else ""
    return f"{start}import {alias.name}{renamed}"


def imports_of(node: ast.Import | ast.ImportFrom, is_guarded: bool) -> Iterator[OutsideImport]:
    """The names one import statement binds."""
    for alias in node.names:
        origin = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        target = f"{origin}.{alias.name}" if origin else alias.name
        # `import a.b` binds a; `import a.b as c` and `from a import b` bind what they name.
        name = alias.asname or (alias.name if origin else alias.name.split(".")[0])
        bound = target if alias.asname or origin else name
        yield OutsideImport(target, name, bound, origin, spell(node, alias), node.lineno, is_guarded)


def outside_imports(module: Module, package: str) -> Iterator[OutsideImport]:
    """Top-level imports of libraries, those in a guard included."""
    own = set(own_imports(module, package))
    for node in module.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in own:
            yield from imports_of(node, is_guarded=False)
        elif isinstance(node, ast.Try):
            for inner in node.body:
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield from imports_of(inner, is_guarded=True)


def assigned_names(node: ast.stmt) -> Iterator[tuple[str, int]]:
    """Names an assignment statement binds."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id, node.lineno


def definitions(module: Module, package: str) -> Mapping[str, int]:
    """Every top-level name the module gives meaning to, guarded imports included, with its first line."""
    found: dict[str, int] = {}
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.setdefault(node.name, node.lineno)
        nested = [node, *node.orelse] if isinstance(node, ast.Try) else [node]
        for inner in nested:
            for name, line in assigned_names(inner):
                found.setdefault(name, line)
    for outside in outside_imports(module, package):
        if outside.is_guarded:
            found.setdefault(outside.name, outside.line)
    return found


def in_import_order(modules: Sequence[Module], package: str) -> list[Module]:
    """Modules so that each stands after those it imports from; ties by name.

    Raises:
        BundleError: an imported module does not exist, or imports form a circle.
    """
    by_name = {module.name: module for module in modules}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for module in modules:
        sorter.add(module.name)
        for node in own_imports(module, package):
            target = (node.module or "").partition(".")[2]
            if target not in by_name:
                raise module.error(node.lineno, f"expected a module of {package}, got {node.module}")
            sorter.add(module.name, target)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise BundleError(f"{package}: imports must not form a circle, got {circle}") from error
    ordered: list[Module] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [by_name[name] for name in ready]
        sorter.done(*ready)
    return ordered
