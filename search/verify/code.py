"""Static checks of a submission's code: one file, nothing from the network, no other programs. Executes nothing."""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from search.bundle import unpack
from search.errors import BundleError
from search.run import CODE_FILE
from search.strip import is_same_program
from search.submission_json import PYPI_NAMES, library_roots
from search.trainer_text import imports_of
from search.verify.finding import Finding, Severity
from search.verify.folder import file_names, read_bytes, read_text

REFUSE, REVIEW = Severity.REFUSE, Severity.REVIEW
READABLE_FILES = ("train_gpt_readable.py", "train_gpt_human.py")
CODE_SUFFIXES = frozenset(
    {".py", ".pyx", ".pyc", ".pyd", ".so", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".sh", ".ipynb"}
)
IMPORTABLE_SUFFIXES = (".py", ".pyc", ".so", ".pyd")
NETWORK = frozenset(
    {
        "socket",
        "socketserver",
        "ssl",
        "http",
        "urllib",
        "urllib3",
        "ftplib",
        "smtplib",
        "telnetlib",
        "poplib",
        "imaplib",
    }
    | {"xmlrpc", "requests", "httpx", "aiohttp", "websocket", "websockets", "paramiko", "huggingface_hub", "datasets"}
    | {"wandb", "boto3", "gdown", "torch.hub", "torch.utils.model_zoo", "torch.distributed.rpc"}
)
PROCESSES = frozenset(
    {"subprocess", "pty", "pexpect", "os.system", "os.popen", "os.fork", "os.posix_spawn", "os.posix_spawnp"}
    | {f"os.{start}{end}" for start in ("exec", "spawn") for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")}
)
# Ways around a check that reads code.
OPAQUE = frozenset({"eval", "exec", "__import__", "importlib", "ctypes", "cffi", "pickle", "marshal", "runpy"})


def code_findings(folder: Path) -> list[Finding]:
    """Every check of the folder's code."""
    packed = read_bytes(folder / CODE_FILE)
    try:
        code, shown = unpack(packed), f"{CODE_FILE} (unpacked)"
    except BundleError:
        code, shown = packed.decode(errors="replace"), CODE_FILE
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        return [Finding("code", REFUSE, shown, getattr(error, "lineno", None), f"expected Python, got {error}")]
    found = list(used_findings(tree, shown))
    found += single_file_findings(folder, tree, shown)
    found += readable_findings(folder, code)
    found += requirement_findings(folder, tree)
    return found


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What code imports, anywhere in it, as dotted names with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for outside in imports_of(node, is_guarded=False):
                yield outside.target, node.lineno


def used(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Dotted names such as os.system, and names of builtins, that code uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node), node.lineno
        elif isinstance(node, ast.Name) and hasattr(builtins, node.id):
            yield node.id, node.lineno


def prefixes(dotted: str) -> set[str]:
    """a, a.b and a.b.c of a.b.c."""
    parts = dotted.split(".")
    return {".".join(parts[: end + 1]) for end in range(len(parts))}


def used_findings(tree: ast.Module, shown: str) -> Iterator[Finding]:
    """No network, no other programs; code that cannot be read from the text is for a reviewer."""
    names = [(prefixes(name), line) for name, line in imported(tree)]
    # A variable named socket is none: outside imports, only full names such as os.system count.
    names += [({name}, line) for name, line in used(tree)]
    for rule, severity, forbidden in (
        ("network", REFUSE, NETWORK),
        ("process", REFUSE, PROCESSES),
        ("opaque", REVIEW, OPAQUE),
    ):
        first: dict[str, int] = {}
        for candidates, line in names:
            for name in candidates & forbidden:
                first.setdefault(name, line)
        for name, line in sorted(first.items()):
            yield Finding(rule, severity, shown, line, f"expected a self-contained program, got {name}")


def single_file_findings(folder: Path, tree: ast.Module, shown: str) -> Iterator[Finding]:
    """All counted code is in train_gpt.py."""
    for name, line in imported(tree):
        root = name.split(".")[0]
        if is_beside(folder, root):
            message = f"expected all code in {CODE_FILE}, got an import of {root}, which lies beside it"
            yield Finding("single-file", REFUSE, shown, line, message)
    for name in file_names(folder):
        if PurePosixPath(name).suffix in CODE_SUFFIXES and name not in (CODE_FILE, *READABLE_FILES):
            yield Finding("single-file", REVIEW, name, None, f"expected all counted code in {CODE_FILE}, got more code")


def is_beside(folder: Path, root: str) -> bool:
    """Whether importing root would take a file of the folder: the script's own folder comes first on the path."""
    package = folder / root
    holds_code = package.is_dir() and any(path.suffix in IMPORTABLE_SUFFIXES for path in package.rglob("*"))
    return holds_code or any(path.suffix in IMPORTABLE_SUFFIXES for path in folder.glob(f"{root}.*"))


def readable_findings(folder: Path, code: str) -> Iterator[Finding]:
    """A readable copy is the code that is shipped, apart from comments and docstrings."""
    for name in READABLE_FILES:
        path = folder / name
        if path.is_file() and not is_same_program(read_text(path), code):
            yield Finding("readable-copy", REFUSE, name, None, f"expected the code of {CODE_FILE}, got another program")


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
