"""What a script does that matters to the rules, in the order in which it would happen."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum, auto

from search.verify.review.marks import NO_MARKS, Marks


class Kind(Enum):
    """What happens."""

    READ = auto()  # a file's contents; name is its path
    SIZE = auto()  # of a file is taken; name is its path
    WRITE = auto()  # to a file; name is its path
    LOSS = auto()  # a model's output or loss
    GRADIENT = auto()  # of a loss: what is trained on it is trained now
    RESET = auto()  # weights are loaded again
    PACK = auto()  # weights are compressed or saved
    UNPACK = auto()  # a file is decompressed or loaded
    HESSIAN = auto()  # activations are multiplied by themselves
    ROUND = auto()  # weights are rounded
    REPORT = auto()  # a number is written beside a name such as val_bpb
    TEXT = auto()  # text is printed
    SELECT = auto()  # weights are chosen by a validation loss
    CALL = auto()  # of something imported or built in; name is its full name
    IMPORT = auto()
    EXECUTE = auto()  # of text as code
    LEAK = auto()  # a prediction that depends on its own target
    TOKENIZER = auto()  # is loaded; name is its path


@dataclass(slots=True)
class Event:
    """One of them.

    Attributes:
        marks: of what it is about.
        targets: of what it changes, or is compared with.
        is_optional: only with a setting that is off by default and that the folder does not say to be on.
        is_dead: in a function that nothing calls.
        where: the number of the phase-independent moment, its index in the trace.
    """

    kind: Kind
    line: int
    name: str = ""
    marks: Marks = NO_MARKS
    targets: Marks = NO_MARKS
    consts: tuple[Hashable, ...] = ()
    is_optional: bool = False
    is_dead: bool = False
    where: int = -1


@dataclass(slots=True)
class Trace:
    """Events in order."""

    events: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> Event:
        """Append one."""
        event.where = len(self.events)
        self.events.append(event)
        return event

    def of(self, *kinds: Kind) -> list[Event]:
        """Those of some kinds that a run could reach."""
        return [event for event in self.events if event.kind in kinds and not event.is_dead]
