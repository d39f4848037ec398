"""The lines of a training log that a run printed: without the source it prints first, prefixes and colours."""

import re
from collections.abc import Iterator

from search.verify.folder import log_lines

COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# What launchers and loggers put before a line: ranks, times, levels.
PREFIX = re.compile(
    r"(?:"
    r"\[?(?:rank|default)[ _]?\d{1,5}\]?\s?[:|]?\s*+"
    r"|\[?\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?\]?\s*+(?:[-|:]\s++)?"
    r"|\[?\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?\]?\s++(?:[-|:]\s++)?"
    r"|\[?(?:INFO|DEBUG|WARNING)\b\]?\s*+(?:[-|:]\s*+)?"
    r")++",
    re.IGNORECASE,
)
CODE = re.compile(
    r"import \w|from [\w.]+ import\b|(?:async )?def \w+\s*\(|class \w+\s*[:(]|if __name__\s*==|@\w[\w.]*(?:\(|\s*$)"
)
SEPARATOR = re.compile(r"={100}\s*$")  # what the challenge's script prints after its source
STEP = re.compile(r"(?:step\s*:?\s*)?\d+/\d+\s")
MIN_CODE_LINES = 3  # fewer are words of a message


def result_lines(text: str) -> Iterator[tuple[int, str]]:
    """What a run printed about itself, with line numbers; lines of source that look like results are not among it."""
    lines = [(number, clean(line)) for number, line in log_lines(text)]
    start, end = source_span(lines)
    yield from lines[:start]
    yield from lines[end:]


def clean(line: str) -> str:
    """A line without colours and without what a launcher put before it."""
    if "\x1b" in line:
        line = COLOUR.sub("", line)
    match = PREFIX.match(line) if line[:1] in PREFIX_STARTS else None
    return line[match.end() :] if match else line


PREFIX_STARTS = frozenset("[0123456789rRdDiIwW")


def source_span(lines: list[tuple[int, str]]) -> tuple[int, int]:
    """Where the printed source starts and ends; an empty span if there is none."""
    code = [index for index, (_, line) in enumerate(lines) if CODE.match(line)]
    if len(code) < MIN_CODE_LINES:
        return 0, 0
    # Text at the end of the source, such as a docstring, reaches to the separator; results never lie before it.
    for index in range(code[-1] + 1, len(lines)):
        line = lines[index][1]
        if SEPARATOR.match(line):
            return code[0], index
        if STEP.match(line):
            break
    return code[0], code[-1] + 1
