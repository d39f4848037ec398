"""What a weight file holds: matrices of codes, and the rest as bytes. Formats and shapes follow from the recipe.

The rest, in name order: which matrices have a correction (where the recipe has any: their number, then their places
among the matrices, uint16), all scales, tensors stored as floats, the corrections. Nothing pickled.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from trainer.errors import ArtifactError
from trainer.layout import pack_bits, unpack_bits
from trainer.levels import Codes
from trainer.quantize import StoredCorrection, StoredTensor, storage_of
from trainer.store_config import LqerConfig, QuantConfig

LEFT_BITS = 2  # of a correction's first factor
RIGHT_BITS = 4  # and of its second


class Plan:
    """What the file of a recipe holds, before it is read.

    Attributes:
        shapes: of the matrices of codes.
        bits: of their codes.
        floats: format and shape of the other tensors.
    """

    def __init__(self, shapes: dict[str, torch.Size], config: QuantConfig, num_layers: int) -> None:
        self.lqer = config.lqer
        self.shapes: dict[str, tuple[int, int]] = {}
        self.bits: dict[str, int] = {}
        self.floats: dict[str, tuple[torch.dtype, torch.Size]] = {}
        for name in sorted(shapes):
            storage = storage_of(name, shapes[name], config, num_layers)
            if storage.bits is None:
                self.floats[name] = (storage.dtype, shapes[name])
            else:
                self.shapes[name] = (shapes[name][0], shapes[name][1])
                self.bits[name] = storage.bits

    @property
    def num_codes(self) -> int:
        """Codes of all matrices."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def max_payload(self) -> int:
        """Bytes before compression at most, in the largest layout: codes, an order of rows each, the rest."""
        return self.num_codes + sum(2 * num_rows for num_rows, _ in self.shapes.values()) + self.max_rest

    @property
    def max_rest(self) -> int:
        """Bytes of the rest at most."""
        size = sum(2 * num_rows for num_rows, _ in self.shapes.values())  # scales
        size += sum(dtype.itemsize * shape.numel() for dtype, shape in self.floats.values())
        if self.lqer is None:
            return size
        return size + 2 + sum(2 + correction_size(shape, self.lqer) for shape in self.shapes.values())


def correction_size(shape: tuple[int, int], lqer: LqerConfig) -> int:
    """Bytes of a correction."""
    rank, num_groups = correction_shape(shape, lqer)
    return -(-shape[0] * rank * LEFT_BITS // 8) + -(-shape[1] * rank * RIGHT_BITS // 8) + 2 + 2 * num_groups


def correction_shape(shape: tuple[int, int], lqer: LqerConfig) -> tuple[int, int]:
    """Rank and number of groups of a correction to a matrix."""
    rank = min(lqer.rank, *shape)
    return rank, -(-rank * shape[1] // lqer.group_size)


def codes_of(tensor: Tensor) -> Codes:
    """Codes as numpy has them."""
    return tensor.contiguous().cpu().numpy()


def write_rest(stored: dict[str, StoredTensor], plan: Plan) -> bytes:
    """All but the codes."""
    names = list(plan.shapes)
    corrected = [name for name in names if stored[name].correction is not None]
    parts: list[bytes] = []
    if plan.lqer is not None:
        places = [len(corrected), *(names.index(name) for name in corrected)]
        parts.append(np.array(places, "<u2").tobytes())
    parts += [to_raw(stored[name].scale_R) for name in names]
    parts += [to_raw(stored[name].values) for name in plan.floats]
    for name in corrected:
        correction = stored[name].correction
        assert correction is not None
        parts += [pack_bits(codes_of(correction.a_codes_RK), LEFT_BITS), to_raw(correction.a_scale)]
        parts += [pack_bits(codes_of(correction.b_codes_KC), RIGHT_BITS), to_raw(correction.b_scales_G)]
    return b"".join(parts)


def to_raw(tensor: Tensor) -> bytes:
    """A tensor's numbers as they lie in memory."""
    return tensor.contiguous().cpu().numpy().tobytes()


class Reader:
    """Takes tensors off the front of bytes.

    Raises:
        ArtifactError: there are fewer bytes than asked for.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.offset = data, 0

    def take(self, num_bytes: int) -> bytes:
        """The next bytes."""
        start, self.offset = self.offset, self.offset + num_bytes
        if self.offset > len(self.data):
            raise ArtifactError(f"weight file: expected {self.offset} payload bytes or more, got {len(self.data)}")
        return self.data[start : self.offset]

    def tensor(self, dtype: torch.dtype, *shape: int) -> Tensor:
        """The next tensor."""
        tensor = torch.empty(shape, dtype=dtype)
        raw = np.frombuffer(self.take(tensor.nbytes), np.uint8)
        tensor.numpy().reshape(-1).view(np.uint8)[:] = raw
        return tensor

    def codes(self, shape: tuple[int, int], bits: int) -> Tensor:
        """The next matrix of packed codes."""
        data = np.frombuffer(self.take(-(-bits * math.prod(shape) // 8)), np.uint8)
        return torch.from_numpy(unpack_bits(data, shape, bits))


def read_rest(rest: bytes, codes: dict[str, Codes], plan: Plan) -> dict[str, StoredTensor]:
    """The stored tensors, from the rest and the codes.

    Raises:
        ArtifactError: the rest is not of this recipe.
    """
    reader, names = Reader(rest), list(plan.shapes)
    places: list[int] = []
    if plan.lqer is not None:
        places = reader.tensor(torch.uint16, int(reader.tensor(torch.uint16))).tolist()
    if sorted(set(places)) != places or any(place >= len(names) for place in places):
        raise ArtifactError("weight file: its corrections are of no matrix")
    stored: dict[str, StoredTensor] = {}
    for name in names:
        scale_R = reader.tensor(torch.float16, plan.shapes[name][0])
        stored[name] = StoredTensor(values=torch.from_numpy(codes[name].copy()), scale_R=scale_R)
    for name, (dtype, shape) in plan.floats.items():
        stored[name] = StoredTensor(values=reader.tensor(dtype, *shape), scale_R=torch.empty(0, dtype=torch.float16))
    for name in [names[place] for place in places]:
        stored[name] = replace(stored[name], correction=read_correction(reader, plan.shapes[name], plan.lqer))
    if reader.offset != len(rest):
        raise ArtifactError(f"weight file: expected {reader.offset} payload bytes beside codes, got {len(rest)}")
    return stored


def read_correction(reader: Reader, shape: tuple[int, int], lqer: LqerConfig | None) -> StoredCorrection:
    """The next correction."""
    assert lqer is not None
    rank, num_groups = correction_shape(shape, lqer)
    return StoredCorrection(
        a_codes_RK=reader.codes((shape[0], rank), LEFT_BITS),
        a_scale=reader.tensor(torch.float16),
        b_codes_KC=reader.codes((rank, shape[1]), RIGHT_BITS),
        b_scales_G=reader.tensor(torch.float16, num_groups),
    )
