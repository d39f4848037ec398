"""Bytes that each token stands for, from the SentencePiece model: the denominator of bits per byte."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
from torch import Tensor

from trainer.errors import DataError

SPACE_PIECE = "\u2581"


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """Three lookup tables over the vocabulary.

    Attributes:
        base_V: int16, UTF-8 bytes of a piece without its leading space; 0 for control, unknown and unused pieces.
        lead_V: bool, whether the piece starts with a space.
        boundary_V: bool, whether the piece is control, unknown or unused: a space after it is not part of the text.
    """

    base_V: Tensor
    lead_V: Tensor
    boundary_V: Tensor

    def target_bytes(self, previous_ids: Tensor, target_ids: Tensor) -> Tensor:
        """int16 bytes of each target token after its predecessor; both any integer dtype, of one shape.

        A leading space is charged only after a real token: decoding drops it at a document's start.

        Source: openai/parameter-golf, train_gpt.py (build_sentencepiece_luts, eval_val).
        """
        target = target_ids.long()
        has_space = self.lead_V[target] & ~self.boundary_V[previous_ids.long()]
        return self.base_V[target] + has_space

    def to(self, device: torch.device) -> "TokenBytes":
        """The same tables on a device."""
        return TokenBytes(self.base_V.to(device), self.lead_V.to(device), self.boundary_V.to(device))


def load_token_bytes(path: Path, vocab_size: int) -> TokenBytes:
    """The tables of a tokenizer file, on the CPU.

    Raises:
        DataError: the file is missing or no SentencePiece model, its vocabulary is not vocab_size, or it has no
            stand-alone space piece: each space would then be three byte tokens, and BPB some 20 % too good.

    Source: openai/parameter-golf issue 897 (the space piece).
    """
    tokenizer = _read_tokenizer(path)
    if tokenizer.vocab_size() != vocab_size:
        raise DataError(f"{path}: vocabulary: expected model.vocab_size {vocab_size}, got {tokenizer.vocab_size()}")
    if tokenizer.piece_to_id(SPACE_PIECE) == tokenizer.unk_id():
        raise DataError(f"{path}: expected a stand-alone space piece, got none")
    base = np.zeros(vocab_size, dtype=np.int16)
    lead = np.zeros(vocab_size, dtype=np.bool_)
    boundary = np.ones(vocab_size, dtype=np.bool_)
    for token in range(vocab_size):
        if tokenizer.is_control(token) or tokenizer.is_unknown(token) or tokenizer.is_unused(token):
            continue
        piece = tokenizer.id_to_piece(token)
        boundary[token] = False
        lead[token] = piece.startswith(SPACE_PIECE)
        base[token] = 1 if tokenizer.is_byte(token) else len(piece.removeprefix(SPACE_PIECE).encode())
    return TokenBytes(torch.from_numpy(base), torch.from_numpy(lead), torch.from_numpy(boundary))


def _read_tokenizer(path: Path) -> spm.SentencePieceProcessor:
    try:
        serialized = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a SentencePiece model, got {error.strerror}") from error
    tokenizer = spm.SentencePieceProcessor()
    try:
        is_loaded = bool(serialized) and tokenizer.load_from_serialized_proto(serialized)
    except RuntimeError:
        is_loaded = False
    if not is_loaded:
        raise DataError(f"{path}: expected a SentencePiece model, got {len(serialized)} other bytes")
    return tokenizer
