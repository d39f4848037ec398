"""The space of everything: all ready params, in which each named recipe is a point."""

from spaces import architecture, evaluation, optimizer, quantization, shape, storage, training
from spaces.space import Param

# In the order in which their params are suggested: the conditions of each may look at those before it.
PARTS = (shape, architecture, quantization, storage, optimizer, training, evaluation)


def params() -> tuple[Param, ...]:
    """Every param of every family."""
    return tuple(param for part in PARTS for param in part.params())
