"""Building datasets from documents, and the quickstart's data."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece as spm
import zstandard
from written_documents import without_space_piece, write_documents

from search.data import build_dataset, ensure_quickstart_data
from search.data_check import check_dataset
from search.errors import DatasetError
from trainer.data import list_shards
from trainer.data import read_shard as trainer_read_shard

TEXTS = [f"Document {i}: the {word} sat on the mat.\nAnd then it left — 🙂." for i, word in enumerate("abcdefghij")]


def read_documents_of(folder: Path, split: str) -> list[str]:
    """Decoded documents, split at BOS by hand."""
    tokenizer = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids: list[int] = np.concatenate([trainer_read_shard(path) for path in list_shards(folder, split)]).tolist()
    documents: list[list[int]] = []
    for token in ids:
        if token == 1:
            documents.append([])
        else:
            documents[-1].append(token)
    return [tokenizer.decode(document) for document in documents]


def build(tmp_path: Path, docs: Path, tokenizer: Path, val_documents: int = 3) -> Path:
    build_dataset(docs, tmp_path / "out", 1024, val_documents, tokenizer)
    return tmp_path / "out"


# Building


def test_head_is_validation_and_the_rest_train(tmp_path: Path, tokenizer: Path) -> None:
    out = build(tmp_path, write_documents(tmp_path / "docs.jsonl", TEXTS), tokenizer)
    normalized = [text.replace("\n", " ") for text in TEXTS]
    assert read_documents_of(out, "val") == normalized[:3]
    assert read_documents_of(out, "train") == normalized[3:]
    assert (out / "tokenizer.model").read_bytes() == tokenizer.read_bytes()


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstandard.compress)],
)
def test_compressed_documents(tmp_path: Path, tokenizer: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    plain = write_documents(tmp_path / "docs.jsonl", TEXTS)
    packed = plain.with_name(f"docs.jsonl{suffix}")
    packed.write_bytes(compress(plain.read_bytes()))
    assert len(read_documents_of(build(tmp_path, packed, tokenizer), "train")) == 7


def test_validation_from_a_file_of_its_own(tmp_path: Path, tokenizer: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    val_docs = write_documents(tmp_path / "val.jsonl", [TEXTS[2], "Another."])
    counts = build_dataset(docs, tmp_path / "out", 1024, 0, tokenizer, val_docs=val_docs)
    assert read_documents_of(tmp_path / "out", "val")[1] == "Another."
    # the third document is in validation, so training must not see it
    assert (counts["val"].documents, counts["train"].documents, counts["train"].left_out) == (2, 9, 1)
    assert all(check.ok for check in check_dataset(tmp_path / "out"))


def test_manifest_says_what_was_built(tmp_path: Path, tokenizer: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    out = build(tmp_path, docs, tokenizer)
    manifest = json.loads((out / "dataset.json").read_text())
    assert manifest["docs"]["bytes"] == docs.stat().st_size
    assert manifest["train"]["documents"] == 7
    assert manifest["train"]["text_bytes"] == sum(len(text.encode()) for text in TEXTS[3:])
    assert manifest["train"]["tokens"] == sum(trainer_read_shard(path).size for path in list_shards(out, "train"))


def test_stream_continues_over_shards(tmp_path: Path, tokenizer: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    build_dataset(docs, tmp_path / "small", 1024, 3, tokenizer, shard_tokens=50)
    whole = build(tmp_path, docs, tokenizer)
    assert len(list_shards(tmp_path / "small", "train")) > 2
    assert read_documents_of(tmp_path / "small", "train") == read_documents_of(whole, "train")
    assert all(check.ok for check in check_dataset(tmp_path / "small"))


def test_building_twice_gives_the_same_bytes(quickstart_data: Path, tmp_path: Path) -> None:
    ensure_quickstart_data(tmp_path / "again")
    names = sorted(path.name for path in quickstart_data.iterdir())
    assert names == ["dataset.json", "fineweb_train_000000.bin", "fineweb_val_000000.bin", "tokenizer.model"]
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (quickstart_data / name).read_bytes()


def test_progress_is_reported(tmp_path: Path, tokenizer: Path) -> None:
    heard: list[tuple[str, int]] = []
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    build_dataset(docs, tmp_path / "out", 1024, 3, tokenizer, report=lambda *news: heard.append(news))
    assert heard == [("val", 3), ("train", 7)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "expected a JSON object, got "),
        ('{"txt": "x"}', r'expected \{"text": "..."\}, got \{"txt": "x"\}'),
        ('["x"]', 'expected {"text": "..."}, got'),
        ('{"text": 5}', 'expected {"text": "..."}, got'),
        ('{"text": "\\ud800"}', 'expected {"text": "..."}, got'),
        ('{"text": " "}', "expected some text, got ' '"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, tokenizer: Path, line: str, message: str) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    docs.write_text(docs.read_text() + "\n" + line + "\n")
    with pytest.raises(DatasetError, match=rf"docs\.jsonl:12: {message}"):
        build(tmp_path, docs, tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["docs.jsonl"]  # nothing half-built stays


@pytest.mark.parametrize("suffix", [".jsonl", ".gz", ".xz", ".zst", ".bz2"])
def test_unreadable_documents(tmp_path: Path, tokenizer: Path, suffix: str) -> None:
    docs = tmp_path / f"docs{suffix}"
    with pytest.raises(DatasetError, match="expected a file of documents, got no such file"):
        build(tmp_path, docs, tokenizer)
    docs.write_bytes(b"\xff\xfe nothing compressed\n")
    with pytest.raises(DatasetError, match=r"expected readable documents, got .* after line 0"):
        build(tmp_path, docs, tokenizer)


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress), (".bz2", bz2.compress)]
)
def test_documents_cut_short(tmp_path: Path, tokenizer: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    packed = tmp_path / f"docs{suffix}"
    packed.write_bytes(compress(write_documents(tmp_path / "docs.jsonl", TEXTS).read_bytes())[:-20])
    with pytest.raises(DatasetError, match="expected readable documents, got "):
        build(tmp_path, packed, tokenizer)


def test_too_few_documents(tmp_path: Path, tokenizer: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    with pytest.raises(DatasetError, match="expected 11 documents, got 10"):
        build(tmp_path, docs, tokenizer, val_documents=11)
    with pytest.raises(DatasetError, match="expected documents to train on after 10 for validation, got none"):
        build(tmp_path, docs, tokenizer, val_documents=10)
    with pytest.raises(DatasetError, match="expected more than val_documents 10 documents, got none left"):
        build_dataset(docs, tmp_path / "out", 300, 10)
    with pytest.raises(DatasetError, match="expected either --val-documents COUNT or --val-docs FILE, got neither"):
        build(tmp_path, docs, tokenizer, val_documents=0)


def test_text_too_short_for_the_vocabulary(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    with pytest.raises(DatasetError, match=r"vocab_size: expected .* got "):
        build_dataset(docs, tmp_path / "out", 4096, 3)
    with pytest.raises(
        DatasetError, match=r"vocab_size: expected at least \d+ for the characters of this text, got 20"
    ):
        build_dataset(docs, tmp_path / "out", 20, 3)
    with pytest.raises(DatasetError, match="vocab_size: expected 1 to 65536, since ids are uint16, got 65537"):
        build_dataset(docs, tmp_path / "out", 65_537, 3)


def test_output_folder_that_exists_or_cannot_be(tmp_path: Path, tokenizer: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    build(tmp_path, docs, tokenizer)
    with pytest.raises(DatasetError, match="out: expected a new folder, got one that exists"):
        build(tmp_path, docs, tokenizer)
    with pytest.raises(DatasetError, match="expected a folder that can be written, got "):
        build_dataset(docs, docs / "inside" / "out", 1024, 3, tokenizer)


def test_tokenizer_that_does_not_fit(tmp_path: Path, tokenizer: Path) -> None:
    docs = write_documents(tmp_path / "docs.jsonl", TEXTS)
    with pytest.raises(DatasetError, match=r"tokenizer\.model: expected a vocabulary of 2048, got 1024"):
        build_dataset(docs, tmp_path / "out", 2048, 3, tokenizer)
    with pytest.raises(DatasetError, match="expected a stand-alone space piece, got none"):
        build(tmp_path, docs, without_space_piece(tokenizer, tmp_path))
    with pytest.raises(DatasetError, match="expected a SentencePiece model, got No such file"):
        build(tmp_path, docs, tmp_path / "gone.model")


# The quickstart's data


def test_quickstart_data_is_built_once(quickstart_data: Path) -> None:
    before = (quickstart_data / "fineweb_train_000000.bin").stat().st_mtime_ns
    ensure_quickstart_data(quickstart_data)
    assert (quickstart_data / "fineweb_train_000000.bin").stat().st_mtime_ns == before


def test_quickstart_folder_of_something_else(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected data of the sample docs_sample\.jsonl\.xz, got another's"):
        ensure_quickstart_data(dataset)
    (tmp_path / "mine").mkdir()
    with pytest.raises(DatasetError, match="mine: expected the quickstart's dataset, got none"):
        ensure_quickstart_data(tmp_path / "mine")


def test_missing_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("search.data.SAMPLE", tmp_path / "docs_sample.jsonl.xz")
    with pytest.raises(DatasetError, match="expected the text sample of the repository, got no such file"):
        ensure_quickstart_data(tmp_path / "quickstart")


def test_data_needs_no_torch() -> None:
    code = "import search.data, search.data_check, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
