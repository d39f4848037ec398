"""Interleaved rANS: symbols to as many bits as their tables of frequencies promise, in pure numpy.

Many coders (lanes) take turns, symbol i belonging to lane i modulo their number, so that one numpy call serves all of
them. The decoder takes 16-bit words from one stream in the order in which its lanes ask for them. All arithmetic is
on integers: a file reads back the same everywhere. Sources: arXiv 1311.2540 (asymmetric numeral systems), arXiv
1402.3392 (interleaving).

Shapes: N symbols, K tables, A symbols of an alphabet.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainer.errors import ArtifactError

PRECISION = 14  # bits of a table's sum
LOW = 1 << 16  # states stay in [LOW, LOW ** 2)


def lanes_of(count: int) -> int:
    """How many lanes that many symbols are spread over: more are quicker, and cost 3 bytes each."""
    return max(math.isqrt(count) // 8, 1)


def starts_of(freq_KA: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Where each symbol's share of its table begins."""
    return np.cumsum(freq_KA, axis=1, dtype=np.uint32) - freq_KA


def rans_encode(symbols_N: NDArray[np.uint8], tables_N: NDArray[np.uint8], freq_KA: NDArray[np.uint32]) -> bytes:
    """Final states of all lanes, then the words, in the order in which the decoder reads them.

    Args:
        tables_N: which table each symbol is coded with.
        freq_KA: rows that sum to 2 ** PRECISION, above 0 for every symbol that occurs.
    """
    freq, start = freq_KA.ravel(), starts_of(freq_KA).ravel()
    lanes = lanes_of(len(symbols_N))
    state = np.full(lanes, LOW, np.uint32)
    words: list[NDArray[np.uint16]] = []
    for first in reversed(range(0, len(symbols_N), lanes)):  # the decoder runs forward, so the coder runs backward
        stop = first + lanes
        place = tables_N[first:stop].astype(np.intp) * freq_KA.shape[1] + symbols_N[first:stop]
        share, old = freq[place], state[: len(place)]
        is_full = (old >> (32 - PRECISION)) >= share
        words.append(old[is_full].astype(np.uint16))
        old = np.where(is_full, old >> 16, old)
        quotient = old // share
        state[: len(place)] = (quotient << PRECISION) + (old - quotient * share) + start[place]
    return state.astype("<u4").tobytes() + np.concatenate([state[:0], *words[::-1]]).astype("<u2").tobytes()


def rans_decode(data: bytes, tables_N: NDArray[np.uint8], freq_KA: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The symbols that rans_encode was given.

    Raises:
        ArtifactError: the data are damaged.
    """
    lanes, size = lanes_of(len(tables_N)), freq_KA.shape[1]
    if len(data) < 4 * lanes or len(data) % 2:
        raise ArtifactError(f"weight file: expected states and words of {lanes} lanes, got {len(data)} bytes")
    freq, start = freq_KA.ravel(), starts_of(freq_KA).ravel()
    symbol_of = np.repeat(np.tile(np.arange(size, dtype=np.uint8), len(freq_KA)), freq)
    state = np.frombuffer(data, "<u4", lanes).astype(np.uint32)
    words = np.frombuffer(data, "<u2", offset=4 * lanes).astype(np.uint32)
    symbols_N, read = np.empty(len(tables_N), np.uint8), 0
    for first in range(0, len(tables_N), lanes):
        table = tables_N[first : first + lanes].astype(np.intp)
        old = state[: len(table)]
        slot = old & ((1 << PRECISION) - 1)
        symbol = symbol_of[(table << PRECISION) + slot]
        symbols_N[first : first + lanes] = symbol
        place = table * size + symbol
        new = freq[place] * (old >> PRECISION) + slot - start[place]
        hungry = np.flatnonzero(new < LOW)
        taken = words[read : read + len(hungry)]
        read += len(hungry)
        if len(taken) < len(hungry):
            break
        new[hungry] = (new[hungry] << 16) | taken
        state[: len(table)] = new
    if read != len(words) or (state != LOW).any():
        raise ArtifactError("weight file: its entropy-coded part is damaged")
    return symbols_N
