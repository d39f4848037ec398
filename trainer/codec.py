"""The weight file: stored tensors to bytes and back.

Layout: 4 bytes CRC-32 of codes and rest, then both compressed. With BEST a byte before it all says how.
"""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor

import torch

from trainer.compress import compress, decompress, installed_compressors
from trainer.contents import Plan, codes_of, read_rest, write_rest
from trainer.entropy import Family, pack_matrices, unpack_matrices
from trainer.errors import ArtifactError
from trainer.layout import lay_out, take_apart
from trainer.levels import Codes
from trainer.quantize import StoredTensor
from trainer.roles import role_of
from trainer.store_config import Compressor, Layout, QuantConfig

CHECKSUM_BYTES = 4
# What BEST chooses from: the file's first byte is a place in this list, the likeliest to be smallest first.
PAIRS = (
    (Compressor.RANS, Layout.PLAIN),
    (Compressor.BROTLI, Layout.GROUPED),
    (Compressor.BROTLI, Layout.SHUFFLED),
    (Compressor.LZMA, Layout.GROUPED),
    (Compressor.BROTLI, Layout.PLAIN),
    (Compressor.BROTLI, Layout.PACKED),
    (Compressor.LZMA, Layout.PLAIN),
    (Compressor.LZMA, Layout.PACKED),
    (Compressor.LZMA, Layout.SHUFFLED),
    (Compressor.ZSTD, Layout.PLAIN),
    (Compressor.ZSTD, Layout.PACKED),
    (Compressor.ZSTD, Layout.SHUFFLED),
    (Compressor.ZSTD, Layout.GROUPED),
    (Compressor.ZLIB, Layout.PLAIN),
    (Compressor.ZLIB, Layout.PACKED),
    (Compressor.ZLIB, Layout.SHUFFLED),
    (Compressor.ZLIB, Layout.GROUPED),
)
# Codes up to which BEST tries all pairs, and up to which the first four; above, RANS alone: the others were 1.5 to 20 %
# larger at 16 and 36 million codes, and take minutes.
TRIES_ALL = 2**18
TRIES_SOME = 2**22


def plan_of(stored: dict[str, StoredTensor], config: QuantConfig, num_layers: int) -> Plan:
    """What the file of these tensors holds."""
    return Plan({name: tensor.values.shape for name, tensor in stored.items()}, config, num_layers)


def payload_size(stored: dict[str, StoredTensor], config: QuantConfig, num_layers: int) -> int:
    """Bytes of the file before compression."""
    plan = plan_of(stored, config, num_layers)
    return plan.num_codes + len(write_rest(stored, plan))


def families_of(plan: Plan) -> list[Family]:
    """Which matrices share tables of the entropy coder."""
    return [(role_of(name).value, bits) for name, bits in plan.bits.items()]


def checksum(codes: dict[str, Codes], rest: bytes) -> bytes:
    """Of the codes in name order and the rest."""
    value = 0
    for name in sorted(codes):
        value = zlib.crc32(codes[name].tobytes(), value)
    return zlib.crc32(rest, value).to_bytes(CHECKSUM_BYTES, "little")


def encode(
    stored: dict[str, StoredTensor], config: QuantConfig, num_layers: int, compressor: Compressor, layout: Layout
) -> bytes:
    """The weight file.

    Raises:
        ConfigError: the compressor's package is not installed.
    """
    plan = plan_of(stored, config, num_layers)
    codes = {name: codes_of(stored[name].values) for name in plan.shapes}
    rest = write_rest(stored, plan)

    def pack(pair: tuple[Compressor, Layout]) -> bytes:
        """Codes and rest by a compressor after a layout."""
        if pair[0] is Compressor.RANS:
            return pack_matrices(list(codes.values()), families_of(plan), rest)
        return compress(lay_out(codes, plan.bits, rest, pair[1]), pair[0])

    start = checksum(codes, rest)
    if compressor is not Compressor.BEST:
        return start + pack((compressor, layout))
    usable = {*installed_compressors(), Compressor.RANS}
    num_tried = len(PAIRS) if plan.num_codes <= TRIES_ALL else 4 if plan.num_codes <= TRIES_SOME else 1
    places = [place for place, pair in enumerate(PAIRS[:num_tried]) if pair[0] in usable]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = pool.map(lambda place: bytes([place]) + start + pack(PAIRS[place]), places)
        return min(files, key=len)


def decode(
    data: bytes,
    shapes: dict[str, torch.Size],
    config: QuantConfig,
    num_layers: int,
    compressor: Compressor,
    layout: Layout,
) -> dict[str, StoredTensor]:
    """The stored tensors of a weight file, on CPU.

    Args:
        shapes: of the recipe's weights.
        num_layers: of the recipe's model.

    Raises:
        ArtifactError: the file is damaged, or is not one of this recipe.
    """
    if compressor is Compressor.BEST:
        if not data or data[0] >= len(PAIRS):
            raise ArtifactError(f"weight file: expected a first byte below {len(PAIRS)}, got {data[:1]!r}")
        compressor, layout = PAIRS[data[0]]
        data = data[1:]
    plan = Plan(shapes, config, num_layers)
    start, data = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
    if compressor is Compressor.RANS:
        matrices, rest = unpack_matrices(data, list(plan.shapes.values()), families_of(plan), plan.max_rest)
        codes = dict(zip(plan.shapes, matrices, strict=True))
    else:
        payload = decompress(data, compressor, plan.max_payload)
        codes, rest = take_apart(payload, plan.shapes, plan.bits, layout)
    if checksum(codes, rest) != start:
        raise ArtifactError("weight file: its checksum does not match its contents")
    return read_rest(rest, codes, plan)
