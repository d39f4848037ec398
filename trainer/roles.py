"""What a tensor is for, read from its name."""

from enum import StrEnum


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
