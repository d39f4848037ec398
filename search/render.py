"""Configs as Python: a recipe or budget as the constructor call that makes it again."""

import math
from dataclasses import fields, is_dataclass
from enum import Enum

from search.errors import BundleError


def render(value: object, path: str = "", indent: int = 0) -> str:
    """The expression that evaluates to value, every field spelled out; configs span lines.

    Args:
        path: where value stands, for messages.
        indent: spaces before the line the expression starts on.

    Raises:
        BundleError: a value that has no literal.
    """
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if value is None or isinstance(value, bool | int | str):
        return repr(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, tuple):
        items = [render(item, f"{path}[{index}]", indent) for index, item in enumerate(value)]
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if is_dataclass(value) and not isinstance(value, type):
        return render_config(value, path, indent)
    where = path or "config"
    raise BundleError(f"{where}: expected a number, a string, an enum, a tuple, a config or None, got {value!r}")


def render_config(config: object, path: str, indent: int) -> str:
    """A dataclass as a call with one field a line."""
    assert is_dataclass(config)
    lines: list[str] = []
    for field in fields(config):
        where = f"{path}.{field.name}" if path else field.name
        lines.append(f"{' ' * (indent + 4)}{field.name}={render(getattr(config, field.name), where, indent + 4)},")
    return "\n".join([f"{type(config).__name__}(", *lines, f"{' ' * indent})"])
