"""The weight file: stored tensors to bytes and back. Nothing pickled.

Layout: 4 bytes CRC-32 of the payload, then the payload compressed. The payload is every tensor's values in name
order, integers first, then all scales, then floats. Formats and shapes follow from the recipe: no table of contents.
"""

import lzma
import platform
import zlib
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor

from trainer.errors import ArtifactError, ConfigError
from trainer.quantize import StoredTensor, storage_of
from trainer.store_config import Compressor, QuantConfig

try:
    import zstandard
except ImportError:
    zstandard = None
try:
    import brotli
except ImportError:
    brotli = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One run of bytes of the payload: a tensor's values or its scales."""

    name: str
    is_scale: bool
    dtype: torch.dtype
    shape: tuple[int, ...]


def sections_of(shapes: dict[str, torch.Size], config: QuantConfig, num_layers: int) -> list[Section]:
    """The payload's order: codes, then scales, then floats, so that like stands beside like."""
    codes: list[Section] = []
    scales: list[Section] = []
    floats: list[Section] = []
    for name in sorted(shapes):
        storage = storage_of(name, shapes[name], config, num_layers)
        section = Section(name=name, is_scale=False, dtype=storage.dtype, shape=tuple(shapes[name]))
        if storage.bits is None:
            floats.append(section)
        else:
            codes.append(section)
            scales.append(Section(name=name, is_scale=True, dtype=torch.float16, shape=(shapes[name][0],)))
    return codes + scales + floats


def package_of(compressor: Compressor) -> Any:
    """The module of a compressor, to be asked for before training rather than after it.

    Raises:
        ConfigError: its package is not installed here.
    """
    modules = {
        Compressor.ZLIB: zlib,
        Compressor.LZMA: lzma,
        Compressor.ZSTD: zstandard,
        Compressor.BROTLI: brotli,
    }
    if modules[compressor] is None:
        raise ConfigError(f"compressor: expected an installed package, got none for {compressor.value}")
    return modules[compressor]


def version_of(compressor: Compressor) -> str:
    """The version of a compressor's package; Python's own for what comes with Python."""
    is_builtin = compressor in {Compressor.ZLIB, Compressor.LZMA}
    return platform.python_version() if is_builtin else package_of(compressor).__version__


def compress(payload: bytes, compressor: Compressor) -> bytes:
    """The payload at the compressor's strongest setting."""
    package = package_of(compressor)
    match compressor:
        case Compressor.ZLIB:
            return package.compress(payload, 9)
        case Compressor.LZMA:
            return package.compress(payload, format=lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME)
        case Compressor.ZSTD:
            return package.ZstdCompressor(level=22).compress(payload)
        case Compressor.BROTLI:
            return package.compress(payload, quality=11, lgwin=24)
        case _:
            assert_never(compressor)


def decompress(data: bytes, compressor: Compressor) -> bytes:
    """The payload again; raises one of corruption_errors on damaged data."""
    package = package_of(compressor)
    match compressor:
        case Compressor.ZLIB | Compressor.LZMA | Compressor.BROTLI:
            return package.decompress(data)
        case Compressor.ZSTD:
            return package.ZstdDecompressor().decompress(data)
        case _:
            assert_never(compressor)


def corruption_errors(compressor: Compressor) -> tuple[type[Exception], ...]:
    """What a compressor's package raises on damaged data."""
    package = package_of(compressor)
    match compressor:
        case Compressor.ZLIB | Compressor.BROTLI:
            return (package.error,)
        case Compressor.LZMA:
            return (package.LZMAError, EOFError)
        case Compressor.ZSTD:
            return (package.ZstdError,)
        case _:
            assert_never(compressor)


def payload_of(stored: dict[str, StoredTensor], config: QuantConfig, num_layers: int) -> bytes:
    """All sections, one after another."""
    shapes = {name: tensor.values.shape for name, tensor in stored.items()}
    parts: list[bytes] = []
    for section in sections_of(shapes, config, num_layers):
        tensor = stored[section.name].scale_R if section.is_scale else stored[section.name].values
        parts.append(tensor.contiguous().cpu().numpy().tobytes())
    return b"".join(parts)


def encode(stored: dict[str, StoredTensor], config: QuantConfig, num_layers: int, compressor: Compressor) -> bytes:
    """The weight file.

    Raises:
        ConfigError: the compressor's package is not installed.
    """
    payload = payload_of(stored, config, num_layers)
    return zlib.crc32(payload).to_bytes(4, "little") + compress(payload, compressor)


def decode(
    data: bytes, shapes: dict[str, torch.Size], config: QuantConfig, num_layers: int, compressor: Compressor
) -> dict[str, StoredTensor]:
    """The stored tensors of a weight file, on CPU.

    Args:
        shapes: of the recipe's weights.

    Raises:
        ArtifactError: the file is damaged, or is not one of this recipe.
    """
    try:
        payload = decompress(data[4:], compressor)
    except corruption_errors(compressor) as error:
        raise ArtifactError(f"weight file: expected {compressor.value} data, got {error}") from error
    if zlib.crc32(payload) != int.from_bytes(data[:4], "little"):
        raise ArtifactError("weight file: its checksum does not match its contents")
    sections = sections_of(shapes, config, num_layers)
    sizes = [torch.Size(section.shape).numel() * section.dtype.itemsize for section in sections]
    if sum(sizes) != len(payload):
        raise ArtifactError(f"weight file: expected {sum(sizes)} payload bytes for this recipe, got {len(payload)}")
    values: dict[str, Tensor] = {}
    scales: dict[str, Tensor] = {}
    offset, raw = 0, np.frombuffer(payload, dtype=np.uint8)
    for section, size in zip(sections, sizes, strict=True):
        tensor = torch.empty(section.shape, dtype=section.dtype)
        tensor.numpy().reshape(-1).view(np.uint8)[:] = raw[offset : offset + size]
        (scales if section.is_scale else values)[section.name] = tensor
        offset += size
    return {
        name: StoredTensor(values=values[name], scale_R=scales.get(name, torch.empty(0, dtype=torch.float16)))
        for name in shapes
    }
