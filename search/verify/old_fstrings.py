"""Code for Python 3.12, which allows any code in f-strings, written so that Python 3.11 can parse it.

Since PEP 701 an f-string may hold its own quotes, backslashes and comments, as in f"{", ".join(names)}". Public records
use that. What stands in braces is kept as it is but for the quotes, so names, calls and lines stay where they are.
"""

import ast
import re
from collections.abc import Iterator

STRING = re.compile(r"(?P<prefix>[A-Za-z]{0,2})(?P<quote>\"\"\"|'''|\"|')")
SKIPPED = re.compile(r"#[^\n]*|\w+|[^\w\"'#]+")
# Quotes by how deep an f-string stands in others: none ends one around it.
QUOTES = ("'''", '"""', "'", '"')
PREFIXES = frozenset({"", "r", "u", "b", "br", "rb", "f", "fr", "rf"})


class FormError(ValueError):
    """No f-string of this form."""


def as_before_312(text: str) -> str:
    """The text with its f-strings in the older form; as it is where that cannot be done."""
    try:
        return _Reader(text).code(0, "", 0)[0]
    except (FormError, RecursionError):
        return text


class _Reader:
    """Reads code that holds f-strings; methods take a place and return text and the place after it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def code(self, place: int, ends: str, depth: int) -> tuple[str, int]:
        """Code up to one of the characters at which it ends outside brackets, or to the end of the text."""
        parts: list[str] = []
        open_brackets = 0
        while place < len(self.text):
            character = self.text[place]
            string = self.string(place, depth)
            if string is not None:
                parts.append(string[0])
                place = string[1]
                continue
            is_unequal = self.text.startswith("!=", place)
            if ends and not open_brackets and character in ends and not is_unequal:
                break
            length = 2 if is_unequal else self.skipped(place, bool(ends))
            open_brackets += (character in "([{") - (character in ")]}")
            parts.append(self.text[place : place + length])
            place += length
        return "".join(parts), place

    def skipped(self, place: int, is_inside: bool) -> int:
        """How much can be taken as it is: a comment, a word, or a character where brackets count."""
        match = SKIPPED.match(self.text, place)
        if match is None or (is_inside and not match[0][0].isalnum() and match[0][0] != "_"):
            if is_inside and self.text[place] == "#":
                raise FormError("a comment")
            return 1
        return len(match[0])

    def string(self, place: int, depth: int) -> tuple[str, int] | None:
        """A string literal, if one starts here."""
        match = STRING.match(self.text, place)
        if match is None or match["prefix"].lower() not in PREFIXES:
            return None
        prefix, quote = match["prefix"].lower(), match["quote"]
        if "f" in prefix:
            return self.fstring(match.end(), prefix, quote, depth)
        end = self.end_of(match.end(), quote)
        literal = self.text[place:end]
        return (literal if depth == 0 else _inner(literal, QUOTES[depth])), end

    def end_of(self, place: int, quote: str) -> int:
        """Where a plain string ends."""
        while not self.text.startswith(quote, place):
            if place >= len(self.text) or (len(quote) == 1 and self.text[place] == "\n"):
                raise FormError("a string without an end")
            place += 2 if self.text[place] == "\\" else 1
        return place + len(quote)

    def fstring(self, place: int, prefix: str, quote: str, depth: int) -> tuple[str, int]:
        """An f-string, in the quotes of its depth."""
        if depth + 1 >= len(QUOTES):
            raise FormError("f-strings too deep in others")
        parts, ends = zip(*self.pieces(place, quote, prefix, depth), strict=True)
        return f"{prefix}{QUOTES[depth]}{''.join(parts)}{QUOTES[depth]}", ends[-1] + len(quote)

    def pieces(self, place: int, quote: str, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
        """An f-string's literal characters and fields, each with the place after it."""
        yield "", place
        while not self.text.startswith(quote, place):
            if place >= len(self.text):
                raise FormError("an f-string without an end")
            character = self.text[place]
            length = 1
            if character == "\\" and depth:
                raise FormError("a backslash in an inner f-string")
            if self.text.startswith(("{{", "}}"), place) or character == "\\":
                length = 2
            elif character == "{":
                field, place = self.field(place, depth)
                yield field, place
                continue
            literal = self.text[place : place + length]
            if literal == QUOTES[depth][0]:
                literal = _escaped(literal, prefix, depth)
            place += length
            yield literal, place

    def field(self, place: int, depth: int) -> tuple[str, int]:
        """What stands in braces: an expression, perhaps a conversion, perhaps a format with fields of its own."""
        inside, place = self.code(place + 1, "}!:", depth + 1)
        parts = ["{", inside]
        if self.text.startswith("!", place):
            parts.append(self.text[place : place + 2])
            place += 2
        if self.text.startswith(":", place):
            parts.append(":")
            place += 1
            while place < len(self.text) and self.text[place] not in "}\n":
                is_field = self.text[place] == "{"
                part, place = self.field(place, depth) if is_field else (self.text[place], place + 1)
                parts.append(part)
        if not self.text.startswith("}", place):
            raise FormError("a field without an end")
        return "".join([*parts, "}"]), place + 1


def _escaped(quote: str, prefix: str, depth: int) -> str:
    if "r" in prefix or depth:
        raise FormError("quotes that cannot be escaped")
    return "\\" + quote


def _inner(literal: str, quote: str) -> str:
    """A plain string inside an f-string: no backslash, and no quotes but the given."""
    try:
        value = ast.literal_eval(literal)
    except (SyntaxError, ValueError) as error:
        raise FormError(str(error)) from error
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    plain = value.decode("latin-1") if isinstance(value, bytes) else value
    mark = "b" if isinstance(value, bytes) else ""
    lines = "\n" * literal.count("\n")
    if plain.isprintable() and plain and not set(plain) & set("\\'\"{}#") and (not mark or plain.isascii()):
        return f"{mark}{quote}{plain}{quote}{lines}"
    hexadecimal = f"bytes.fromhex({quote}{data.hex() or ' '}{quote})"
    return f"{hexadecimal}{'' if mark else '.decode()'}{lines}"
