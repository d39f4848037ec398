"""Methods of strings, and of a tokenizer."""

from search.verify.review.machine import Call, Machine
from search.verify.review.marks import Flag
from search.verify.review.values import (
    Items,
    Made,
    Value,
    all_marks,
    const,
)

PIECES = frozenset(
    {
        "id_to_piece",
        "IdToPiece",
        "decode_single_token_bytes",
        "id_to_token",
        "convert_ids_to_tokens",
        "token_byte_values",
    }
    | {"decode_ids", "DecodeIds", "DecodeIdsWithCheck", "decode_bytes", "convert_ids_to_string", "decode_tokens_bytes"}
)


SAME_TEXT = frozenset(
    {"resolve", "absolute", "expanduser", "as_posix", "strip", "rstrip", "lstrip", "with_suffix", "lower"}
)


def text_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of strings, and of a tokenizer."""
    exact = receiver.exact
    if call.name in PIECES:
        return Value(frozenset({Flag.PIECES}))
    if call.name == "decode" and any(isinstance(one, Made) and one.name == "tokenizer" for one in receiver.refs):
        return Value(frozenset({Flag.PIECES}))
    if call.name == "join" and receiver.texts:
        parts = [
            item.texts[0] if item.texts else "\0"
            for arg in call.args
            for one in arg.refs
            if isinstance(one, Items)
            for item in one.items
        ]
        is_open = any(
            item.is_open for arg in call.args for one in arg.refs if isinstance(one, Items) for item in one.items
        )
        return Value(all_marks(call.args), (receiver.texts[0].join(parts),) if parts else (), is_open=is_open)
    if call.name == "format" and receiver.texts:
        known = [str(arg.exact) if isinstance(arg.exact, str | int | float) else "\0" for arg in call.args]
        try:
            text = receiver.texts[0].format(*known)
        except (IndexError, KeyError, ValueError):
            text = receiver.texts[0]
        return Value(all_marks(call.values) | receiver.marks, (text,), is_open="\0" in text)
    if call.name in SAME_TEXT and receiver.texts and not call.args:
        return Value(receiver.marks, receiver.consts, (), receiver.is_open)
    if receiver.texts and call.name in {"replace", "lower", "upper", "removesuffix", "removeprefix"}:
        words = [arg.exact for arg in call.args]
        if all(isinstance(one, str) for one in words):
            made = tuple(getattr(text, call.name)(*words) for text in receiver.texts)
            return Value(receiver.marks, made, (), receiver.is_open)
    if isinstance(exact, str) and call.name in {"startswith", "endswith"} and call.args:
        word = call.args[0].exact
        return const(getattr(exact, call.name)(word)) if isinstance(word, str) else Value()
    if isinstance(exact, str | bytes) and call.name in {"encode", "decode"}:
        return receiver
    return None
