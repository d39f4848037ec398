"""Bytes per token: against hand counts, against the definition token by token, against decoded text."""

import json
import lzma
from itertools import islice
from pathlib import Path

import pytest
import sentencepiece as spm
import torch

from search.data import SAMPLE
from search.data_check import piece_bytes
from trainer.errors import DataError
from trainer.tokenizer import TokenBytes, load_token_bytes

PAD, BOS, EOS, UNKNOWN = 0, 1, 2, 3


@pytest.fixture(scope="module")
def tokenizer(quickstart_data: Path) -> spm.SentencePieceProcessor:
    return spm.SentencePieceProcessor(model_file=str(quickstart_data / "tokenizer.model"))


@pytest.fixture(scope="module")
def token_bytes(quickstart_data: Path) -> TokenBytes:
    return load_token_bytes(quickstart_data / "tokenizer.model", 1024)


def counts(token_bytes: TokenBytes, ids: list[int]) -> list[int]:
    """Bytes of each token after the first."""
    tokens = torch.tensor(ids)
    return token_bytes.target_bytes(tokens[:-1], tokens[1:]).tolist()


@pytest.mark.parametrize(
    ("previous", "target", "expected"),
    [
        ("<s>", "▁the", 3),  # a document's first space is not part of its text
        ("e", "▁the", 4),
        ("▁the", "▁the", 4),
        ("<0xF0>", "▁the", 4),  # a byte is a real token
        ("<pad>", "▁the", 3),
        ("</s>", "▁the", 3),
        ("<unk>", "▁the", 3),
        ("e", "▁", 1),
        ("<s>", "▁", 0),
        ("e", "ing", 3),
        ("<s>", "ing", 3),
        ("e", "\u2019", 3),  # one character, three bytes of UTF-8
        ("e", "<0xF0>", 1),
        ("<s>", "<0x0A>", 1),
        ("e", "<s>", 0),
        ("e", "</s>", 0),
        ("e", "<pad>", 0),
        ("e", "<unk>", 0),
    ],
)
def test_bytes_counted_by_hand(
    tokenizer: spm.SentencePieceProcessor, token_bytes: TokenBytes, previous: str, target: str, expected: int
) -> None:
    ids = [tokenizer.piece_to_id(previous), tokenizer.piece_to_id(target)]
    assert [tokenizer.id_to_piece(token) for token in ids] == [previous, target]  # both are pieces of their own
    assert counts(token_bytes, ids) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the cat sat.", 12),
        ("🙂", 4),
        ("Naïve café — 🙂 done.", 6 + 1 + 5 + 1 + 3 + 1 + 4 + 1 + 5),
        ("日本 2024", 6 + 1 + 4),
        ("  two  spaces and\na newline ", 24),  # normalized to "two spaces and a newline"
        ("ﬁne", 4),  # the ligature becomes two letters
    ],
)
def test_text_counted_by_hand(
    tokenizer: spm.SentencePieceProcessor, token_bytes: TokenBytes, text: str, expected: int
) -> None:
    ids: list[int] = tokenizer.encode(text, out_type=int)
    assert sum(counts(token_bytes, [BOS, *ids])) == expected


def test_table_equals_the_definition_token_by_token(
    tokenizer: spm.SentencePieceProcessor, token_bytes: TokenBytes
) -> None:
    generator = torch.Generator().manual_seed(1)
    everything_after = [[previous, target] for previous in (PAD, BOS, EOS, UNKNOWN, 4, 500) for target in range(1024)]
    random = torch.randint(1024, (5000, 2), generator=generator)
    pairs = torch.cat([torch.tensor(everything_after), random])
    got = token_bytes.target_bytes(pairs[:, 0], pairs[:, 1])
    assert got.dtype == torch.int16
    assert got.tolist() == [piece_bytes(tokenizer, previous, target) for previous, target in pairs.tolist()]


def test_bytes_of_real_documents_are_those_of_their_text(
    tokenizer: spm.SentencePieceProcessor, token_bytes: TokenBytes
) -> None:
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as lines:
        documents = [str(json.loads(line)["text"]) for line in islice(lines, 100)]
    for text in documents:
        ids: list[int] = tokenizer.encode(text, out_type=int)
        assert sum(counts(token_bytes, [BOS, *ids])) == len(tokenizer.decode(ids).encode())


def test_bytes_of_a_stream_are_those_of_its_documents(
    tokenizer: spm.SentencePieceProcessor, token_bytes: TokenBytes
) -> None:
    """BOS between documents costs nothing, and the next document's first space is not charged."""
    texts = ["One day.", "▁ leading space", "🙂 smile", "end"]
    stream: list[int] = [token for text in texts for token in (BOS, *tokenizer.encode(text, out_type=int))]
    decoded = [tokenizer.decode(tokenizer.encode(text, out_type=int)) for text in texts]
    assert sum(counts(token_bytes, stream)) == sum(len(text.encode()) for text in decoded)


def test_ids_of_any_integer_type_and_shape(token_bytes: TokenBytes) -> None:
    tokens = torch.randint(1024, (3, 9), generator=torch.Generator().manual_seed(2))
    expected = token_bytes.target_bytes(tokens[:, :-1], tokens[:, 1:])
    small = tokens.to(torch.uint16)
    assert expected.shape == (3, 8)
    assert torch.equal(token_bytes.to(torch.device("cpu")).target_bytes(small[:, :-1], small[:, 1:]), expected)


def test_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.model: expected a SentencePiece model, got No such file"):
        load_token_bytes(tmp_path / "gone.model", 1024)


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_file_that_is_no_tokenizer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.model"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"expected a SentencePiece model, got {len(content)} other bytes"):
        load_token_bytes(path, 1024)


def test_tokenizer_of_another_vocabulary(quickstart_data: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.model: vocabulary: expected model\.vocab_size 2048, got 1024"):
        load_token_bytes(quickstart_data / "tokenizer.model", 2048)


def test_tokenizer_without_space_piece(quickstart_data: Path, tmp_path: Path) -> None:
    model = (quickstart_data / "tokenizer.model").read_bytes()
    space, other = (b"\x0a\x03" + piece.encode() + b"\x15" for piece in "▁▂")  # a protobuf string field, then its score
    assert model.count(space) == 1
    path = tmp_path / "tokenizer.model"
    path.write_bytes(model.replace(space, other))
    with pytest.raises(DataError, match="expected a stand-alone space piece, got none"):
        load_token_bytes(path, 1024)
