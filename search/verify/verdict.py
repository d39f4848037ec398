"""What a rule says of events of a script, before it becomes a finding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from search.verify.finding import Finding, Severity
from search.verify.review.trace import Event

MAX_A_RULE = 4  # findings of one rule and severity


@dataclass(frozen=True, slots=True)
class Verdict:
    """One breach of a rule.

    Attributes:
        events: what breaks it; the first one's line is shown.
    """

    rule: str
    severity: Severity
    events: list[Event]
    message: str

    @property
    def effective(self) -> Severity:
        """What needs a setting that is off by default is for a reviewer."""
        is_optional = any(event.is_optional for event in self.events)
        return Severity.REVIEW if is_optional and self.severity is Severity.REFUSE else self.severity

    def finding(self, shown: str) -> Finding:
        """The same as a finding."""
        note = " (only with a setting that is off by default)" if self.effective is not self.severity else ""
        return Finding(self.rule, self.effective, shown, self.events[0].line, self.message + note)


def findings_of(verdicts: Iterable[Verdict], shown: str) -> Iterator[Finding]:
    """Findings, each line once a rule, the worst verdict of it."""
    best: dict[tuple[str, int], Verdict] = {}
    for verdict in verdicts:
        key = verdict.rule, verdict.events[0].line
        old = best.get(key)
        if old is None or (old.effective is not Severity.REFUSE and verdict.effective is Severity.REFUSE):
            best[key] = verdict
    count: dict[tuple[str, Severity], int] = {}
    for verdict in best.values():
        kind = verdict.rule, verdict.effective
        count[kind] = count.get(kind, 0) + 1
        if count[kind] <= MAX_A_RULE:
            yield verdict.finding(shown)
