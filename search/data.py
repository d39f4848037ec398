"""Builds datasets: documents in, a folder of token shards and their tokenizer out. Needs no torch."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece as spm

from search.documents import read_documents
from search.errors import DatasetError
from search.shards import Ids, ShardWriter
from search.tokenizer import BOS_ID, has_space_piece, load_tokenizer, parse_tokenizer, train_tokenizer

TOKENIZER_NAME = "tokenizer.model"
MANIFEST_NAME = "dataset.json"
SAMPLE = Path(__file__).parent.parent / "studies" / "sample" / "docs_sample.jsonl.xz"
QUICKSTART_VOCAB_SIZE = 1024
QUICKSTART_VAL_DOCUMENTS = 40
_SHARD_TOKENS = 100_000_000
_TOKENIZER_DOCUMENTS = 100_000  # as many as the challenge's sp2048 saw (PR 122); more changes little and costs memory
_BATCH_DOCUMENTS = 512

Report = Callable[[str, int], None]
"""Told the stage (tokenizer, val, train) and how many documents of it are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitCounts:
    """What a split holds.

    Attributes:
        text_bytes: UTF-8 bytes of the documents as they came, before normalization.
        left_out: training documents not written because validation holds the same tokens.
    """

    documents: int
    tokens: int
    text_bytes: int
    shards: int
    left_out: int


def ignore_progress(stage: str, documents: int) -> None:
    """A Report that drops what it is told."""


def build_dataset(
    docs: Path,
    out: Path,
    vocab_size: int,
    val_documents: int,
    tokenizer: Path | None = None,
    shard_tokens: int = _SHARD_TOKENS,
    *,
    val_docs: Path | None = None,
    report: Report = ignore_progress,
) -> dict[str, SplitCounts]:
    """Write fineweb_{train,val}_*.bin, tokenizer.model and dataset.json; the folder appears only when complete.

    Each document is BOS and its tokens, without EOS. A training document with the tokens of a validation document is
    left out.

    Args:
        docs: JSON lines of {"text": ...}, plain, .bz2, .gz, .xz or .zst.
        out: the folder to make.
        vocab_size: pieces of the tokenizer.
        val_documents: how many documents at the head of docs are validation; 0 where val_docs holds them.
        tokenizer: a SentencePiece model to use; None trains one of vocab_size pieces on the training documents.
        shard_tokens: tokens a shard; only the last may be shorter.
        val_docs: another file whose documents are all validation.
        report: is told the progress.

    Returns:
        What train and val hold.

    Raises:
        DatasetError: out exists or cannot be written, the documents cannot be read or are too few, or the tokenizer
            does not fit.

    Source: openai/parameter-golf, its shard exporter.
    """
    if (val_docs is None) != (val_documents > 0):
        got = f"both, {val_documents} and {val_docs}" if val_docs else "neither"
        raise DatasetError(f"validation: expected either --val-documents COUNT or --val-docs FILE, got {got}")
    if out.exists():
        raise DatasetError(f"{out}: expected a new folder, got one that exists")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            folder = Path(scratch) / out.name
            folder.mkdir()
            model = _tokenizer(docs, val_documents, vocab_size, tokenizer, report)
            (folder / TOKENIZER_NAME).write_bytes(model)
            encoder = _Encoder(folder, parse_tokenizer(model, str(tokenizer)), shard_tokens, report)
            counts = _write_splits(encoder, docs, val_documents, val_docs)
            manifest = _manifest(docs, val_docs, model, vocab_size, counts)
            (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
            folder.rename(out)
    except OSError as error:
        raise DatasetError(f"{out}: expected a folder that can be written, got {error}") from error
    return counts


def ensure_quickstart_data(out: Path, report: Report = ignore_progress) -> None:
    """Build the quickstart's dataset from the text sample of the repository, unless it is there already.

    Raises:
        DatasetError: the sample is missing, or out holds something else.
    """
    if not SAMPLE.is_file():
        raise DatasetError(f"{SAMPLE}: expected the text sample of the repository, got no such file")
    if not out.exists():
        build_dataset(SAMPLE, out, QUICKSTART_VOCAB_SIZE, QUICKSTART_VAL_DOCUMENTS, report=report)
    try:
        built_from = json.loads((out / MANIFEST_NAME).read_text())["docs"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{out}: expected the quickstart's dataset, got none; remove the folder") from error
    if built_from != _sha256(SAMPLE):
        raise DatasetError(f"{out}: expected data of the sample {SAMPLE.name}, got another's; remove the folder")


def _tokenizer(docs: Path, val_documents: int, vocab_size: int, given: Path | None, report: Report) -> bytes:
    """The serialized tokenizer: the given one, or one trained on the training documents only."""
    if given is None:
        texts = islice(read_documents(docs), val_documents, val_documents + _TOKENIZER_DOCUMENTS)
        first = next(texts, None)
        if first is None:
            raise DatasetError(f"{docs}: expected more than val_documents {val_documents} documents, got none left")
        return train_tokenizer(_reported(chain([first], texts), "tokenizer", report), vocab_size)
    tokenizer = load_tokenizer(given)
    if tokenizer.vocab_size() != vocab_size:
        raise DatasetError(f"{given}: expected a vocabulary of {vocab_size}, got {tokenizer.vocab_size()}")
    if tokenizer.bos_id() != BOS_ID:
        raise DatasetError(f"{given}: expected BOS to be id {BOS_ID}, got {tokenizer.bos_id()}")
    if not has_space_piece(tokenizer):
        raise DatasetError(f"{given}: expected a stand-alone space piece, got none (BPB would be counted wrong)")
    return given.read_bytes()


def _reported(texts: Iterable[str], stage: str, report: Report) -> Iterator[str]:
    for number, text in enumerate(texts, start=1):
        yield text
        if number % _BATCH_DOCUMENTS == 0:
            report(stage, number)


def _write_splits(encoder: "_Encoder", docs: Path, val_documents: int, val_docs: Path | None) -> dict[str, SplitCounts]:
    texts = read_documents(docs)
    val = encoder.write("val", islice(texts, val_documents) if val_docs is None else read_documents(val_docs))
    if val.documents < max(val_documents, 1):
        raise DatasetError(f"{val_docs or docs}: expected {max(val_documents, 1)} documents, got {val.documents}")
    train = encoder.write("train", texts)
    if train.documents == 0:
        raise DatasetError(f"{docs}: expected documents to train on after {val.documents} for validation, got none")
    return {"train": train, "val": val}


class _Encoder:
    """Turns documents into shards; remembers validation documents to keep them out of train."""

    def __init__(self, folder: Path, tokenizer: spm.SentencePieceProcessor, shard_tokens: int, report: Report) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._shard_tokens = shard_tokens
        self._report = report
        self._val_digests: set[bytes] = set()

    def write(self, split: str, texts: Iterable[str]) -> SplitCounts:
        """Write the shards of one split; val comes first."""
        writer = ShardWriter(self._folder, split, self._shard_tokens)
        documents = text_bytes = left_out = 0
        for text, ids in self._encoded(texts):
            digest = document_digest(ids)
            if split == "val":
                self._val_digests.add(digest)
            elif digest in self._val_digests:
                left_out += 1
                continue
            writer.write(ids)
            documents += 1
            text_bytes += len(text.encode())
            if documents % _BATCH_DOCUMENTS == 0:
                self._report(split, documents)
        writer.close()
        self._report(split, documents)
        return SplitCounts(
            documents=documents,
            tokens=writer.num_tokens,
            text_bytes=text_bytes,
            shards=writer.num_shards,
            left_out=left_out,
        )

    def _encoded(self, texts: Iterable[str]) -> Iterator[tuple[str, Ids]]:
        stream = iter(texts)
        while batch := list(islice(stream, _BATCH_DOCUMENTS)):
            rows: list[list[int]] = self._tokenizer.encode(batch, out_type=int)  # a list is encoded by all cores
            for text, ids in zip(batch, rows, strict=True):
                yield text, np.array([BOS_ID, *ids], dtype=np.uint16)


def document_digest(ids: Ids) -> bytes:
    """What two documents with the same tokens share."""
    return hashlib.blake2b(ids.astype("<u2").tobytes(), digest_size=16).digest()


def _manifest(
    docs: Path, val_docs: Path | None, model: bytes, vocab_size: int, counts: dict[str, SplitCounts]
) -> dict[str, Any]:
    return {
        "docs": _source(docs),
        "val_docs": _source(val_docs) if val_docs else None,
        "tokenizer": {"sha256": hashlib.sha256(model).hexdigest(), "vocab_size": vocab_size},
        "sentencepiece": spm.__version__,
        **{split: asdict(count) for split, count in counts.items()},
    }


def _source(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
