"""JSON of strangers: every number finite, every key of an object once, nothing endless."""

import json
from collections.abc import Iterator
from typing import Any

from search.verify.finding import shown
from search.verify.number import Shown

MAX_VALUES = 20_000  # a real submission.json has 20 to 300
MAX_INTEGER = 2**63  # whatever is larger counts nothing, and may have no float
MAX_DIGITS = 20


def read_json(text: str) -> Any:
    """The value of a JSON text in which every number is finite and every key of an object stands once.

    Raises:
        ValueError: it is another text, or nested deeper or longer than any submission.json.
    """
    try:
        value = json.loads(
            text, parse_constant=_constant, parse_int=_integer, parse_float=_finite, object_pairs_hook=_once
        )
    except RecursionError as error:
        raise ValueError("values nested too deep") from error
    if _has_more_values(value, MAX_VALUES):
        raise ValueError(f"more than {MAX_VALUES} values")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"the number {name}")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS or abs(int(text)) > MAX_INTEGER:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> Shown:
    value = Shown(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number too large for a float")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {shown(twice)} twice in an object")
    return values


def _has_more_values(value: object, limit: int) -> bool:
    waiting, count = [iter([value])], 0
    while waiting:
        for one in waiting.pop():
            count += 1
            if count > limit:
                return True
            waiting += inner(one)
    return False


def inner(value: object) -> list[Iterator[object]]:
    """What to look through in a value: its elements, where it has any."""
    if isinstance(value, dict):
        return [iter(value.values())]
    return [iter(value)] if isinstance(value, list) else []
