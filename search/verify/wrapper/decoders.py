"""Decompression of strangers' data: the output, and the memory it takes, are bounded."""

import bz2
import importlib
import io
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

MAX_OUTPUT_BYTES = 32_000_000  # code that matters has 0.4 MB
MAX_DICTIONARY_BYTES = 1 << 26  # of LZMA's strongest preset; a file may ask for 4 GB
MAX_MEMORY_BYTES = MAX_DICTIONARY_BYTES + (1 << 24)
FILTER_KEYS = frozenset({"id", "preset", "dict_size", "lc", "lp", "pb", "mode", "nice_len", "mf", "depth", "dist"})


class OpaqueError(Exception):
    """A payload cannot be read without running it; the message says what stands in the way."""


class Incremental(Protocol):
    """A decompressor of the standard library."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """The next part of the output."""
        ...


def lzma_decompress(
    data: bytes,
    format: int = lzma.FORMAT_AUTO,
    memlimit: int | None = None,
    filters: Sequence[Mapping[str, int]] | None = None,
    is_partial: bool = False,
) -> bytes:
    """What lzma.decompress returns."""
    del memlimit
    checked = None if filters is None else [checked_filter(one) for one in filters]
    limit = None if format == lzma.FORMAT_RAW else MAX_MEMORY_BYTES
    return _all_streams(data, lambda: lzma.LZMADecompressor(format, limit, checked), is_partial)


def checked_filter(one: Mapping[str, Any]) -> dict[str, int]:
    """A filter of a raw stream that takes bounded memory."""
    if not set(one) <= FILTER_KEYS or not all(isinstance(value, int) for value in one.values()):
        raise OpaqueError(f"LZMA filters with unknown keys: {sorted(map(str, one))[:9]}")
    if one.get("dict_size", 0) > MAX_DICTIONARY_BYTES:
        raise OpaqueError(f"LZMA with a dictionary of {one['dict_size']} bytes")
    return dict(one)


def bz2_decompress(data: bytes, is_partial: bool = False) -> bytes:
    """What bz2.decompress returns."""
    return _all_streams(data, bz2.BZ2Decompressor, is_partial)


def gzip_decompress(data: bytes) -> bytes:
    """What gzip.decompress returns."""
    return zlib_decompress(data, wbits=16 + zlib.MAX_WBITS)


def zlib_decompress(data: bytes, /, wbits: int = zlib.MAX_WBITS, bufsize: int = 0, is_partial: bool = False) -> bytes:
    """What zlib.decompress returns; of a gzip file, all members."""
    del bufsize
    return _all_streams(data, lambda: _ZlibStream(wbits), is_partial)


class _ZlibStream:
    """A zlib stream with the attributes of the other decompressors."""

    def __init__(self, wbits: int) -> None:
        self._stream = zlib.decompressobj(wbits)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(data, max_length)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data


def _all_streams(data: bytes, start: Callable[[], Any], is_partial: bool) -> bytes:
    """Streams one after another, as the libraries read them; what follows the first and is none of them is left.

    An object that decompresses takes a stream without its end, the functions do not.
    """
    parts: list[bytes] = []
    size = 0
    while data or not parts:
        stream = start()
        try:
            part = stream.decompress(data, MAX_OUTPUT_BYTES + 1 - size)
        except Exception:
            if parts:
                break
            raise
        parts.append(part)
        size += len(part)
        if size > MAX_OUTPUT_BYTES:
            raise too_much()
        if not (stream.eof or is_partial):
            raise OpaqueError("a compressed payload that ends too early")
        data = stream.unused_data if stream.eof else b""
    return b"".join(parts)


def too_much() -> OpaqueError:
    """What a bomb gets."""
    return OpaqueError(f"a payload that decompresses to more than {MAX_OUTPUT_BYTES} bytes")


def brotli_decompress(data: bytes, **_: object) -> bytes:
    """What brotli.decompress returns."""
    try:
        library: Any = importlib.import_module("brotli")
    except ImportError:
        raise OpaqueError("a brotli payload; the package brotli, which reads it, is not installed here") from None
    try:
        return _brotli_parts(library.Decompressor(), data)
    except library.error as error:
        raise OpaqueError(f"a brotli payload that does not decompress ({error})") from error


def _brotli_parts(stream: Any, data: bytes) -> bytes:
    parts, size = [stream.process(data, output_buffer_limit=1 << 20)], 0
    while parts[-1] or not stream.is_finished():
        size += len(parts[-1])
        if size > MAX_OUTPUT_BYTES:
            raise too_much()
        if not parts[-1] and stream.can_accept_more_data():
            raise OpaqueError("a brotli payload that ends too early")
        if stream.is_finished():
            break
        parts.append(stream.process(b"", output_buffer_limit=1 << 20))
    return b"".join(parts)


def zstandard_decompress(data: bytes, **_: object) -> bytes:
    """What zstandard.decompress returns."""
    import zstandard  # of the project itself; imported late because few files need it

    reader = zstandard.ZstdDecompressor(max_window_size=MAX_DICTIONARY_BYTES)
    try:
        with reader.stream_reader(io.BytesIO(data)) as stream:
            found = stream.read(MAX_OUTPUT_BYTES + 1)
    except zstandard.ZstdError as error:
        raise OpaqueError(f"a zstandard payload that does not decompress ({error})") from error
    if len(found) > MAX_OUTPUT_BYTES:
        raise too_much()
    return found
