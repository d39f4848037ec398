"""Numbers that a script prints, with the text before them."""

import re

from search.verify.review.machine import Machine
from search.verify.review.trace import Kind
from search.verify.review.values import Value, marks_of

LABEL = re.compile(r"(?:^|[^a-z])(val_bpb|val_loss|bpb|bits_per_byte)\W{0,4}$", re.I)
SIZE_LABEL = re.compile(
    r"(code[ _](?:size|bytes)|bytes_code|submission[ _]size|(?:total|artifact)[ _](?:size|bytes))[^:=]{0,40}\W{0,4}$",
    re.I,
)


def format_spec_event(machine: Machine, text: str, value: Value) -> None:
    """Record a number that is written behind a name such as val_bpb or code size."""
    if SIZE_LABEL.search(text):
        machine.event(Kind.REPORT, "size", marks_of(value), consts=value.consts if not value.is_open else ())
    elif found := LABEL.search(text):
        consts = value.consts if not value.is_open else (*value.consts, None)
        machine.event(Kind.REPORT, found.group(1).lower(), marks_of(value), consts=consts)
