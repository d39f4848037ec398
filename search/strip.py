"""Code without comments, docstrings and blank lines: what is packed of the readable source.

Lines are cut, never rewritten, so the result is the same under every Python. (ast.unparse would save another 6 %, but
writes f-strings that only its own version of Python reads.)
"""

import ast
import io
import tokenize
from collections.abc import Callable, Iterator

from search.errors import BundleError
from search.trainer_text import is_string_statement

Parse = Callable[[str], ast.Module]
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def program(text: str, parse: Parse = ast.parse) -> str:
    """A text that two sources share if they differ in comments, docstrings and formatting only.

    Raises:
        SyntaxError: text is not Python.
    """
    tree = parse(text)
    for node in scopes(tree):
        kept = [inner for inner in node.body if not is_string_statement(inner)]
        node.body = kept if kept or isinstance(node, ast.Module) else [ast.Pass()]
    return ast.dump(tree)


def scopes(tree: ast.Module) -> Iterator[Scope]:
    """Modules, functions and classes: whatever can have a docstring."""
    for node in ast.walk(tree):
        if isinstance(node, Scope):
            yield node


def strip(source: str) -> str:
    """The same program without comments, docstrings and blank lines.

    Raises:
        BundleError: a docstring shares a line with other code.
        SyntaxError: source is not Python.
    """
    lines: list[str | None] = [*source.split("\n")]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start[0] - 1, token.start[1]
        line = lines[row] if row < len(lines) else None
        if token.type == tokenize.COMMENT and line is not None:
            lines[row] = line[:column].rstrip()
        elif token.type == tokenize.NL and line is not None and not line.strip():
            lines[row] = None  # an empty line outside strings
    for node in scopes(ast.parse(source)):
        strip_docstrings(node, lines)
    text = "\n".join(line for line in lines if line is not None)
    if not is_same_program(text, source):
        raise BundleError("bundle: expected docstrings on lines of their own, got one that shares a line with code")
    return text


def is_same_program(text: str, other: str, parse: Parse = ast.parse) -> bool:
    """Whether two texts are Python and differ in comments, docstrings and formatting only.

    Args:
        parse: raises a SyntaxError for what it takes for no Python.
    """
    try:
        return program(text, parse) == program(other, parse)
    except (SyntaxError, ValueError, RecursionError):
        return False


def strip_docstrings(node: Scope, lines: list[str | None]) -> None:
    """Blank out the lines of string statements; a body that has nothing else gets a pass."""
    strings = [inner for inner in node.body if is_string_statement(inner)]
    for statement in strings:
        first, end = statement.lineno - 1, statement.end_lineno or statement.lineno
        lines[first:end] = [None] * (end - first)
    if strings and len(strings) == len(node.body) and not isinstance(node, ast.Module):
        lines[strings[0].lineno - 1] = " " * strings[0].col_offset + "pass"
