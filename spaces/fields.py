"""Recipe fields by dotted path: reading, setting, the JSON form and the hash."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType
from typing import Any, get_args

from trainer.config import Recipe


class SpaceError(Exception):
    """A field path, a value of it, or a point of a space is wrong; the message says where, expected and got."""


def recipe_paths() -> dict[str, Any]:
    """Every dotted field path and its type, in order; an optional sub-config (ema) is a field beside its own fields."""
    return dict(_PATHS)


def _paths_of(config: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, hint in _field_types(config).items():
        sub_config = _sub_config(hint)
        if sub_config is None or is_optional(hint):
            yield prefix + name, hint
        if sub_config is not None:
            yield from _paths_of(sub_config, f"{prefix}{name}.")


@cache
def _field_types(config: Any) -> Mapping[str, Any]:
    return MappingProxyType({field.name: field.type for field in fields(config)})


@cache
def is_optional(hint: Any) -> bool:
    """Whether a field of this type may be None."""
    return NoneType in get_args(hint)


@cache
def plain_type(hint: Any) -> type:
    """A field's type without its None: float for float | None."""
    return next((part for part in get_args(hint) if part is not NoneType), hint)


def _sub_config(hint: Any) -> type | None:
    plain = plain_type(hint)
    return plain if is_dataclass(plain) else None


_PATHS: Mapping[str, Any] = MappingProxyType(dict(_paths_of(Recipe, "")))


@cache
def optional_parent(path: str) -> str | None:
    """The optional sub-config a field belongs to (quant.gptq for quant.gptq.damping); None for all others."""
    return next((parent for parent in reversed(_parents(path)) if parent in _PATHS), None)


@cache
def _parents(path: str) -> tuple[str, ...]:
    """The configs that a path leads through, by their own paths, outermost first."""
    names = path.split(".")
    return tuple(".".join(names[:length]) for length in range(1, len(names)))


def default_value(path: str) -> Any:
    """The value of a field where nothing sets it, in its own type; in a sub-config, that of a fresh one.

    Raises:
        SpaceError: Recipe has no such field.
    """
    require_path(path)
    config: Any = Recipe
    for name in path.split(".")[:-1]:
        config = plain_type(_field_types(config)[name])
    return getattr(config(), path.rpartition(".")[2])


def require_path(path: str) -> Any:
    """The type of the field at a path.

    Raises:
        SpaceError: Recipe has no such field; names a close one.
    """
    if path not in _PATHS:
        raise SpaceError(f"{path}: must be a field of Recipe{close_match(path, _PATHS)}, got {path!r}")
    return _PATHS[path]


def close_match(name: str, known: Iterable[str]) -> str:
    """' (did you mean NAME?)' for the closest known name, '' where none is close."""
    matches = get_close_matches(name, list(known), n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""


def get_value(recipe: Recipe, path: str) -> Any:
    """The value at a path; None for fields of a sub-config that is off.

    Raises:
        SpaceError: Recipe has no such field.
    """
    require_path(path)
    value: Any = recipe
    for name in path.split("."):
        value = None if value is None else getattr(value, name)
    return value


def set_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with these fields changed, all at once, so that values which only fit together can be set.

    A value has the field's type or its JSON form: an enum's text, null, a mapping for a sub-config ({} is all its
    defaults). Setting a field of a sub-config that is off turns it on.

    Raises:
        SpaceError: an unknown path, a value of another type, or a field of a sub-config that values turns off.
        ConfigError: the values contradict each other.
    """
    changed = _opened(recipe)
    for path in sorted(values):  # a sub-config comes before its fields
        require_path(path)
        holder = changed
        for parent in _parents(path):
            name = parent.rpartition(".")[2]
            if holder.get(name) is None:
                if parent in values:
                    raise SpaceError(f"{path}: must not be set where {parent} is null, got {values[path]!r}")
                holder[name] = {}
            elif is_dataclass(holder[name]):
                holder[name] = _opened(holder[name])
            holder = holder[name]
        holder[path.rpartition(".")[2]] = _to_jsonable(values[path])
    return recipe_from_dict(changed)


def _opened(config: Any) -> dict[str, Any]:
    """A config as a mapping whose sub-configs are still whole: what nobody changes need not be checked again."""
    return {name: getattr(config, name) for name in _field_types(type(config))}


def check_value(path: str, value: Any) -> Any:
    """The value in the field's own type.

    Raises:
        SpaceError: unknown path, or a value of another type.
        ConfigError: a sub-config that contradicts itself.
    """
    return _decode(require_path(path), value, path)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe's JSON form: nested, every field present."""
    return _to_jsonable(recipe)


def to_json_value(value: Any) -> Any:
    """The JSON form of one field's value."""
    return _to_jsonable(value)


def _to_jsonable(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _to_jsonable(getattr(value, name)) for name in _field_types(type(value))}
    if isinstance(value, Mapping):
        return {name: _to_jsonable(part) for name, part in value.items()}
    return value.value if isinstance(value, Enum) else value


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that recipe_to_dict wrote, here or in an older version.

    A key that is missing takes the field's default: whoever wrote it did not know the technique, and defaults mean off.

    Raises:
        SpaceError: an unknown key, or a value of another type.
        ConfigError: the values contradict each other.
    """
    return _decode_config(Recipe, values, "")


def _decode_config(config: Any, values: Mapping[str, Any], path: str) -> Any:
    hints, prefix = _field_types(config), f"{path}." if path else ""
    for name in values:
        if name not in hints:
            where = f"{prefix}{name}"
            raise SpaceError(f"{where}: must be a field of {config.__name__}{close_match(name, hints)}, got {name!r}")
    return config(**{name: _decode(hints[name], value, prefix + name) for name, value in values.items()})


def _decode(hint: Any, value: Any, path: str) -> Any:
    plain = plain_type(hint)
    if value is None and is_optional(hint):
        return None
    if is_dataclass(plain):
        if isinstance(value, plain):
            return value
        if isinstance(value, Mapping):
            return _decode_config(plain, value, path)
    elif issubclass(plain, Enum):
        if value in list(plain):
            return plain(value)
    elif _is_scalar(value, plain):
        return plain(value)
    raise SpaceError(f"{path}: must be {_expected(hint)}, got {value!r}")


def _is_scalar(value: Any, plain: type) -> bool:
    if isinstance(value, bool) or plain is bool:
        return isinstance(value, bool) and plain is bool
    if plain is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, plain)


def _expected(hint: Any) -> str:
    plain = plain_type(hint)
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    text = names.get(plain, "a mapping of its fields")
    if issubclass(plain, Enum):
        text = "one of " + ", ".join(str(member.value) for member in plain)
    return f"{text} or null" if is_optional(hint) else text


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a JSON value by dotted path; empty collections are leaves."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    parts = {key: leaf for name, part in items for key, leaf in flat(part, f"{path}.{name}".lstrip(".")).items()}
    return parts or {path: value}


def recipe_hash(recipe: Recipe) -> str:
    """16 hex digits that two recipes share exactly if they are equal.

    Only what differs from the defaults counts, so a new field whose default means off changes no recipe's hash.
    """
    canonical = json.dumps(_changes(recipe), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _changes(config: Any) -> dict[str, Any]:
    """A config's fields that are not at their defaults, in JSON form; a sub-config that is on is there, maybe empty."""
    default, changed = type(config)(), dict[str, Any]()
    for name in _field_types(type(config)):
        value = getattr(config, name)
        if value != getattr(default, name):
            changed[name] = _changes(value) if is_dataclass(value) else _to_jsonable(value)
    return changed
