"""Reading a folder that may be hostile: what lies in it is listed and weighed before anything is opened.

Every other check reads through this module. Limits are far above any real submission and far below what would hurt.
"""

import codecs
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from search.errors import SubmissionError
from search.verify.finding import Finding, Severity, shown

REFUSE = Severity.REFUSE
MAX_ENTRIES = 2_000  # real folders hold 4 to 60 files
MAX_DEPTH = 8  # real folders hold tokenizers/x.model and logs/x.txt: two
MAX_FILE_BYTES = 100 * 2**20  # GitHub takes no larger file
MAX_CODE_BYTES = 2_000_000  # the largest real train_gpt.py has 0.4 MB
MAX_JSON_BYTES = 1_000_000  # real ones have a few KB
MAX_TEXT_BYTES = 4_000_000  # README.md with a picture or two as data
MAX_LOG_BYTES = 16_000_000  # real ones have 0.1 to 3 MB
MAX_LOG_LINES = 300_000  # 20,000 steps, each with a few lines, after 4,000 lines of source
MAX_LOGS_BYTES = 64_000_000  # of all logs: time to parse them
MAX_LINE_CHARS = 2_000  # what a log's score lines never reach; packed source printed into a log does
MAX_TOKENIZER_BYTES = 16_000_000  # it counts as part of the artifact's limit at most
# The first pattern that the last part of a name matches counts.
SIZES: tuple[tuple[str, int], ...] = (
    ("submission.json", MAX_JSON_BYTES),
    ("*.py", MAX_CODE_BYTES),
    ("*.log", MAX_LOG_BYTES),
    ("*.txt", MAX_LOG_BYTES),  # some logs are named so
    ("*.md", MAX_TEXT_BYTES),
    ("*.model", MAX_TOKENIZER_BYTES),
    ("*", MAX_FILE_BYTES),
)
LOGS = ("*.log", "*.txt")


class UnreadableError(SubmissionError):
    """Something in a folder that no check opens.

    Attributes:
        where: in the folder.
        message: what was expected, and what came.
    """

    def __init__(self, where: str, message: str) -> None:
        self.where, self.message = where or ".", message
        super().__init__(f"{shown(self.where)}: {message}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a folder may hold as a whole; single files have theirs in SIZES."""

    entries: int = MAX_ENTRIES
    depth: int = MAX_DEPTH
    log_lines: int = MAX_LOG_LINES
    logs_bytes: int = MAX_LOGS_BYTES
    sizes: tuple[tuple[str, int], ...] = SIZES

    def bytes_of(self, name: str) -> int:
        """The most that a file of this name may have."""
        return next(limit for pattern, limit in self.sizes if fnmatch(Path(name).name, pattern))


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a folder, found without following links.

    Attributes:
        name: inside the folder, with slashes.
        path: where it lies.
    """

    name: str
    path: Path
    is_link: bool
    is_folder: bool


def entries(folder: Path, limits: Limits = LIMITS) -> Iterator[Entry]:
    """Everything in a folder by name, top first; a folder's own contents follow it. Links are not followed.

    Raises:
        UnreadableError: there is more of it, or it is deeper, than any submission; or it cannot be read.
    """
    waiting, count = [("", 0)], 0
    while waiting:
        prefix, depth = waiting.pop()
        if depth > limits.depth:
            raise UnreadableError(prefix, f"expected at most {limits.depth} folders in another, got more")
        found: list[Entry] = []
        for entry in read_folder(folder / prefix, prefix):
            count += 1
            if count > limits.entries:
                raise UnreadableError(prefix, f"expected at most {limits.entries} files, got more")
            found.append(entry)
        found.sort(key=lambda entry: entry.name)
        yield from found
        waiting += [(f"{entry.name}/", depth + 1) for entry in reversed(found) if entry.is_folder]


def read_folder(path: Path, prefix: str) -> Iterator[Entry]:
    """What lies directly in a folder, one by one: a folder of a million files is left early.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        with os.scandir(path) as found:
            for item in found:
                is_folder = item.is_dir(follow_symlinks=False)
                yield Entry(f"{prefix}{item.name}", Path(item.path), item.is_symlink(), is_folder)
    except OSError as error:
        raise UnreadableError(prefix, f"expected a folder to read, got {error.strerror}") from error


def file_names(folder: Path) -> tuple[str, ...]:
    """Every file of a folder, links to files included, with slashes.

    Raises:
        UnreadableError: there are too many, or a folder cannot be read.
    """
    return tuple(entry.name for entry in entries(folder) if entry.path.is_file())


def matching(folder: Path, pattern: str) -> list[Path]:
    """Files directly in a folder whose names match; folders named so are none of them."""
    if not folder.is_dir():
        return []
    found = (entry.path for entry in read_folder(folder, "") if fnmatch(entry.name, pattern))
    return sorted(path for path in found if path.is_file())


def folder_findings(folder: Path, limits: Limits = LIMITS) -> list[Finding]:
    """Whether a folder can be read at all: nothing of it leads elsewhere, waits forever or is too large."""
    root, logs_bytes = Path(os.path.realpath(folder)), 0
    found: list[Finding] = []
    try:
        for entry in entries(folder, limits):
            found += entry_findings(entry, root, limits)
            if not found and any(fnmatch(entry.name, pattern) for pattern in LOGS):
                logs_bytes += entry.path.stat().st_size
    except UnreadableError as error:
        found.append(Finding("files", REFUSE, error.where, None, error.message))
    if logs_bytes > limits.logs_bytes:
        message = f"expected at most {limits.logs_bytes} bytes of logs, got {logs_bytes}"
        found.append(Finding("size", REFUSE, "*.log", None, message))
    return found


def entry_findings(entry: Entry, root: Path, limits: Limits) -> Iterator[Finding]:
    """Whether one thing in a folder can be read."""
    if not entry.name.isprintable():
        yield Finding("files", REFUSE, entry.name, None, "expected a name that can be printed, got another")
    if entry.is_link:
        # Asked of the system, which follows 40 links at most: a circle of thousands would take minutes to resolve.
        if not os.path.exists(entry.path):  # noqa: PTH110 - Path.exists raises where it may not look
            yield Finding("links", REFUSE, entry.name, None, "expected links to files, got one to nothing or to itself")
            return
        if not Path(os.path.realpath(entry.path)).is_relative_to(root):
            message = "expected files inside the folder, got a link that leads out of it"
            yield Finding("links", REFUSE, entry.name, None, message)
            return
        if not entry.path.is_file():
            yield Finding("links", REFUSE, entry.name, None, "expected links to files, got one to something else")
            return
    if entry.is_folder:
        if limits.bytes_of(entry.name) != limits.sizes[-1][1]:
            yield Finding("files", REFUSE, entry.name, None, "expected a file of this name, got a folder")
        return
    yield from weight_findings(entry, limits)


def weight_findings(entry: Entry, limits: Limits) -> Iterator[Finding]:
    """Whether a file is one, may be read and is not too large."""
    try:
        status = entry.path.stat()
    except OSError as error:
        yield Finding("files", REFUSE, entry.name, None, f"expected a file to read, got {error.strerror}")
        return
    limit = limits.bytes_of(entry.name)
    if not stat.S_ISREG(status.st_mode):
        yield Finding("files", REFUSE, entry.name, None, "expected files and folders, got a pipe, socket or device")
    elif not os.access(entry.path, os.R_OK):
        yield Finding("files", REFUSE, entry.name, None, "expected a file to read, got one without permission")
    elif status.st_size > limit:
        message = f"expected at most {limit} bytes, got {status.st_size}"
        yield Finding("size", REFUSE, entry.name, None, message)
    elif any(fnmatch(entry.name, pattern) for pattern in LOGS) and count_lines(entry.path) > limits.log_lines:
        message = f"expected at most {limits.log_lines} lines, got {count_lines(entry.path)}"
        yield Finding("size", REFUSE, entry.name, None, message)


def count_lines(path: Path) -> int:
    """How many lines a file has."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) + 1


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        UnreadableError: it is no regular file, or larger than files of its name may be.
    """
    limit = LIMITS.bytes_of(path.name)
    try:
        # A pipe without a writer would block in open.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableError(path.name, "expected a file, got something else")
            data = file.read(limit + 1)
    except OSError as error:
        raise UnreadableError(path.name, f"expected a file to read, got {error.strerror}") from error
    if len(data) > limit:
        raise UnreadableError(path.name, f"expected at most {limit} bytes, got more")
    return data


def read_text(path: Path) -> str:
    """A file's text, whatever its bytes: UTF-8, or UTF-16 where a mark says so (PowerShell writes logs that way).

    Raises:
        UnreadableError: it is no regular file, or larger than files of its name may be.
    """
    data = read_bytes(path)
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def log_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines of a log with their numbers, from 1; of a line longer than any score line, its start."""
    start, number = 0, 1
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield number, text[start : min(end, start + MAX_LINE_CHARS)]
        start, number = end + 1, number + 1
