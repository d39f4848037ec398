"""Trains and loads SentencePiece tokenizers with the challenge's settings. Needs no torch."""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece as spm

from search.errors import DatasetError

BOS_ID = 1
MAX_VOCAB_SIZE = 2**16
SPACE_PIECE = "▁"
_SENTENCE_BYTES = 4000  # SentencePiece skips training sentences over 4,192 bytes
_LEAST_SIZE = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")  # SentencePiece's own words
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> bytes:
    """A BPE model of vocab_size pieces, serialized. The same texts give the same bytes.

    Texts are cut into paragraphs, and those into sentences where they are long, because SentencePiece would skip most
    whole documents.

    Raises:
        DatasetError: ids would not fit a shard, or the texts do not yield exactly vocab_size pieces.

    Source: openai/parameter-golf, its tokenizer exporter's settings.
    """
    if not 1 <= vocab_size <= MAX_VOCAB_SIZE:
        raise DatasetError(f"vocab_size: expected 1 to {MAX_VOCAB_SIZE}, since ids are uint16, got {vocab_size}")
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=0.999,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="nmt_nfkc",
            add_dummy_prefix=False,
            pad_id=0,
            bos_id=BOS_ID,
            eos_id=2,
            unk_id=3,
            hard_vocab_limit=False,
            num_threads=16,  # SentencePiece's default, pinned: it is written into the model
            minloglevel=3,
        )
    except RuntimeError as error:
        least = _LEAST_SIZE.search(str(error))
        expected = f"at least {least[1]} for the characters of this text" if least else "one that this text can fill"
        got = vocab_size if least else f"{vocab_size} ({error})"
        raise DatasetError(f"vocab_size: expected {expected}, got {got}") from error
    got = parse_tokenizer(model.getvalue(), "the trained tokenizer").vocab_size()
    if got != vocab_size:
        raise DatasetError(f"vocab_size: expected text enough for {vocab_size} pieces, got {got} pieces")
    return model.getvalue()


def load_tokenizer(path: Path) -> spm.SentencePieceProcessor:
    """The tokenizer of a file.

    Raises:
        DatasetError: the file is missing or no SentencePiece model.
    """
    try:
        return parse_tokenizer(path.read_bytes(), str(path))
    except OSError as error:
        raise DatasetError(f"{path}: expected a SentencePiece model, got {error.strerror}") from error


def parse_tokenizer(model: bytes, where: str) -> spm.SentencePieceProcessor:
    """The tokenizer of a serialized model; where names it in errors.

    Raises:
        DatasetError: the bytes are no SentencePiece model.
    """
    tokenizer = spm.SentencePieceProcessor()
    try:
        if model:
            tokenizer.load_from_serialized_proto(model)
    except RuntimeError as error:
        raise DatasetError(f"{where}: expected a SentencePiece model, got {len(model)} other bytes") from error
    if not model:
        raise DatasetError(f"{where}: expected a SentencePiece model, got an empty file")
    return tokenizer


def has_space_piece(tokenizer: spm.SentencePieceProcessor) -> bool:
    """Whether a space can be a token of its own.

    Without it every single space becomes three byte tokens, and BPB comes out some 20 % too good.

    Source: openai/parameter-golf issue 897.
    """
    return tokenizer.piece_to_id(SPACE_PIECE) != tokenizer.unk_id()


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for paragraph in text.replace("\x00", " ").split("\n"):
            yield from filter(None, _split_long(paragraph.strip()))


def _split_long(paragraph: str) -> Iterator[str]:
    """Runs of whole sentences within the limit; one sentence over it stays whole, and SentencePiece skips it."""
    if len(paragraph.encode()) <= _SENTENCE_BYTES:
        yield paragraph
        return
    run = ""
    for sentence in _SENTENCE_END.split(paragraph):
        if run and len(f"{run} {sentence}".encode()) > _SENTENCE_BYTES:
            yield run
            run = sentence
        else:
            run = f"{run} {sentence}".strip()
    yield run
