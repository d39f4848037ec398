"""Runs isolated as a program of its own: defines what a script defines, builds its model and counts its parameters.

Nothing of the script's main part runs. Reads SCRIPT in its folder and writes what it found to FOUND. Standard library
only; torch is the one that the script imports.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import linecache
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SCRIPT, FOUND = "script.py", "found.json"
MODULE = "train_gpt_definitions"  # not __main__: what a script does when it is started stays undone
MODEL_NAME = re.compile(r"gpt|model|transformer", re.IGNORECASE)
SETTINGS_NAME = re.compile(r"hyper_?param|config|settings|args", re.IGNORECASE)
DEPTH = 8  # of names that stand for names


class Anything:
    """Stands for a library that is not installed: takes any call, and leaves a function that it decorates alone."""

    def __call__(self, *args: Any, **_: Any) -> Any:
        """The function that is decorated, or itself."""
        return args[0] if len(args) == 1 and inspect.isroutine(args[0]) else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _: Any) -> Any:
        return self


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds libraries that nobody else does: kernels for GPUs, compressors."""

    def __init__(self, roots: set[str]) -> None:
        self.roots = roots

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """A spec of a module that holds anything."""
        is_absent = fullname.split(".")[0] in self.roots
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if is_absent else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """A module whose every name stands for something."""
        module = types.ModuleType(spec.name)
        anything = Anything()
        module.__getattr__ = lambda name: getattr(anything, name)  # pyright: ignore[reportAttributeAccessIssue]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


def main() -> None:
    """Define, build, count, write."""
    text = Path(SCRIPT).read_text(encoding="utf-8")
    tree = ast.parse(text)
    absent = {root for root in imported(tree.body) if importlib.util.find_spec(root) is None}
    sys.meta_path.append(Absent(absent))
    try:
        name, model = build(tree, define(text))
        found = {"model": name, "num_parameters": count(model)}
    except BaseException as error:  # noqa: BLE001 - a script may raise anything, SystemExit included
        found = {"error": f"{type(error).__name__}: {error}"}
    Path(FOUND).write_text(json.dumps(found | {"absent": sorted(absent)}), encoding="utf-8")


def imported(statements: Sequence[ast.AST]) -> Iterator[str]:
    """Libraries that code cannot do without; where it tries an import, it copes by itself."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]
        elif not isinstance(node, ast.Try):
            yield from imported(list(ast.iter_child_nodes(node)))


def define(text: str) -> dict[str, Any]:
    """A script's names, after what it does when it is imported."""
    module = types.ModuleType(MODULE)
    module.__file__ = str(Path(SCRIPT).absolute())
    sys.modules[MODULE] = module  # dataclasses look their module up
    linecache.cache[SCRIPT] = len(text), None, text.splitlines(keepends=True), SCRIPT  # Triton reads its kernels there
    exec(compile(text, SCRIPT, "exec"), module.__dict__)
    return module.__dict__


def build(tree: ast.Module, namespace: dict[str, Any]) -> tuple[str, Any]:
    """The script's model, made as the script makes it; on torch's meta device where it can be, without its numbers.

    Raises:
        ValueError: there is no such thing, or it cannot be made.
    """
    if "torch" not in namespace:
        raise ValueError("expected a script that imports torch, got one that does not")
    torch: Any = sys.modules["torch"]
    if (model := build_recipe(tree, namespace)) is not None:
        return type(model).__name__, model
    reasons: list[str] = []
    for call, function in makers(tree, namespace):
        for device in ("meta", "cpu"):
            try:
                with torch.device(device):
                    model = Evaluator(namespace, function).value(call)
            except Exception as error:  # noqa: BLE001 - whatever a constructor raises; the next try may do
                reasons.append(f"{ast.unparse(call.func)}: {type(error).__name__}: {error}")
                continue
            if isinstance(model, torch.nn.Module):
                return type(model).__name__, model
    raise ValueError(reasons[-1] if reasons else "no call of a function or class that makes a model")


def build_recipe(tree: ast.Module, namespace: dict[str, Any]) -> Any:
    """The model of the recipe that a file of ours would run; None in other files."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="run"), args=[ast.Call(func=ast.Name(id="Recipe")) as recipe, *_]):
                config = eval(compile(ast.Expression(recipe), SCRIPT, "eval"), namespace).model
                torch: Any = sys.modules["torch"]
                given = {"config": config, "compute_dtype": torch.float32, "device": torch.device("cpu"), "seed": 0}
                names = inspect.signature(namespace["new_model"]).parameters
                return namespace["new_model"](**{name: given[name] for name in names if name in given})
            case _:
                continue
    return None


def makers(tree: ast.Module, namespace: Mapping[str, Any]) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Calls that may make the model, likely ones first, each with the function it stands in."""
    module_class: Any = sys.modules["torch"].nn.Module
    found: list[tuple[bool, ast.Call, ast.AST]] = []
    for function in [node for node in tree.body if not isinstance(node, ast.ClassDef)]:
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                made = namespace.get(node.func.id)
                if inspect.isclass(made) and issubclass(made, module_class):
                    found.append((not MODEL_NAME.search(node.func.id), node, function))
    yield from ((call, function) for _, call, function in sorted(found, key=lambda one: one[0]))


class Evaluator:
    """Values of expressions in a function that does not run: of names that it sets plainly, and of global ones."""

    def __init__(self, namespace: dict[str, Any], function: ast.AST) -> None:
        self.namespace = namespace
        self.assigned: dict[str, ast.expr] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.assigned.setdefault(node.targets[0].id, node.value)

    def value(self, call: ast.Call) -> Any:
        """What a call makes; arguments that cannot be known are left to their defaults."""
        made = self.namespace[ast.unparse(call.func)]
        arguments = [self.argument(argument, 0) for argument in call.args]
        keywords = {}
        for keyword in call.keywords:
            try:
                if keyword.arg is not None:
                    keywords[keyword.arg] = self.argument(keyword.value, 0)
            except Exception:  # noqa: BLE001 - its default may do; if not, the constructor says so
                continue
        return made(*arguments, **keywords)

    def argument(self, expression: ast.expr, depth: int) -> Any:
        """An expression's value, with the values of the names in it."""
        names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
        known: dict[str, Any] = {}
        for name in names - self.namespace.keys() - {"__builtins__"}:
            known[name] = self.named(name, depth)
        return eval(compile(ast.Expression(expression), SCRIPT, "eval"), {**self.namespace, **known})

    def named(self, name: str, depth: int) -> Any:
        """What a local name stands for: what it is set to, else the script's settings."""
        if name in self.assigned and depth < DEPTH:
            return self.argument(self.assigned[name], depth + 1)
        for key, candidate in self.namespace.items():
            if SETTINGS_NAME.search(key) and inspect.isclass(candidate) and candidate.__module__ == MODULE:
                return candidate()
        raise ValueError(f"{name}: expected a value that the script sets, got none")


def count(model: Any) -> int:
    """Parameters of a model, shared ones once."""
    parameters: Sequence[Any] = list(model.parameters())
    return sum(parameter.numel() for parameter in parameters)


if __name__ == "__main__":
    main()
