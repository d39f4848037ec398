"""One recipe as one file: the trainer's modules joined, configured and packed into the train_gpt.py that ships."""

import ast
import base64
import hashlib
import inspect
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from search.bundle_rules import all_outside, check_package
from search.errors import BundleError
from search.render import render
from search.strip import strip
from search.trainer_text import (
    Module,
    definitions,
    in_import_order,
    read_package,
)
from trainer.config import Budget, Recipe

HEADER = """\
# The trainer as one readable file. This copy was not executed: train_gpt.py was.
# That file holds the same code without comments and docstrings, compressed and base85-encoded.
"""
# Triton reads a kernel's source through linecache, so the text is registered under a name of its own before it runs.
# It runs in the globals of __main__: dataclasses look their module up by name. The name must not look like <string>,
# which torch.compile skips. base85 has neither quotes nor backslashes.
STUB_HEAD = """\
# Self-extracting: base85 of LZMA of the Python source that runs.
import base64, linecache, lzma
text = lzma.decompress(base64.b85decode(\""""
STUB_TAIL = """\")).decode()
name = "train_gpt.unpacked.py"
linecache.cache[name] = len(text), None, text.splitlines(True), name
exec(compile(text, name, "exec"))
"""
# Fixed, so that the same text gives the same bytes. pb=0 suits text: 0.4 % smaller than the default of 2.
LZMA_FILTERS = [
    {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22, "lc": 3, "lp": 0, "pb": 0}
]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trainer file for one recipe and budget.

    Attributes:
        source: readable, with comments and docstrings.
        packed: the bytes of train_gpt.py.
        sha256: of packed.
    """

    source: str
    packed: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class FlatTrainer:
    """The trainer's modules joined, before a recipe is added: taken once, a study is immune to later edits.

    Attributes:
        names: the top-level names of all modules.
    """

    text: str
    names: frozenset[str]


def trainer_folder() -> Path:
    """Where the trainer package of this installation lies."""
    return Path(inspect.getfile(Recipe)).parent


def flatten(package: Path) -> FlatTrainer:
    """Join the modules of a trainer package.

    Raises:
        BundleError: a module breaks a rule of bundle_rules, or the package has no main.run.
    """
    modules = read_package(package)
    check_package(modules, package.name)
    main = next((module for module in modules if module.name == "main"), None)
    if main is None or "run" not in definitions(main, package.name):
        raise BundleError(f"{package.name}/main.py: expected a function run(recipe, budget, code_path), got none")
    ordered = in_import_order(modules, package.name)
    parts = [f"# ---- {module.shown}\n\n{body_text(module)}" for module in ordered]
    names = frozenset(name for module in modules for name in definitions(module, package.name))
    return FlatTrainer("\n\n\n".join([HEADER + import_lines(ordered, package.name), *parts]) + "\n", names)


def import_lines(modules: Sequence[Module], package: str) -> str:
    """All library imports, each name once; guarded ones stay where they are."""
    plain: set[str] = set()
    named: dict[str, set[str]] = {"pathlib": {"Path"}}  # the last line of the file needs it
    for _, outside in all_outside(modules, package):
        if outside.is_guarded:
            continue
        if outside.origin:
            named.setdefault(outside.origin, set()).add(outside.spelling.partition(" import ")[2])
        else:
            plain.add(outside.spelling)
    from_lines = [f"from {origin} import {', '.join(sorted(names))}" for origin, names in sorted(named.items())]
    return "\n".join([*sorted(plain), *from_lines])


def body_text(module: Module) -> str:
    """A module's text without its top-level imports.

    Raises:
        BundleError: an import shares its line with other code.
    """
    lines = module.text.split("\n")
    kept: list[ast.stmt] = []
    for node in module.tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
        else:
            kept.append(node)
    text = "\n".join(without_blank_runs(lines))
    if ast.dump(ast.parse(text)) != ast.dump(ast.Module(kept, [])):
        raise module.error(1, "expected every import on lines of its own, got one that shares a line with other code")
    return text


def without_blank_runs(lines: Sequence[str]) -> list[str]:
    """Lines where at most two blank ones follow each other, none first or last."""
    kept: list[str] = []
    for line in lines:
        if line.strip() or (kept and any(previous.strip() for previous in kept[-2:])):
            kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def call_of_run(recipe: Recipe, budget: Budget, names: frozenset[str]) -> str:
    """The file's last statement: run the recipe under the budget.

    Raises:
        BundleError: a value has no literal, or its type is not one of the trainer's.
    """
    arguments = [render(recipe, "", 12), render(budget, "budget", 12), "Path(__file__)"]
    for node in ast.walk(ast.parse("\n".join(arguments))):
        if isinstance(node, ast.Name) and node.id not in names | {"Path", "__file__"}:
            raise BundleError(f"bundle: expected configs of the trainer, got {node.id}")
    lines = "\n".join(f"            {argument}," for argument in arguments)
    return f'\n\nif __name__ == "__main__":\n    raise SystemExit(\n        run(\n{lines}\n        )\n    )\n'


def pack(text: str) -> bytes:
    """A self-extracting Python file that runs text. The same text gives the same bytes."""
    payload = lzma.compress(text.encode(), format=lzma.FORMAT_ALONE, filters=LZMA_FILTERS)
    return (STUB_HEAD + base64.b85encode(payload).decode() + STUB_TAIL).encode()


def unpack(packed: bytes) -> str:
    """The text that a packed file runs, taken out without running anything.

    Raises:
        BundleError: the file is not one of pack's, byte for byte around its payload.
    """
    head, tail = STUB_HEAD.encode(), STUB_TAIL.encode()
    if not (packed.startswith(head) and packed.endswith(tail)):
        raise BundleError("train_gpt.py: expected a self-extracting file of this program, got another")
    try:
        return lzma.decompress(base64.b85decode(packed[len(head) : -len(tail)])).decode()
    except (ValueError, lzma.LZMAError, EOFError) as error:
        raise BundleError(f"train_gpt.py: expected a payload that unpacks, got {error}") from error


def bundle(recipe: Recipe, budget: Budget, trainer: FlatTrainer | None = None) -> Bundle:
    """The train_gpt.py of one recipe and budget.

    Args:
        trainer: modules joined earlier by flatten; None joins those of this installation now.

    Raises:
        BundleError: the trainer cannot be joined, or a config value has no literal.
    """
    trainer = trainer or flatten(trainer_folder())
    call = call_of_run(recipe, budget, trainer.names)
    packed = pack(_stripped(trainer.text) + strip(call))
    return Bundle(source=trainer.text + call, packed=packed, sha256=hashlib.sha256(packed).hexdigest())


@lru_cache(maxsize=4)
def _stripped(text: str) -> str:
    """A trainer's text without comments: the same for every recipe, and a second of work."""
    return strip(text)
