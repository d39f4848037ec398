"""What is known of a submission folder's other files while its README is written."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.export.claim import Origin

# The challenge's own vocabulary by the names it is published under. Its hash is not published; the logs have it.
CHALLENGE_TOKENIZER = "fineweb_1024_bpe.model"
CHALLENGE_DATASET = "fineweb10B_sp1024"
CHALLENGE_VOCAB_SIZE = 1024
TOKENIZER_FOLDER = "tokenizers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """What lies beside README.md.

    Attributes:
        tokenizer: its path inside the folder, or its name where it is the challenge's own and is not shipped.
        tokenizer_sha256: of the one that the runs used, as their logs say; "" where they do not.
        requirements: text of requirements.txt; "" where the challenge's own environment is enough.
        needs: packages with versions that pip must install, in an environment without the challenge's.
        logs: by seed, as shipped.
        manifest: dataset.json of the data that was used, where there is one.
    """

    tokenizer: str
    tokenizer_sha256: str
    requirements: str
    needs: tuple[str, ...]
    logs: Mapping[int, bytes]
    manifest: Mapping[str, Any] | None
    has_weights: bool

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder holds the tokenizer."""
        return self.tokenizer.startswith(f"{TOKENIZER_FOLDER}/")

    @property
    def train_shards(self) -> str:
        """How many training shards the runs had, as a log says; "" where it does not."""
        return logged("train_shards", next(iter(self.logs.values())))


def is_challenge_tokenizer(origin: Origin) -> bool:
    """Whether the runs used the challenge's own tokenizer on its own shards, which every reviewer has."""
    return (
        origin.tokenizer_path.name == CHALLENGE_TOKENIZER
        and origin.data_path.name == CHALLENGE_DATASET
        and origin.recipe.model.vocab_size == CHALLENGE_VOCAB_SIZE
    )


def logged(name: str, log: bytes) -> str:
    """The value of name:value in a log's header; "" where it has none."""
    match = re.search(rb"(?:^|\s)" + name.encode() + rb":(\S+)", log)
    return match[1].decode(errors="replace") if match else ""


def sha256_of(content: bytes) -> str:
    """A file's hash as people compare it."""
    return hashlib.sha256(content).hexdigest()


def tokenizer_target(path: Path) -> str:
    """Where a tokenizer goes inside the folder."""
    return f"{TOKENIZER_FOLDER}/{path.name}"
