"""What lists, tuples, dicts and other iterables hold."""

from collections.abc import Hashable

from search.verify.review.machine import Machine
from search.verify.review.values import (
    Class,
    Instance,
    Items,
    Library,
    Scope,
    Table,
    Value,
    const,
    join,
    marks_of,
    ref,
)


def elements(machine: Machine, value: Value, scope: Scope) -> list[Value]:
    """The items that a loop over a value may see, in order; one for all where they are not known apart."""
    found: list[Value] = []
    for one in value.refs:
        if isinstance(one, Items):
            found += [item.marked(value.marks) if value.marks else item for item in one.items]
        elif isinstance(one, Table):
            found += [Value(value.marks, (key,), (), False) for key in one.entries] or [Value(marks_of(one.rest))]
        elif isinstance(one, Instance):
            found += iterated(machine, value, one, scope)
        elif isinstance(one, Class):
            found.append(Value(value.marks))
    if found:
        return found
    has_items = any(isinstance(one, Items | Table) for one in value.refs)
    if has_items and not value.marks:
        return []
    if isinstance(value.exact, str | int) and not value.marks:
        return [Value()] if value.exact else []
    return [Value(marks_of(value), tuple(value.texts))]


def is_written_out(value: Value) -> bool:
    """Whether a value is one list, tuple or set whose items are known one by one."""
    one = value.refs[0] if len(value.refs) == 1 else None
    return isinstance(one, Items) and one.is_exact


def iterated(machine: Machine, value: Value, one: Instance, scope: Scope) -> list[Value]:
    """What iterating over an object of the script's own class gives."""
    method = one.cls.find("__iter__")
    if method is not None:
        given = machine.call(method, [value], scope)
        if one not in given.refs:
            return elements(machine, given, scope) or [Value(marks_of(given))]
    method = one.cls.find("__next__") or one.cls.find("__getitem__")
    if method is not None:
        return [machine.call(method, [value, Value()], scope)]
    held = list(one.attrs.values())
    return held if one.cls.find("_fields") or is_record(one.cls) else [Value(value.marks)]


def is_record(cls: Class) -> bool:
    """Whether a class is a named tuple."""
    return any(isinstance(one, Library) and one.name.endswith("NamedTuple") for base in cls.bases for one in base.refs)


def held(value: Value) -> Value:
    """Any item of a container, with the container's marks; the value's marks where it holds nothing known."""
    found: list[Value] = []
    for one in value.refs:
        if isinstance(one, Items):
            found += one.items
        elif isinstance(one, Table):
            found += [*one.entries.values(), one.rest]
    if not found:
        return Value(value.marks, tuple(value.texts))
    both = join(*found)
    return both.marked(value.marks) if value.marks else both


def unpack(value: Value, count: int) -> list[Value]:
    """The parts of a value that is unpacked into so many names."""
    rows: list[list[Value]] = []
    for one in value.refs:
        if isinstance(one, Items) and one.is_exact and len(one.items) == count:
            rows.append(one.items)
        elif isinstance(one, Instance) and len(one.attrs) == count:
            rows.append(list(one.attrs.values()))
    if rows:
        parts = [join(*column) for column in zip(*rows, strict=True)]
        return [part.marked(value.marks) if value.marks else part for part in parts]
    part = held(value)
    return [Value(part.marks, part.consts, part.refs) for _ in range(count)]


def copied(value: Value) -> Value:
    """A list with the same items."""
    for one in value.refs:
        if isinstance(one, Items):
            return Value(value.marks, (), (Items(list(one.items), one.is_exact),))
    return value


def pairs(first: Value, second: Value) -> Value:
    """A tuple of two."""
    return ref(Items([first, second]))


def key_of(value: Value) -> Hashable | None:
    """The constant that a key is."""
    exact = value.exact
    if len(value.consts) == 1 and isinstance(value.consts[0], str):
        return value.consts[0]
    return exact if isinstance(exact, str | int | bool | float | bytes) else None


def changed(value: Value, name: str, args: list[Value]) -> Value:
    """What a list's or dict's own method does and gives."""
    for one in value.refs:
        if isinstance(one, Items):
            return changed_items(value, one, name, args)
        if isinstance(one, Table):
            return changed_table(value, one, name, args)
    return Value(marks_of(value))


def changed_items(value: Value, one: Items, name: str, args: list[Value]) -> Value:
    """The same of a list or set."""
    match name:
        case "append" | "add" | "appendleft" | "put" | "put_nowait":
            one.append(args[0] if args else Value())
        case "insert":
            one.append(args[-1] if args else Value())
        case "extend" | "update":
            for arg in args:
                inner = [
                    item.marked(arg.marks) for thing in arg.refs if isinstance(thing, Items) for item in thing.items
                ]
                for item in inner or [held(arg)]:
                    one.append(item)
            one.is_exact = False
        case "pop" | "popleft" | "get" | "get_nowait":
            one.is_exact = False
            return held(value)
        case "sort" | "reverse" | "remove" | "clear":
            one.is_exact = False
        case "copy":
            return copied(value)
        case _:
            return Value(marks_of(value))
    return const(None)


def changed_table(value: Value, one: Table, name: str, args: list[Value]) -> Value:
    """The same of a dict."""
    everything = [*one.entries.values(), one.rest]
    match name:
        case "items":
            known = [pairs(const(key), item) for key, item in one.entries.items()]
            return ref(Items([*known, pairs(Value(), one.rest)] if has_rest(one) or not known else known))
        case "values":
            return ref(Items(everything if has_rest(one) else everything[:-1]))
        case "keys":
            return ref(Items([*[const(key) for key in one.entries], *([Value()] if has_rest(one) else [])]))
        case "get" | "pop" | "setdefault":
            return looked_up(one, name, args).marked(value.marks)
        case "update":
            for arg in args:
                for thing in arg.refs:
                    if isinstance(thing, Table):
                        one.entries.update(thing.entries)
                        one.rest = join(one.rest, thing.rest)
            return const(None)
        case "copy":
            return Value(value.marks, (), (Table(dict(one.entries), one.rest),))
        case _:
            return Value(marks_of(value))


def has_rest(one: Table) -> bool:
    """Whether a dict holds entries under keys that are not known."""
    return bool(one.rest.marks or one.rest.refs or one.rest.consts)


def looked_up(one: Table, name: str, args: list[Value]) -> Value:
    """A dict's entry by key, or the default."""
    key = key_of(args[0]) if args else None
    if key is not None and key in one.entries:
        return one.entries[key]
    default = args[1] if len(args) > 1 else const(None)
    if name == "setdefault" and len(args) > 1:
        if key is not None:
            one.entries[key] = default
            return default
        one.rest = join(one.rest, default)
    if key is not None and not has_rest(one):
        return default
    return join(*one.entries.values(), one.rest, default)
