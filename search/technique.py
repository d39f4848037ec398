"""One thing that a recipe does, in words, and where it comes from."""

from collections.abc import Iterable
from typing import NamedTuple

BASELINE = "the challenge's baseline"


class Technique(NamedTuple):
    """A technique as a reviewer would name it.

    Attributes:
        source: pull requests of the challenge (PR 162) and papers (arXiv 2002.05202), separated by commas.
    """

    phrase: str
    source: str


def words(techniques: Iterable[Technique]) -> str:
    """The phrases in one line."""
    return ", ".join(one.phrase for one in techniques)
