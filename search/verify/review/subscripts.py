"""Indexing and slicing: which tokens a piece of a stream holds, and tables keyed on tokens."""

import ast

from search.verify.review.containers import held, key_of
from search.verify.review.indices import MAX_OFFSET, offset_of
from search.verify.review.machine import Machine, only, without
from search.verify.review.marks import Extent, Flag, Key, Marks, Part, Plus, Shift, Site, Tail, Turn
from search.verify.review.overlap import turns_by_loop
from search.verify.review.settings import setting
from search.verify.review.values import Function, Items, Library, Scope, Table, Value, marks_of, ref

TOKENS = frozenset({Flag.VAL, Flag.TRAIN})


def read_item(machine: Machine, node: ast.Subscript, base: Value, scope: Scope) -> Value:
    """What base[key] gives."""
    key = machine.evaluate(node.slice, scope)
    for one in base.refs:
        if isinstance(one, Library):
            return library_item(machine, one, key)
        if isinstance(one, Function):
            return Value()  # a kernel with its grid: the call that follows writes to its arguments
        if isinstance(one, Items) and isinstance(node.slice, ast.Slice) and not is_token_key(key):
            marks = without(key.marks, Turn) | turns_of_slice(machine, node.slice, key.marks, scope)
            return Value(base.marks | marks, (), (Items(list(one.items), is_exact=False),))
        if isinstance(one, Table | Items) and not is_token_key(key):
            return item_of(one, base, key)
    if is_token_key(key) and (Flag.TABLE in marks_of(base) or holds(base)):
        return counted(base, node.slice, key)
    return Value(piece(machine, node, marks_of(base), key, scope), tuple(base.texts))


def holds(value: Value) -> bool:
    """Whether a value is a dict or list."""
    return any(isinstance(one, Table) for one in value.refs)


def is_token_key(key: Value) -> bool:
    """Whether a key is made of tokens."""
    return bool(marks_of(key) & TOKENS)


def library_item(machine: Machine, one: Library, key: Value) -> Value:
    """An entry of a library's own table, such as os.environ or sys.modules."""
    text = key.exact
    if one.name.endswith("environ"):
        return setting(machine, str(text), None)
    if isinstance(text, str):
        if one.name == "sys.modules":
            return ref(Library(text))
        return ref(Library(f"{one.name.removesuffix('.__dict__')}.{text}"))
    return Value()


def item_of(one: Table | Items, base: Value, key: Value) -> Value:
    """An item of a list or dict."""
    turns = frozenset(only(key.marks, Turn)) | base.marks
    exact = key.exact
    if isinstance(one, Items):
        if isinstance(exact, int) and one.is_exact and -len(one.items) <= exact < len(one.items):
            item = one.items[exact]
            return item.marked(base.marks) if base.marks else item
        if len(one.items) == 1:
            return one.items[0].marked(turns) if turns - one.items[0].marks else one.items[0]
        return held(base).marked(turns)
    known = key_of(key)
    if known is not None and known in one.entries:
        item = one.entries[known]
        return item.marked(base.marks) if base.marks else item
    if not one.entries:
        return one.rest.marked(turns) if turns - one.rest.marks else one.rest
    return held(base).marked(turns)


def counted(base: Value, node: ast.expr, key: Value) -> Value:
    """What a table gives for a key made of tokens: its own entries' marks, and whether the key holds the target."""
    key_marks = marks_of(key)
    sites = frozenset(one for one in only(key_marks, Site) if isinstance(one, Site))
    is_row = Flag.COUNT in base.marks or (isinstance(node, ast.Tuple) and not holds(base))
    marks = without(marks_of(base), Shift, Tail, Plus, Site) | {Flag.COUNT, Key(sites)}
    marks |= frozenset(only(key_marks, Turn)) | (key_marks & TOKENS)
    if holds_target(key_marks):
        marks |= {Flag.TARGET_PICK if is_row else Flag.TARGET_KEY}
    stored = held(base) if base.refs else base
    return Value(marks, (), stored.refs)


def holds_target(marks: Marks) -> bool:
    """Whether tokens are those to be predicted."""
    return any(isinstance(mark, Shift) and mark.by >= 1 for mark in marks)


def slices(node: ast.expr) -> list[ast.Slice]:
    """The slices of a key, those of each dimension."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [one for one in parts if isinstance(one, ast.Slice)]


def bound_offset(machine: Machine, node: ast.expr | None, scope: Scope) -> int:
    """How far a slice's start, or an index, lies behind what it is computed from: 1 of [1:] and [i + 1:]."""
    if node is None:
        return 0
    value = machine.evaluate(node, scope)
    exact = value.exact
    if isinstance(exact, int):
        return exact if 0 < exact <= MAX_OFFSET else 0
    return max(offset_of(value.marks), 0)


def piece(machine: Machine, node: ast.Subscript, base: Marks, key: Value, scope: Scope) -> Marks:
    """The marks of a piece of a tensor."""
    key_marks = marks_of(key)
    if isinstance(node.slice, ast.Slice):
        key_marks = turns_of_slice(machine, node.slice, key_marks, scope)
    # Of numbers that only say where, the turn of the loop goes on; of tokens used as an index, everything.
    marks = base | (without(key_marks, Plus) if key_marks & TOKENS else frozenset(only(key_marks, Turn)))
    if not base & (TOKENS | {Flag.HIDDEN}):
        return marks
    found = slices(node.slice)
    offset = max((bound_offset(machine, one.lower, scope) for one in found), default=0)
    if not found and not key_marks & TOKENS:
        offset = max(offset_of(key_marks), 0)
    if machine.is_in_module:
        return marks | {Tail(offset)} if offset else marks
    if offset and Flag.HIDDEN not in base:
        shifts = [one.by for one in only(marks, Shift) if isinstance(one, Shift)]
        marks = without(marks, Shift) | {Shift(by + offset) for by in shifts or [0]}
    marks |= cuts(machine, found, scope)
    if len(found) == 1:
        marks |= extents(machine, found[0], scope)
    if Flag.HIDDEN not in base and not key_marks & TOKENS:
        marks |= {Site(node.lineno, node.col_offset)}
    return marks


def turns_of_slice(machine: Machine, one: ast.Slice, marks: Marks, scope: Scope) -> Marks:
    """Turns from which a piece is: of each loop that in which it begins, as it may end where the next one's begins.

    Where it begins and ends holds no tokens, so no other marks of its bounds go on.
    """
    begins = turns_by_loop(machine.evaluate(one.lower, scope).marks if one.lower else frozenset())
    return frozenset(
        mark for mark in marks if isinstance(mark, Turn) and mark.turn in begins.get(mark.loop, {mark.turn})
    )


def extents(machine: Machine, one: ast.Slice, scope: Scope) -> Marks:
    """How many tokens a slice takes from its start, where its end is the start and known numbers."""
    if one.lower is None or one.upper is None or isinstance(one.lower, ast.Constant):
        return frozenset()
    start, terms = ast.unparse(one.lower), summands(one.upper)
    rest = [term for term in terms if ast.unparse(term) != start]
    numbers = [machine.evaluate(term, scope).consts for term in rest]
    known = [found[0] for found in numbers if len(found) == 1 and isinstance(found[0], int)]
    if len(rest) != len(terms) - 1 or len(known) != len(rest):
        return frozenset()
    return frozenset({Extent(f"{id(scope)}:{start}", sum(known))})


def summands(node: ast.expr) -> list[ast.expr]:
    """The terms of a sum."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*summands(node.left), *summands(node.right)]
    return [node]


def cuts(machine: Machine, found: list[ast.Slice], scope: Scope) -> Marks:
    """On which side of a cut at a variable a piece lies."""
    marks: set[Part] = set()
    for one in found:
        for bound, is_after in ((one.lower, True), (one.upper, False)):
            if bound is not None and not isinstance(machine.evaluate(bound, scope).exact, int):
                marks.add(Part(f"{id(scope)}:{ast.unparse(bound)}", is_after))
    return frozenset(marks)


def places(machine: Machine, node: ast.expr, scope: Scope) -> list[Value]:
    """The values that an assignment to an expression may write into."""
    if not isinstance(node, ast.Subscript):
        return [machine.evaluate(node, scope)]
    found: list[Value] = []
    for base in places(machine, node.value, scope):
        inner: list[Value] = []
        key = key_of(machine.evaluate(node.slice, scope))
        for one in base.refs:
            if isinstance(one, Items):
                inner += one.items
            elif isinstance(one, Table):
                inner += [one.entries[key]] if key in one.entries else [*one.entries.values(), one.rest]
        found += inner or [base]
    return found


def store(machine: Machine, node: ast.Subscript, value: Value, scope: Scope) -> None:
    """Follow base[key] = value."""
    key = machine.evaluate(node.slice, scope)
    marks = marks_of(value)
    if is_token_key(key):
        marks = without(marks, Shift, Site, Tail) | {Flag.TABLE}
    for base in places(machine, node.value, scope):
        if any(isinstance(one, Library) and one.name.endswith("environ") for one in base.refs):
            continue
        if is_token_key(key):
            base.add({Flag.TABLE})
        if not stored_item(base, key, value):
            write(machine, base, node.slice, aligned(node.slice, marks), key)


def aligned(node: ast.expr, marks: Marks) -> Marks:
    """Marks of what is written to a slice: a tail is aligned again behind a first place, else it comes too early."""
    tails = [one.by for one in only(marks, Tail) if isinstance(one, Tail)]
    found = slices(node)
    if not tails or not found:
        return marks
    marks = without(marks, Tail)
    has_start = any(isinstance(one.lower, ast.Constant | ast.Name | ast.BinOp) for one in found)
    return marks if has_start else marks | {Shift(max(tails))}


def stored_item(base: Value, key: Value, value: Value) -> bool:
    """Put an item into a list or dict; whether it is one."""
    known = key_of(key)
    is_held = False
    for one in base.refs:
        if isinstance(one, Table):
            is_held = True
            if known is not None and not is_token_key(key):
                old = one.entries.get(known)
                one.entries[known] = value if old is None else Value(value.marks, value.consts, value.refs)
            else:
                one.rest = value if not (one.rest.marks or one.rest.refs) else joined(one.rest, value)
        elif isinstance(one, Items):
            is_held = True
            one.append(value)
            one.is_exact = False
    return is_held


def joined(old: Value, new: Value) -> Value:
    """One of two, in the old one's place, so that whoever holds it sees the new marks."""
    old.add(new.marks)
    old.refs = tuple({id(one): one for one in (*old.refs, *new.refs)}.values())
    return old


def write(machine: Machine, base: Value, node: ast.expr, marks: Marks, key: Value) -> None:
    """Write into a tensor; all of it where the slice starts at its start."""
    is_whole = isinstance(node, ast.Slice) and node.lower is None and not machine.is_in_module
    if is_whole or (isinstance(node, ast.Constant) and node.value is ...):
        base.marks = frozenset({Flag.BUFFER}) | marks
    else:
        base.add(marks | frozenset(only(key.marks, Turn)))
