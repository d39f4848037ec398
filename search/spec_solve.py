"""What the solve section of a study file may say, given the rest of the file."""

from collections.abc import Container

from search.size import predicted_weight_bytes
from search.spec_file import problem
from search.spec_parts import SolveSpec
from spaces.fields import SpaceError, plain_type, require_path, set_values
from trainer.config import Recipe
from trainer.errors import ConfigError

AT = ("space", "solve")


def check_solve(solve: SolveSpec, params: Container[str], base: Recipe, is_conditional: bool) -> None:
    """Refuse what cannot be solved for.

    Args:
        params: paths that the file searches by params of its own.
        is_conditional: whether only some recipes make use of the field.
    """
    _check_field(solve, params)
    sizes: list[int] = []
    for key in ("low", "high"):
        value = getattr(solve, key)
        try:
            sizes.append(predicted_weight_bytes(set_values(base, {solve.param: _typed(solve.param, value)})))
        except (SpaceError, ConfigError) as error:
            raise problem(f"must suit the base recipe ({error}), got {value:g}", *AT, key) from None
    if sizes[0] == sizes[1] and not is_conditional:
        raise problem(f"must be a field that decides bytes, got {solve.param}", *AT, "param")


def _check_field(solve: SolveSpec, params: Container[str]) -> None:
    try:
        plain = plain_type(require_path(solve.param))
    except SpaceError as error:
        raise problem(str(error).partition(": ")[2], *AT, "param") from None
    if solve.param == "model.vocab_size":
        raise problem("must be another field, since the dataset decides this one, got model.vocab_size", *AT, "param")
    if plain not in {int, float}:
        raise problem(f"must be a field that is a number, got {solve.param}", *AT, "param")
    if solve.param in params:
        raise problem(f"must be either solved or searched by params, got {solve.param} in both", *AT, "param")
    for key in ("low", "high", "step"):
        value = getattr(solve, key)
        if plain is int and value is not None and not value.is_integer():
            raise problem(f"must be a whole number, got {value:g}", *AT, key)


def _typed(path: str, value: float) -> float | int:
    return int(value) if plain_type(require_path(path)) is int else value
