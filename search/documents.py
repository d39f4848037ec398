"""Reads text documents: one JSON object {"text": ...} a line, plain or compressed by suffix."""

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import zstandard

from search.errors import DatasetError

_OPENERS: dict[str, Callable[..., Any]] = {
    ".bz2": bz2.open,
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": zstandard.open,
}


def read_documents(path: Path) -> Iterator[str]:
    """The documents of a file, in order. Blank lines are skipped.

    Raises:
        DatasetError: the file cannot be read, or a line (named by its number) is not {"text": "some text"}.
    """
    line_number = 0
    try:
        with _open_text(path) as lines:
            for line_number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _document(line, f"{path}:{line_number}")
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: expected a file of documents, got no such file") from error
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        raise DatasetError(f"{path}: expected readable documents, got {error} after line {line_number}") from error


def _open_text(path: Path) -> TextIO:
    return _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8", newline="\n")


def _document(line: str, where: str) -> str:
    try:
        record = json.loads(line)
        text = record["text"]
        text.encode()  # a lone surrogate is legal JSON but no text
    except json.JSONDecodeError as error:
        raise DatasetError(f"{where}: expected a JSON object, got {error}") from error
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
        raise DatasetError(f'{where}: expected {{"text": "..."}}, got {line.strip()[:80]}') from error
    if not text.strip():
        raise DatasetError(f"{where}: expected some text, got {text!r}")
    return text
