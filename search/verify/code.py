"""The static review of a submission's code. Executes nothing of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from search.export.submission_json import PYPI_NAMES, library_roots
from search.run import CODE_FILE
from search.strip import is_same_program
from search.trainer_text import imports_of
from search.verify.finding import Finding, Severity
from search.verify.folder import file_names, read_bytes, read_text
from search.verify.python_text import parse
from search.verify.review.flow import follow
from search.verify.review.settings import folder_settings
from search.verify.rules_data import data_verdicts
from search.verify.rules_names import name_verdicts
from search.verify.rules_order import order_verdicts
from search.verify.rules_score import score_verdicts
from search.verify.unpack import Unpacked, readable_code
from search.verify.verdict import Verdict, findings_of

REFUSE, REVIEW = Severity.REFUSE, Severity.REVIEW
READABLE_FILES = ("train_gpt_readable.py", "train_gpt_human.py")
EXECUTED = frozenset({"opaque", "single-file"})
CODE_SUFFIXES = (".py", ".pyx", ".pyc", ".pyd", ".so", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".sh", ".ipynb")
IMPORTABLE_SUFFIXES = (".py", ".pyc", ".so", ".pyd")


def code_findings(folder: Path) -> list[Finding]:
    """Every check of the folder's code."""
    unpacked = readable_code(read_bytes(folder / CODE_FILE))
    found: list[Finding] = []
    try:
        tree = parse(unpacked.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        message = unpacked.finding or f"expected Python that can be read, got {str(error) or type(error).__name__}"
        return [*found, Finding("code", REFUSE, unpacked.shown, line, message)]
    found += reviewed(folder, tree, unpacked)
    is_wrapper = unpacked.layers > 0 or unpacked.finding.startswith("expected Python source")
    # Of plain code that runs text the review says more: whether it could be followed, and where the text is from.
    if unpacked.finding and is_wrapper and not any(one.rule in EXECUTED and one.severity is REFUSE for one in found):
        found.append(Finding("opaque", REFUSE, unpacked.shown, None, unpacked.finding))
    found += beside_findings(folder, tree, unpacked.shown)
    found += readable_findings(folder, unpacked.text)
    found += requirement_findings(folder, tree)
    return found


def reviewed(folder: Path, tree: ast.Module, unpacked: Unpacked) -> Iterator[Finding]:
    """What following the script finds."""
    trace, is_whole = follow(tree, folder_settings(folder))
    if not is_whole:
        message = "expected a program that can be followed to its end, got one too large or too deeply nested"
        yield Finding("code", REVIEW, unpacked.shown, None, message)
    verdicts: list[Verdict] = [*name_verdicts(trace, folder), *data_verdicts(trace), *order_verdicts(trace)]
    verdicts += score_verdicts(trace, is_packed=unpacked.layers > 0)
    yield from findings_of(verdicts, unpacked.shown)


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What code imports, anywhere in it, as dotted names with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for outside in imports_of(node, is_guarded=False):
                yield outside.target, node.lineno


def beside_findings(folder: Path, tree: ast.Module, shown: str) -> Iterator[Finding]:
    """All counted code is in train_gpt.py."""
    names = file_names(folder)
    for name, line in imported(tree):
        root = name.split(".")[0]
        if is_beside(names, root):
            message = f"expected all code in {CODE_FILE}, got an import of {root}, which lies beside it"
            yield Finding("single-file", REFUSE, shown, line, message)
    for name in names:
        if name.endswith(CODE_SUFFIXES) and name not in (CODE_FILE, *READABLE_FILES):
            yield Finding("single-file", REVIEW, name, None, f"expected all counted code in {CODE_FILE}, got more code")


def is_beside(names: tuple[str, ...], root: str) -> bool:
    """Whether importing root would take a file of the folder: the script's own folder comes first on the path."""
    return any(
        name.endswith(IMPORTABLE_SUFFIXES)
        and (name.startswith(f"{root}/") or ("/" not in name and name.split(".")[0] == root))
        for name in names
    )


def readable_findings(folder: Path, code: str) -> Iterator[Finding]:
    """A readable copy is the code that is shipped, apart from comments and docstrings."""
    for name in READABLE_FILES:
        path = folder / name
        if path.is_file() and not is_same_program(read_text(path), code, parse):
            # Others renamed and minified what they shipped; ours are the same program or something is wrong.
            severity = REFUSE if name == READABLE_FILES[0] else REVIEW
            yield Finding(
                "readable-copy", severity, name, None, f"expected the code of {CODE_FILE}, got another program"
            )


def requirement_findings(folder: Path, tree: ast.Module) -> Iterator[Finding]:
    """requirements.txt, where there is one, names every library the code cannot start without."""
    path = folder / "requirements.txt"
    if not path.is_file():
        return
    lines = read_text(path).lower().splitlines()
    named = {
        line.split("#")[0].strip().split("=")[0].split(">")[0].split("<")[0].split("~")[0].strip() for line in lines
    }
    for root in sorted(library_roots(tree)):
        if PYPI_NAMES.get(root, root) not in {name.split("[")[0] for name in named}:
            yield Finding(
                "requirements", REVIEW, path.name, None, f"expected {root}, which {CODE_FILE} imports, got none"
            )
