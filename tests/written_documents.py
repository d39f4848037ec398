"""Documents and tokenizers for tests of datasets."""

import json
import lzma
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from search.data import SAMPLE


def write_documents(path: Path, texts: Iterable[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def sample_texts() -> list[str]:
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as lines:
        return [str(json.loads(line)["text"]) for line in islice(lines, 50)]


def without_space_piece(tokenizer: Path, folder: Path) -> Path:
    """The tokenizer with its stand-alone space renamed: a protobuf string field, then its score."""
    space, other = (b"\x0a\x03" + piece.encode() + b"\x15" for piece in "▁▂")
    path = folder / "spaceless.model"
    path.write_bytes(tokenizer.read_bytes().replace(space, other))
    return path
