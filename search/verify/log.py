"""The lines of a challenge log that a reviewer checks, with the numbers they hold and where they stand."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from search.verify.folder import log_lines

# What each line of a log says; the last match of a log counts, as a run may print a line more than once.
PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "seed": re.compile(r"^seed:(?P<value>\d+)\s*$"),
        "device": re.compile(r"^python:.*\bdevice:(?P<value>.+?)\s*$"),
        "pytorch": re.compile(r"^python:.*\bpytorch:(?P<value>\S+)"),
        "world_size": re.compile(r"^world_size:(?P<value>\d+)"),
        "model_params": re.compile(r"^model_params:(?P<value>\d+)"),
        "dataset": re.compile(r"^train_loader:dataset:(?P<value>\S+)"),
        "tokenizer_sha256": re.compile(r"^tokenizer_sha256:(?P<value>[0-9a-f]{64})\s*$"),
        "train_shards": re.compile(r"^train_loader:.*\btrain_shards:(?P<value>\d+)"),
        "val_tokens": re.compile(r"^val_loader:.*\btokens:(?P<value>\d+)"),
        "train_loss": re.compile(r"^step:\d+/\d+ train_loss:(?P<value>\d+\.\d+)"),
        "train_ms": re.compile(r"\btrain_time:(?P<value>\d+)ms"),
        "stopped_step": re.compile(r"^stopping_early: .*\bstep:(?P<value>\d+)/"),
        "peak_memory_mib": re.compile(r"^peak memory allocated: (?P<value>\d+) MiB"),
        "weight_bytes": re.compile(r"^Serialized model int\S+: (?P<value>\d+) bytes"),
        "code_bytes": re.compile(r"^Code size: (?P<value>\d+) bytes"),
        "total_bytes": re.compile(r"^Total submission size int\S+: (?P<value>\d+) bytes"),
        "roundtrip_bpb": re.compile(r"^final_\w+_roundtrip_exact val_loss:\S+ val_bpb:(?P<value>\d+\.\d+)"),
        "val_loss": re.compile(r"^final_(?:sliding_window|adapted)_exact val_loss:(?P<value>\d+\.\d+) "),
        "val_bpb": re.compile(r"^final_(?:sliding_window|adapted)_exact val_loss:\S+ val_bpb:(?P<value>\d+\.\d+)"),
        "eval_ms": re.compile(r"^final_(?:sliding_window|adapted) val_loss:.*\beval_time:(?P<value>\d+)ms"),
    }
)
# Without these a score cannot be checked; the others are what reviewers also look for.
NEEDED = ("seed", "weight_bytes", "code_bytes", "total_bytes", "val_bpb", "val_loss", "train_ms", "eval_ms")
EXPECTED = ("train_shards", "val_tokens", "train_loss", "stopped_step", "peak_memory_mib", "roundtrip_bpb")


@dataclass(frozen=True, slots=True)
class LogValue:
    """One value of a log, as it is printed, and the line it stands on."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class ChallengeLog:
    """What a training log says."""

    entries: Mapping[str, LogValue]

    def text(self, name: str) -> str | None:
        """A value as printed; None where the log does not say."""
        entry = self.entries.get(name)
        return None if entry is None else entry.text

    def integer(self, name: str) -> int | None:
        """A whole number; None where the log does not say."""
        text = self.text(name)
        return None if text is None else int(text)

    def decimal(self, name: str) -> float | None:
        """A decimal number; None where the log does not say."""
        text = self.text(name)
        return None if text is None else float(text)

    def line(self, name: str) -> int | None:
        """Where a value stands."""
        entry = self.entries.get(name)
        return None if entry is None else entry.line

    def missing(self, names: tuple[str, ...]) -> list[str]:
        """Those of names that the log says nothing about."""
        return [name for name in names if name not in self.entries]


def read_log(text: str) -> ChallengeLog:
    """Parse a training log; unknown lines are left alone."""
    entries: dict[str, LogValue] = {}
    for number, line in log_lines(text):
        for name, pattern in PATTERNS.items():
            if match := pattern.search(line):
                entries[name] = LogValue(match["value"], number)
    return ChallengeLog(MappingProxyType(entries))
