"""What a tensor is for, and the format that follows from it: read from names and shapes. Standard library only."""

from collections.abc import Sequence
from enum import StrEnum
from math import prod
from typing import assert_never

from trainer.store_config import QuantConfig


class Role(StrEnum):
    """What a tensor is for, which decides how it is stored."""

    TABLE = "table"  # token tables: embedding, bigram, value
    MLP = "mlp"
    MATRIX = "matrix"  # every other matrix
    GATE = "gate"  # attention gates
    CONTROL = "control"  # vectors and scalars


def role_of(name: str) -> Role:
    """A tensor's role."""
    if name == "tok_emb" or name.endswith(".table"):
        return Role.TABLE
    if name.endswith(".attn.gate"):
        return Role.GATE
    if not name.endswith(".weight"):
        return Role.CONTROL
    return Role.MLP if ".mlp." in name else Role.MATRIX


def layer_of(name: str) -> int | None:
    """The block a tensor belongs to; None outside blocks."""
    return int(name.split(".")[1]) if name.startswith("blocks.") else None


def bits_of(name: str, config: QuantConfig, num_layers: int) -> int:
    """Bits a number of a tensor is stored with where it is large enough for integers; 16 and 32 are floats."""
    layer = layer_of(name)
    match role_of(name):
        case Role.CONTROL:
            return config.control_bits
        case Role.GATE:
            return config.gate_bits
        case Role.TABLE:
            if name != "tok_emb" and config.table_bits is not None:
                return config.table_bits
            return config.embed_bits
        case Role.MLP | Role.MATRIX as role:
            run = config.layer_bits
            if layer is not None and name.endswith(".c_k.weight") and layer >= num_layers - config.late_k_layers:
                return 16
            if layer is not None and run is not None and run.first_layer <= layer <= run.last_layer:
                return run.bits
            return config.mlp_bits or config.matrix_bits if role is Role.MLP else config.matrix_bits
        case _ as never:
            assert_never(never)


def stored_bits(name: str, shape: Sequence[int], config: QuantConfig, num_layers: int) -> int:
    """Bits a number of a tensor is stored with: 4 to 8 with a step a row, or those of a float format, 16 or 32."""
    bits = bits_of(name, config, num_layers)
    is_small = len(shape) != 2 or (prod(shape) <= config.passthrough_numel and role_of(name) is not Role.GATE)
    return max(bits, 16) if is_small else bits
