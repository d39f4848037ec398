"""How codes and the bytes beside them are laid out for a general-purpose compressor.

Shapes: R rows, C columns.
"""

import math
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from trainer.errors import ArtifactError
from trainer.levels import Codes
from trainer.roles import layer_of
from trainer.store_config import Layout

SORTED_ROLES = ("tok_emb", ".attn.c_q.weight", ".mlp.fc.weight")  # whose similar rows are put beside each other
MOST_SORTED_ROWS = 16_384  # their distances to each other take 1 GB
Bytes = NDArray[np.uint8]
Shapes = dict[str, tuple[int, int]]


def lay_out(codes: dict[str, Codes], bits: dict[str, int], rest: bytes, layout: Layout) -> bytes:
    """The payload of matrices of codes, in name order, and of the rest.

    Args:
        bits: of each matrix's codes.
    """
    names = sorted(codes)
    match layout:
        case Layout.PLAIN:
            return b"".join(codes[name].tobytes() for name in names) + rest
        case Layout.PACKED:
            return b"".join(pack_bits(codes[name], bits[name]) for name in names) + rest
        case Layout.SHUFFLED:
            plain = lay_out(codes, bits, rest, Layout.PLAIN)
            return plain[::2] + plain[1::2]
        case Layout.GROUPED:
            names.sort(key=group_key)
            orders = {name: similarity_order(codes[name]) for name in names if name.endswith(SORTED_ROLES)}
            parts = [order.tobytes() for order in orders.values()]
            parts += [(codes[name][orders[name]] if name in orders else codes[name]).T.tobytes() for name in names]
            return b"".join(parts) + rest
        case _:
            assert_never(layout)


def take_apart(payload: bytes, shapes: Shapes, bits: dict[str, int], layout: Layout) -> tuple[dict[str, Codes], bytes]:
    """The matrices of codes and the rest that lay_out was given.

    Raises:
        ArtifactError: the payload is too short, or an order of rows is none.
    """
    names, data = sorted(shapes), np.frombuffer(payload, np.uint8)
    match layout:
        case Layout.PLAIN:
            parts, rest = cut(data, [math.prod(shapes[name]) for name in names])
            codes = [part.view(np.int8).reshape(shapes[name]) for name, part in zip(names, parts, strict=True)]
        case Layout.PACKED:
            parts, rest = cut(data, [-(-bits[name] * math.prod(shapes[name]) // 8) for name in names])
            codes = [unpack_bits(part, shapes[name], bits[name]) for name, part in zip(names, parts, strict=True)]
        case Layout.SHUFFLED:
            plain = np.empty(len(data), np.uint8)
            plain[::2], plain[1::2] = np.split(data, [-(-len(data) // 2)])
            return take_apart(plain.tobytes(), shapes, bits, Layout.PLAIN)
        case Layout.GROUPED:
            names.sort(key=group_key)
            is_sorted = [name.endswith(SORTED_ROLES) for name in names]
            orders, after = cut(data, [2 * shapes[name][0] * mark for name, mark in zip(names, is_sorted, strict=True)])
            parts, rest = cut(np.frombuffer(after, np.uint8), [math.prod(shapes[name]) for name in names])
            codes = [
                put_back(part.view(np.int8).reshape(shapes[name][::-1]).T, order.view("<u2") if mark else None)
                for name, part, order, mark in zip(names, parts, orders, is_sorted, strict=True)
            ]
        case _:
            assert_never(layout)
    return dict(zip(names, codes, strict=True)), rest


def cut(data: Bytes, sizes: list[int]) -> tuple[list[Bytes], bytes]:
    """Pieces of these sizes, and what comes after them.

    Raises:
        ArtifactError: there are fewer bytes.
    """
    if len(data) < sum(sizes):
        raise ArtifactError(
            f"weight file: expected {sum(sizes)} payload bytes of codes for this recipe, got {len(data)}"
        )
    pieces = np.split(data, np.cumsum([0, *sizes]))[1:]
    return pieces[:-1], pieces[-1].tobytes()


def put_back(codes_RC: Codes, order_R: NDArray[np.uint16] | None) -> Codes:
    """Rows where they were before they were put in an order.

    Raises:
        ArtifactError: it is no order of these rows.
    """
    if order_R is None:
        return codes_RC.copy()
    if not np.array_equal(np.sort(order_R), np.arange(len(codes_RC))):
        raise ArtifactError("weight file: an order of rows is damaged")
    put_RC = np.empty_like(codes_RC)
    put_RC[order_R] = codes_RC
    return put_RC


def pack_bits(codes_RC: Codes, bits: int) -> bytes:
    """Codes as a stream of two's complements of that many bits, lowest bit first, into the low bits of bytes first."""
    bits_NB = (codes_RC.reshape(-1, 1).view(np.uint8) >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(bits_NB, bitorder="little").tobytes()


def unpack_bits(data: Bytes, shape: tuple[int, int], bits: int) -> Codes:
    """The codes that pack_bits was given."""
    bits_NB = np.unpackbits(data, count=math.prod(shape) * bits, bitorder="little").reshape(-1, bits)
    values = (bits_NB << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    sign = np.uint8(1 << (bits - 1))
    return ((values ^ sign) - sign).view(np.int8).reshape(shape)


def group_key(name: str) -> tuple[str, int]:
    """Sorts matrices by what they are, then by layer."""
    layer = layer_of(name)
    return (name, -1) if layer is None else (name.replace(f".{layer}.", "..", 1), layer)


def similarity_order(codes_RC: Codes) -> NDArray[np.uint16]:
    """An order of rows (R,) in which each is followed by the nearest of those left, from row 0 on.

    By squared distance, which one matrix product gives; PR 1855 takes the sum of magnitudes, for files 0.1 % smaller.
    """
    num_rows = len(codes_RC)
    if num_rows > MOST_SORTED_ROWS:
        return np.arange(num_rows).astype("<u2")
    float_RC = codes_RC.astype(np.float32)
    distance_RR = float_RC @ float_RC.T
    distance_RR *= -2
    left_R = (float_RC**2).sum(axis=1)
    order_R = np.zeros(num_rows, "<u2")
    for place in range(1, num_rows):
        last = order_R[place - 1]
        left_R[last] = np.inf
        order_R[place] = np.argmin(distance_RR[last] + left_R)
    return order_R
