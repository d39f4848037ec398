"""Rules on the score itself: what it is computed from, and what bytes it counts."""

import re
from collections.abc import Iterator

from search.verify.finding import Severity
from search.verify.review.marks import Flag, Size, State
from search.verify.review.trace import Event, Kind, Trace
from search.verify.rules_order import SCORES
from search.verify.verdict import Verdict

REFUSE, REVIEW = Severity.REFUSE, Severity.REVIEW
BYTE_SCORES = frozenset({"val_bpb", "bpb", "bits_per_byte"})
NUMBER = re.compile(r"\d{3,6}")
CHALLENGE_VOCABULARY = "1024"


def score_verdicts(trace: Trace, *, is_packed: bool) -> Iterator[Verdict]:
    """Everything these rules say.

    Args:
        is_packed: train_gpt.py is a self-extracting wrapper.
    """
    reports = [event for event in trace.of(Kind.REPORT) if event.name in SCORES]
    yield from leaks(trace)
    for event in reports:
        if Flag.BEST in event.marks:
            message = "expected one prediction for each token, got the least of several losses of the same tokens"
            yield Verdict("slot", REFUSE, [event], message)
    yield from ngrams(reports)
    yield from tokenizers(trace)
    yield from byte_counts(reports)
    yield from literal_scores(trace, reports)
    yield from sizes(trace, is_packed=is_packed)


def leaks(trace: Trace) -> Iterator[Verdict]:
    """No prediction sees its own target."""
    for event in trace.of(Kind.LEAK):
        severity = REFUSE if Flag.VAL in event.marks else REVIEW
        message = (
            "expected predictions from earlier tokens alone, got logits that depend on the target or a later token"
        )
        yield Verdict("target-leak", severity, [event], message)


def ngrams(reports: list[Event]) -> Iterator[Verdict]:
    """No table is looked up with the target in its key."""
    for event in reports:
        if event.marks & {Flag.TARGET_KEY, Flag.TARGET_RATIO}:
            message = "expected an n-gram table keyed on the context alone, got one whose key holds the target"
            yield Verdict("ngram-target", REFUSE, [event], message)
        elif Flag.TARGET_PICK in event.marks:
            message = "expected a distribution over the whole vocabulary, got the target's count alone"
            yield Verdict("ngram-target", REVIEW, [event], message)


def tokenizers(trace: Trace) -> Iterator[Verdict]:
    """The challenge's own tokenizer, or a reviewer looks at the byte count."""
    for event in trace.of(Kind.TOKENIZER):
        numbers = NUMBER.findall(event.name.rsplit("/", 1)[-1])
        is_other_kind = event.consts and "SentencePieceProcessor" not in str(event.consts[0])
        if is_other_kind or (numbers and CHALLENGE_VOCABULARY not in numbers):
            shown = event.name.replace("\0", "...") or str(event.consts[0])
            yield Verdict("tokenizer", REVIEW, [event], f"expected the challenge's sp1024 tokenizer, got {shown}")


def byte_counts(reports: list[Event]) -> Iterator[Verdict]:
    """Bits are divided by bytes that the tokenizer's pieces say."""
    known = [event for event in reports if event.name in BYTE_SCORES and Flag.VAL in event.marks]
    for event in known:
        if Flag.INFLATED in event.marks:
            yield Verdict(
                "byte-count", REFUSE, [event], "expected the bytes of the tokenizer's pieces, got bytes changed by hand"
            )
        elif Flag.PIECES not in event.marks and not any(Flag.PIECES in other.marks for other in known):
            is_constant = Flag.SCALED in event.marks
            got = "a constant" if is_constant else "bytes that come from elsewhere"
            message = f"expected bits over the bytes of the tokenizer's pieces, got {got}"
            yield Verdict("byte-count", REFUSE if is_constant else REVIEW, [event], message)
        elif Flag.SCALED in event.marks:
            yield Verdict(
                "hardcoded-score", REFUSE, [event], "expected the score as computed, got it changed by a constant"
            )


def literal_scores(trace: Trace, reports: list[Event]) -> Iterator[Verdict]:
    """Scores are computed."""
    for event in reports:
        numbers = [one for one in event.consts if isinstance(one, int | float) and not isinstance(one, bool)]
        is_literal = bool(numbers) and len(numbers) == len(event.consts) and all(0.2 < one < 20 for one in numbers)
        remembered = [one for one in numbers if 0.2 < one < 20 and round(one, 4) != one]
        if remembered:
            message = f"expected a computed {event.name}, got {remembered[0]}, which is written down"
            yield Verdict("hardcoded-score", REFUSE, [event], message)
        elif is_literal and not event.marks & {Flag.VAL, Flag.LOSS}:
            yield Verdict("hardcoded-score", REFUSE, [event], f"expected a computed {event.name}, got {numbers[0]}")
    for event in trace.of(Kind.TEXT):
        yield Verdict(
            "hardcoded-score", REFUSE, [event], "expected a computed score, got one in the text that is printed"
        )


def sizes(trace: Trace, *, is_packed: bool) -> Iterator[Verdict]:
    """The bytes that are reported are those of the script and of every weight file."""
    reports = [event for event in trace.of(Kind.REPORT) if event.name == "size"]
    yield from uncounted(trace, reports)
    for event in reports:
        numbers = [one for one in event.consts if isinstance(one, int | float) and not isinstance(one, bool)]
        if numbers and len(numbers) == len(event.consts) and all(one > 100 for one in numbers):
            yield Verdict("size-trick", REFUSE, [event], f"expected a size that is measured, got {numbers[0]}")
        elif Flag.OTHER_FILE in event.marks and Flag.OWN_CODE not in event.marks:
            yield Verdict("size-trick", REFUSE, [event], "expected the size of train_gpt.py itself, got another file's")
        elif Flag.CHANGED_CODE in event.marks:
            severity = REVIEW if is_packed else REFUSE
            yield Verdict(
                "size-trick", severity, [event], "expected the bytes of the file as shipped, got its text changed"
            )


def uncounted(trace: Trace, reports: list[Event]) -> Iterator[Verdict]:
    """Every file of weights that is written and read back is counted."""
    counted = sizes_in(reports)
    written: dict[str, set[str]] = {}
    for event in trace.of(Kind.WRITE):
        if event.marks & {Flag.WEIGHTS, Flag.PACKED, Flag.ROUNDED} or any(
            isinstance(one, State) for one in event.marks
        ):
            written.setdefault(event.name, {event.name}).update(sizes_in([event]))
    read: dict[str, Event] = {}
    for event in trace.of(Kind.READ, Kind.UNPACK):
        first = written.get(event.name)
        if event.name and first is not None and not event.marks & {Flag.OWN_CODE, Flag.VAL, Flag.TRAIN}:
            read.setdefault(event.name, event)
    for event in trace.of(Kind.WRITE):
        is_appended = any("a" in str(mode) and "b" in str(mode) for mode in event.consts if len(str(mode)) <= 3)
        measured = [size.where for size in trace.of(Kind.SIZE) if size.name == event.name]
        if is_appended and event.name in read and measured and max(measured) < event.where:
            yield Verdict(
                "size-trick", REFUSE, [event], f"expected all of {event.name} to be counted, got more appended after"
            )
    if len(read) < 2 or not any(written[name] & counted for name in read):
        return
    for name, event in read.items():
        if not written[name] & counted:
            message = f"expected every weight file to be counted, got {name}, which is read back and not counted"
            yield Verdict("size-trick", REFUSE, [event], message)


def sizes_in(events: list[Event]) -> set[str]:
    """The files and blobs whose sizes, or contents, events are about."""
    return {mark.name for event in events for mark in event.marks if isinstance(mark, Size)}


__all__ = ["score_verdicts"]
