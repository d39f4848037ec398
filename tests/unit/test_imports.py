"""The tree's layering and sizes, read from the source: who may import what, and how long things may be."""

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("trainer", "spaces", "search")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60

CONFIGS = ("trainer.errors", "trainer.checks", "trainer.*config")
# Which modules of ours a module may import; the first row that matches it counts.
OWN_IMPORTS = (
    ("trainer.errors", ()),
    ("trainer.checks", ("trainer.errors",)),
    ("trainer.*config", CONFIGS),
    ("trainer.result", CONFIGS),
    ("trainer.roles", CONFIGS),
    ("trainer.events", (*CONFIGS, "trainer.result")),
    ("trainer.*", ("trainer.*",)),
    ("spaces.*", ("spaces.*", *CONFIGS, "trainer.result")),
    ("search.*", ("search.*", "spaces.*", *CONFIGS, "trainer.result", "trainer.roles", "trainer.events")),
)
# Which libraries a module may import besides the standard library; the first row that matches counts.
LIBRARIES = (
    ("trainer.*config", ()),
    ("trainer.checks", ()),
    ("trainer.result", ()),
    ("trainer.roles", ()),
    ("trainer.errors", ()),
    ("trainer.events", ()),
    ("trainer.*", ("torch", "numpy", "sentencepiece", "zstandard", "brotli", "triton", "flash_attn*")),
    ("spaces.*", ()),
    ("search.*", None),  # any but those below
)
# Libraries that only these modules may import. None of search may import torch: the driver needs none.
OWNERS = {
    "torch": ("trainer.*",),
    "optuna": (
        "search.study",
        "search.store",
        "search.loop",
        "search.promote",
        "search.dashboard",
        "search.notes",
        "search.sampler*",
    ),
    "optuna_dashboard": ("search.dashboard",),
    "sqlalchemy": ("search.database", "search.ledger", "search.store", "search.dashboard", "search.migrations.*"),
    "alembic": ("search.database", "search.ledger", "search.migrations.*"),
    "ray": ("search.runner",),
    "typer": ("search.cli*",),
}
READS_ENVIRONMENT = ("trainer.environment", "search.cli", "search.launch")  # search.launch has the worker's entry

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) or fnmatch(f"{name}.", pattern) for pattern in patterns)


MODULES = {name_of(path) for path in FILES}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import, wherever it stands; for `from package import module`, that module."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node.lineno, full if full in MODULES else node.module


def by_name(path: Path) -> str:
    return name_of(path)


each_file = pytest.mark.parametrize("path", FILES, ids=by_name)


@each_file
def test_own_imports_follow_the_layers(path: Path) -> None:
    name = name_of(path)
    allowed = next((allowed for pattern, allowed in OWN_IMPORTS if matches(name, (pattern,))), ())
    own = [(line, module) for line, module in imports(path) if module.split(".")[0] in PACKAGES]
    assert [f"{path.name}:{line} imports {module}" for line, module in own if not matches(module, allowed)] == []


@each_file
def test_libraries_stay_with_their_owners(path: Path) -> None:
    name = name_of(path)
    allowed = next((allowed for pattern, allowed in LIBRARIES if matches(name, (pattern,))), ())
    wrong: list[str] = []
    for line, module in imports(path):
        library = module.split(".")[0]
        if library in PACKAGES or library in sys.stdlib_module_names:
            continue
        owners = OWNERS.get(library, ("*",))
        if (allowed is not None and not matches(library, allowed)) or not matches(name, owners):
            wrong.append(f"{path.name}:{line} imports {module}")
    assert wrong == []


@each_file
def test_no_relative_and_no_star_imports(path: Path) -> None:
    wrong = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and (node.level > 0 or any(alias.name == "*" for alias in node.names))
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path).startswith("trainer.")], ids=by_name)
def test_trainer_imports_its_own_as_names_at_the_top(path: Path) -> None:
    tree = tree_of(path)
    own = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "trainer" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "trainer")
    ]
    wrong = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for node in own
        if isinstance(node, ast.Import) or node not in tree.body or any(alias.asname for alias in node.names)
    ]
    assert wrong == []


def test_no_import_cycles() -> None:
    graph = {
        name_of(path): {module for _, module in imports(path) if module in MODULES - {name_of(path)}} for path in FILES
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@each_file
def test_only_named_modules_read_the_environment(path: Path) -> None:
    if name_of(path) in READS_ENVIRONMENT:
        return
    wrong = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}
    ]
    assert wrong == []


@each_file
def test_sizes(path: Path) -> None:
    wrong: list[str] = []
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    if num_lines > MAX_FILE_LINES:
        wrong.append(f"{path.name} has {num_lines} lines")
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                wrong.append(f"{path.name}:{node.lineno} {node.name} has {length} lines")
    assert wrong == []


@each_file
def test_every_module_says_what_it_owns(path: Path) -> None:
    docstring = ast.get_docstring(tree_of(path))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def test_the_rules_see_a_violation(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text("def f():\n    import torch.nn\n    from search import cli, errors\n", encoding="utf-8")
    found = {module for _, module in imports(path)}
    assert {"torch.nn", "search.errors"} <= found
    assert matches("search.runner", OWNERS["ray"])
    assert not matches("search.loop", OWNERS["ray"])
    assert not matches("trainer.model", ("trainer.config",))
