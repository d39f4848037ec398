"""What a check of a submission found: which rule, how bad, where."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MAX_SHOWN_CHARS = 1_000  # of a message; what is longer quotes something


def shown(text: str) -> str:
    """Text as one line of bounded length that any terminal prints: other characters are escaped."""
    clipped = text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]} ..."
    return clipped if clipped.isprintable() else "".join(map(_escaped, clipped))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class Severity(StrEnum):
    """How bad a finding is."""

    REFUSE = "refuse"  # against a rule; the folder must not be submitted
    REVIEW = "review"  # a reviewer of the challenge would ask
    NOTE = "note"  # worth knowing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found.

    Attributes:
        rule: a short name that stays the same, such as bytes-code.
        file: inside the folder.
        line: of the file; None where no line is meant.
    """

    rule: str
    severity: Severity
    file: str
    line: int | None
    message: str

    def __post_init__(self) -> None:
        # Both may quote the folder, whose writer must not command the terminal that prints them.
        object.__setattr__(self, "file", shown(self.file))
        object.__setattr__(self, "message", shown(self.message))

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{self.severity.value}: {where}: {self.message} [{self.rule}]"


def is_valid(findings: Iterable[Finding]) -> bool:
    """Whether nothing found is against a rule."""
    return all(finding.severity is not Severity.REFUSE for finding in findings)
