"""General-purpose compressors at their strongest settings, and what this machine has of them."""

import lzma
import platform
import zlib
from typing import Any, assert_never

from trainer.errors import ArtifactError, ConfigError
from trainer.store_config import Compressor

try:
    import zstandard
except ImportError:
    zstandard = None
try:
    import brotli
except ImportError:
    brotli = None

MAX_WINDOW_BYTES = 2**27  # of zstd level 22; what a damaged header may ask a decompressor to allocate
MAX_LZMA_BYTES = 2**28  # preset 9 needs 65 MiB to decompress


def package_of(compressor: Compressor) -> Any:
    """The module of a compressor, to be asked for before training rather than after it.

    Raises:
        ConfigError: its package is not installed here.
    """
    modules = {Compressor.ZLIB: zlib, Compressor.ZSTD: zstandard, Compressor.BROTLI: brotli}
    package = modules.get(compressor, lzma)  # RANS and BEST need nothing but Python and numpy
    if package is None:
        raise ConfigError(f"compressor: expected an installed package, got none for {compressor.value}")
    return package


def installed_compressors() -> list[Compressor]:
    """The general-purpose compressors that work here."""
    optional = {Compressor.ZSTD: zstandard, Compressor.BROTLI: brotli}
    return [Compressor.ZLIB, Compressor.LZMA] + [name for name, package in optional.items() if package is not None]


def version_of(compressor: Compressor) -> str:
    """The version of a compressor's package; Python's own for what comes with Python; all of them for BEST."""
    match compressor:
        case Compressor.ZLIB | Compressor.LZMA:
            return platform.python_version()
        case Compressor.ZSTD | Compressor.BROTLI:
            return package_of(compressor).__version__
        case Compressor.RANS:
            return "1"
        case Compressor.BEST:
            versions = [f"{name.value} {version_of(name)}" for name in installed_compressors()]
            return ", ".join([*versions, f"rans {version_of(Compressor.RANS)}"])
        case _:
            assert_never(compressor)


def compress(payload: bytes, compressor: Compressor) -> bytes:
    """The payload at the strongest setting of a general-purpose compressor."""
    package = package_of(compressor)
    match compressor:
        case Compressor.ZLIB:
            return package.compress(payload, 9)
        case Compressor.LZMA:
            window = 1 << max((len(payload) - 1).bit_length(), 12)  # a preset's own takes 0.7 GB whatever the payload
            strongest = {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": min(window, 1 << 26)}
            return package.compress(payload, format=lzma.FORMAT_ALONE, filters=[strongest])
        case Compressor.ZSTD:
            return package.ZstdCompressor(level=22).compress(payload)
        case Compressor.BROTLI:
            return package.compress(payload, quality=11, lgwin=24)
        case Compressor.RANS | Compressor.BEST:
            raise ConfigError(f"compressor: expected a general-purpose one, got {compressor.value}")
        case _:
            assert_never(compressor)


def decompress(data: bytes, compressor: Compressor, max_bytes: int) -> bytes:
    """The payload again; where it is longer than max_bytes only a little more than that, whatever the data claim.

    Raises:
        ArtifactError: the data are damaged.
    """
    package, most = package_of(compressor), max_bytes + 1
    try:
        match compressor:
            case Compressor.ZLIB:
                return package.decompressobj().decompress(data, most)
            case Compressor.LZMA:
                return package.LZMADecompressor(lzma.FORMAT_ALONE, MAX_LZMA_BYTES).decompress(data, most)
            case Compressor.ZSTD:
                return package.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(data).read(most)
            case Compressor.BROTLI:
                return package.Decompressor().process(data, output_buffer_limit=most)
            case Compressor.RANS | Compressor.BEST:
                raise ConfigError(f"compressor: expected a general-purpose one, got {compressor.value}")
            case _:
                assert_never(compressor)
    except corruption_errors(compressor) as error:
        raise ArtifactError(f"weight file: expected {compressor.value} data, got {error}") from error


def corruption_errors(compressor: Compressor) -> tuple[type[Exception], ...]:
    """What a general-purpose compressor's package raises on damaged data."""
    package = package_of(compressor)
    match compressor:
        case Compressor.ZLIB | Compressor.BROTLI:
            return (package.error,)
        case Compressor.LZMA | Compressor.RANS | Compressor.BEST:
            return (package.LZMAError, EOFError)
        case Compressor.ZSTD:
            return (package.ZstdError,)
        case _:
            assert_never(compressor)
