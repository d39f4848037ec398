"""Checks a dataset: that its shards, its tokenizer and the counting of bytes fit together. Needs no torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece as spm

from search.data import MANIFEST_NAME, TOKENIZER_NAME, document_digest
from search.errors import DatasetError
from search.shards import Ids, list_shards, read_shard
from search.tokenizer import BOS_ID, SPACE_PIECE, has_space_piece, load_tokenizer

_SAMPLE_DOCUMENTS = 500  # whose text is looked at where looking at all takes too long
_SAME_FRACTION = 0.99  # of documents that must encode to their own tokens; normalizing twice may change a rare one


@dataclass(frozen=True, slots=True)
class DatasetCheck:
    """One thing that was looked at.

    Attributes:
        detail: what was found, in one line.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset whose files can be read: per split, each shard and its name."""

    tokenizer: spm.SentencePieceProcessor
    shards: dict[str, list[tuple[str, Ids]]]

    def documents(self, split: str) -> Iterator[Ids]:
        """The documents of a split without their BOS, joined across shards."""
        rest = np.empty(0, dtype=np.uint16)
        for _, shard in self.shards[split]:
            ids = np.concatenate([rest, shard])
            starts = np.flatnonzero(ids == BOS_ID)
            for start, end in pairwise(starts):
                yield ids[start + 1 : end]
            rest = ids[starts[-1] :] if starts.size else ids
        yield rest[1:]


def check_dataset(folder: Path, tokenizer: Path | None = None) -> list[DatasetCheck]:
    """What is right and wrong with a dataset, each finding with its evidence. Damaged shards end the list early.

    Args:
        tokenizer: a SentencePiece model; None takes the folder's own tokenizer.model.

    Raises:
        DatasetError: the folder has no shards of a split, or the tokenizer cannot be read.
    """
    path = tokenizer or folder / TOKENIZER_NAME
    paths = {split: list_shards(folder, split) for split in ("train", "val")}
    model = load_tokenizer(path)
    damage: list[str] = []
    shards: dict[str, list[tuple[str, Ids]]] = {"train": [], "val": []}
    for split, files in paths.items():
        for file in files:
            try:
                shards[split].append((file.name, read_shard(file)))
            except DatasetError as error:
                damage.append(str(error))
    files_check = DatasetCheck("shard files", not damage, "; ".join(damage) or _sizes(shards))
    checks = [files_check, _check_space_piece(model)]
    if damage:
        return checks
    dataset = Dataset(model, shards)
    token_checks = [_check_range(dataset), _check_special(dataset), *check_manifest(folder, path, dataset)]
    checks += token_checks
    if all(check.ok for check in token_checks[:2]):  # otherwise there are no documents to look at
        checks += [_check_text(dataset), _check_bytes(dataset), _check_splits(dataset)]
    return checks


def piece_bytes(tokenizer: spm.SentencePieceProcessor, previous: int, target: int) -> int:
    """UTF-8 bytes that target adds to the text after previous: the definition, for one token.

    Source: openai/parameter-golf, train_gpt.py (build_sentencepiece_luts).
    """
    if _is_boundary(tokenizer, target):
        return 0
    if tokenizer.is_byte(target):
        return 1
    piece = tokenizer.id_to_piece(target)
    if not piece.startswith(SPACE_PIECE):
        return len(piece.encode())
    space = 0 if _is_boundary(tokenizer, previous) else 1
    return space + len(piece[1:].encode())


def _is_boundary(tokenizer: spm.SentencePieceProcessor, token: int) -> bool:
    return tokenizer.is_control(token) or tokenizer.is_unknown(token) or tokenizer.is_unused(token)


def _sizes(shards: dict[str, list[tuple[str, Ids]]]) -> str:
    return ", ".join(
        f"{split}: {sum(ids.size for _, ids in parts):,} tokens in {len(parts)} shards"
        for split, parts in shards.items()
    )


def _check_space_piece(tokenizer: spm.SentencePieceProcessor) -> DatasetCheck:
    if has_space_piece(tokenizer):
        return DatasetCheck("space piece", True, f"{SPACE_PIECE} is id {tokenizer.piece_to_id(SPACE_PIECE)}")
    return DatasetCheck("space piece", False, f"expected a stand-alone {SPACE_PIECE}, got none: BPB would be too good")


def _check_range(dataset: Dataset) -> DatasetCheck:
    vocab_size = dataset.tokenizer.vocab_size()
    for name, ids in (part for parts in dataset.shards.values() for part in parts):
        if (largest := int(ids.max())) >= vocab_size:
            return DatasetCheck("token range", False, f"{name}: expected ids below {vocab_size}, got {largest}")
    return DatasetCheck("token range", True, f"all ids are below the tokenizer's {vocab_size}")


def _check_special(dataset: Dataset) -> DatasetCheck:
    """BOS starts each split; no other token without bytes of its own is in the text (no EOS, no padding)."""
    forbidden = [i for i in range(dataset.tokenizer.vocab_size()) if _is_boundary(dataset.tokenizer, i) and i != BOS_ID]
    counts: list[str] = []
    for split, parts in dataset.shards.items():
        name, first = parts[0]
        if int(first[0]) != BOS_ID:
            return DatasetCheck("BOS", False, f"{name}: expected BOS (id {BOS_ID}) first, got id {int(first[0])}")
        for name, ids in parts:
            for token in forbidden:
                if at := np.flatnonzero(ids == token).tolist():
                    piece = dataset.tokenizer.id_to_piece(token)
                    return DatasetCheck("BOS", False, f"{name}: expected BOS only, got {piece} at token {at[0]}")
        counts.append(f"{split}: {sum(int((ids == BOS_ID).sum()) for _, ids in parts):,} documents")
    return DatasetCheck("BOS", True, ", ".join(counts))


def check_manifest(folder: Path, tokenizer: Path, dataset: Dataset) -> list[DatasetCheck]:
    """Whether the files are those that the manifest was written for; published datasets have none."""
    path = folder / MANIFEST_NAME
    if not path.exists():
        return []
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        expected = {"tokenizer sha256": manifest["tokenizer"]["sha256"]}
        expected |= {f"{split} tokens": manifest[split]["tokens"] for split in dataset.shards}
    except (ValueError, KeyError, TypeError) as error:
        return [DatasetCheck("manifest", False, f"{path}: expected what caddie data build writes, got {error!r}")]
    got: dict[str, Any] = {"tokenizer sha256": sha256(tokenizer.read_bytes()).hexdigest()}
    got |= {f"{split} tokens": sum(ids.size for _, ids in parts) for split, parts in dataset.shards.items()}
    for name, value in expected.items():
        if got[name] != value:
            return [DatasetCheck("manifest", False, f"{path}: {name}: expected {value}, got {got[name]}")]
    return [DatasetCheck("manifest", True, f"{MANIFEST_NAME} names this tokenizer and these tokens")]


def _check_text(dataset: Dataset) -> DatasetCheck:
    """Whether text and tokens convert into each other: tokens of another vocabulary of the same size do not."""
    sample = [ids.tolist() for ids in islice(dataset.documents("val"), _SAMPLE_DOCUMENTS)]
    same = count_same(dataset.tokenizer, sample)
    detail = f"{same} of {len(sample)} validation documents encode to their own tokens"
    return DatasetCheck("tokenizer fits", same >= _SAME_FRACTION * len(sample), detail)


def count_same(tokenizer: spm.SentencePieceProcessor, documents: list[list[int]]) -> int:
    """How many documents encode to their own tokens again once they are decoded."""
    again = tokenizer.encode(tokenizer.decode(documents), out_type=int)
    return sum(first == second for first, second in zip(documents, again, strict=True))


def _check_bytes(dataset: Dataset) -> DatasetCheck:
    """Bytes by the definition, token by token, against the bytes of the decoded document."""
    known: dict[tuple[int, int], int] = {}
    totals: dict[str, str] = {}
    for split, limit in (("val", None), ("train", _SAMPLE_DOCUMENTS)):
        tokens = total = documents = 0
        for documents, ids in enumerate(islice(dataset.documents(split), limit), start=1):
            row: list[int] = ids.tolist()
            counted = 0
            for pair in pairwise([BOS_ID, *row]):
                if pair not in known:
                    known[pair] = piece_bytes(dataset.tokenizer, *pair)
                counted += known[pair]
            decoded = len(dataset.tokenizer.decode(row).encode())
            if counted != decoded:
                detail = f"{split} document {documents}: expected its decoded {decoded} bytes, got {counted}"
                return DatasetCheck("bytes", False, detail)
            tokens, total = tokens + len(row) + 1, total + counted
        totals[split] = f"{split}: {documents:,} documents, {total / tokens:.4f} bytes/token"
    return DatasetCheck("bytes", True, ", ".join(totals.values()))


def _check_splits(dataset: Dataset) -> DatasetCheck:
    """Whether a validation document is also in train."""
    validation = {document_digest(ids): number for number, ids in enumerate(dataset.documents("val"), start=1)}
    for number, ids in enumerate(dataset.documents("train"), start=1):
        if (same := validation.get(document_digest(ids))) is not None:
            return DatasetCheck("splits", False, f"validation document {same} is also train document {number}")
    return DatasetCheck("splits", True, f"none of {len(validation):,} validation documents is in train")
