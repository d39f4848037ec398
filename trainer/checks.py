"""How configs refuse values: every message names the field, what was expected and what came. Standard library only."""

from trainer.errors import ConfigError


def require(holds: bool, path: str, expected: str, got: object) -> None:
    """Raise ConfigError naming the field where holds is false."""
    if not holds:
        raise ConfigError(f"{path}: {expected}, got {got}")


def require_positive(**values: float | None) -> None:
    """Require named values above 0; None is no value. A double underscore stands for the dot of a path."""
    for name, value in values.items():
        require(value is None or value > 0, name.replace("__", "."), "must be positive", value)


def require_not_negative(**values: float) -> None:
    """Require named values of at least 0."""
    for name, value in values.items():
        require(value >= 0, name.replace("__", "."), "must not be negative", value)


def require_fraction(**values: float) -> None:
    """Require named values in [0, 1]."""
    for name, value in values.items():
        require(0 <= value <= 1, name.replace("__", "."), "must be in [0, 1]", value)


def require_start(**values: float) -> None:
    """Require named values in [0, 1): the share of a run before something starts."""
    for name, value in values.items():
        require(0 <= value < 1, name.replace("__", "."), "must be in [0, 1)", value)
