"""What a check of a submission found: which rule, how bad, where."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


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

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{self.severity.value}: {where}: {self.message} [{self.rule}]"


def is_valid(findings: Iterable[Finding]) -> bool:
    """Whether nothing found is against a rule."""
    return all(finding.severity is not Severity.REFUSE for finding in findings)
