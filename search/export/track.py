"""Which list of the challenge a submission is for; apart from the rest, since the command line needs it at once."""

from enum import StrEnum


class Track(StrEnum):
    """The challenge's two lists."""

    RECORD = "record"
    NON_RECORD = "non-record"
