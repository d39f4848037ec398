"""Markdown that READMEs of submissions are made of."""

import re
from collections.abc import Sequence

PULL_REQUESTS = "https://github.com/openai/parameter-golf/pull"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a pipe in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def linked(source: str) -> str:
    """Pull requests of the challenge and arXiv papers as links."""
    text = re.sub(r"PR (\d+)", rf"[#\1]({PULL_REQUESTS}/\1)", source)
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def sentence(text: str) -> str:
    """Text as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."
