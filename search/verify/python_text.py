"""Python source of strangers as text and as a tree, without running it and within bounds."""

import ast
import io
import re
import tokenize
import warnings

from search.verify.old_fstrings import as_before_312

MAX_SOURCE_CHARS = 2_000_000  # the largest real train_gpt.py has 0.4 MB
MAX_TOKENS = 120_000  # 260 KB of code have 45,000; a tree takes up to 2 KB for each
MAX_DEPTH = 300  # of the tree: visitors recurse. An elif adds one; real code stays below 60
# Strings first, so that what is in them counts as one. Unterminated ones end with the line or the text: every position
# is looked at once.
TOKEN = re.compile(
    r"(?:[rbuf]{0,2}\"\"\"(?:[^\"\\]|\\.|\"(?!\"\"))*+(?:\"\"\")?)"
    r"|(?:[rbuf]{0,2}'''(?:[^'\\]|\\.|'(?!''))*+(?:''')?)"
    r"|(?:[rbuf]{0,2}\"(?:[^\"\\\n]|\\.)*+\"?)"
    r"|(?:[rbuf]{0,2}'(?:[^'\\\n]|\\.)*+'?)"
    r"|#[^\n]*+|\w++|[^\w\s]|\n",
    re.DOTALL | re.IGNORECASE,
)
FSTRING_CHARS_PER_TOKEN = 2  # what its braces hold is code


def decode(data: bytes) -> str:
    """The text of a Python file as Python would read it: by its coding line or mark, else UTF-8.

    Raises:
        SyntaxError: Python would not read it.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _wrong(f"expected {error.encoding} text, got the byte 0x{data[error.start]:02x}", line) from error
    except (LookupError, SyntaxError, ValueError) as error:
        raise _wrong(f"expected a known coding, got {error}", 1) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse(text: str) -> ast.Module:
    """The tree of Python code, also of code for Python 3.12 whose f-strings this Python cannot read.

    Raises:
        SyntaxError: it is none, or more than any submission has, or nested deeper.
    """
    if len(text) > MAX_SOURCE_CHARS:
        raise _wrong(f"expected at most {MAX_SOURCE_CHARS} characters of code, got {len(text)}")
    if count_tokens(text) > MAX_TOKENS:
        raise _wrong(f"expected at most {MAX_TOKENS} tokens of code, got more")
    try:
        tree = _parsed(text)
    except SyntaxError:
        older = as_before_312(text)
        if older == text:
            raise
        tree = _parsed(older)
    if depth(tree) > MAX_DEPTH:
        raise _wrong(f"expected code nested at most {MAX_DEPTH} deep, got more")
    return tree


def _parsed(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as "\d" in their code
            return ast.parse(text)
    except (MemoryError, RecursionError) as error:  # of the parser, which has a stack of its own
        raise _wrong("expected code that a parser can read, got one nested too deep") from error
    except ValueError as error:
        raise _wrong(str(error)) from error


def _wrong(message: str, line: int | None = None) -> SyntaxError:
    error = SyntaxError(message)
    error.lineno = line
    return error


def count_tokens(text: str) -> int:
    """Roughly how many tokens a text has, which bounds its tree before it is built; at most MAX_TOKENS are counted."""
    count = 0
    for match in TOKEN.finditer(text):
        token = match[0]
        is_fstring = token[-1] in "\"'" and token[:1] in "fFrR" and "f" in token[:2].lower()
        count += 1 + (len(token) // FSTRING_CHARS_PER_TOKEN if is_fstring else 0)
        if count > MAX_TOKENS:
            break
    return count


def depth(tree: ast.AST) -> int:
    """How deep a tree is nested."""
    level, found = [tree], 0
    while level:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        found += 1
    return found
