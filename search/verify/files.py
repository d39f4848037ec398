"""Which files a submission holds, and what they say."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from search.run import CODE_FILE
from search.verify.claims import Claims, is_record_track, read_claims
from search.verify.fields import JSON_FILE, field_findings
from search.verify.finding import Finding, Severity
from search.verify.folder import file_names, log_lines, read_text
from search.verify.log import ChallengeLog, read_log
from search.verify.strict_json import read_json

REQUIRED_FILES = ("README.md", JSON_FILE, CODE_FILE)
README = "README.md"
README_CHARS = 4_000  # enough for its title and what it says of its track
LOG_SUFFIXES = (".log", ".txt")
NO_LOG = re.compile(r"requirements.*|readme.*|license.*", re.IGNORECASE)
TRAIN_LOG = re.compile(r"train.*\.log")
PLAIN_NAME = re.compile(r"(?:train[-_]?)?(?:log[-_]?)?seed[-_]?\d+\.(?:log|txt)")
SEED_NAMES = tuple(
    re.compile(pattern, re.IGNORECASE) for pattern in (r"seed[-_=]?(\d{1,18})", r"(?:^|[-_])s(\d{1,18})(?=[-_.])")
)
NUMBER_NAME = re.compile(r"log[-_]?(\d{1,18})\.(?:log|txt)", re.IGNORECASE)


@dataclass(frozen=True)
class Submission:
    """A folder as read.

    Attributes:
        values: of submission.json, whose required fields have their types.
        lines: of submission.json, where each top-level key stands.
        logs: of training, by file name.
        names: of all files.
    """

    folder: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int]
    logs: Mapping[str, ChallengeLog]
    names: Sequence[str]

    @cached_property
    def claims(self) -> Claims:
        """The numbers that submission.json claims."""
        return read_claims(self.values)

    @cached_property
    def is_record(self) -> bool:
        """Whether the limits of the record track hold."""
        texts = [str(self.values.get(key, "")) for key in ("name", "run_name", "blurb")]
        words = " ".join([*texts, read_text(self.folder / README)[:README_CHARS]])
        return is_record_track(self.values, [one.name for one in self.folder.absolute().parents], words)

    @cached_property
    def log_of_seed(self) -> dict[int, str]:
        """Log names by seed: of the name where it holds one, else of what the log says."""
        found: dict[int, str] = {}
        for name in sorted(self.logs, key=plainness):
            seed = named_seed(name)
            if seed is None:
                seed = self.logs[name].integer("seed")
            if seed is None:
                seed = number_named(name)
            if seed is not None and (seed not in found or self._is_claimed(seed, name, found[seed])):
                found[seed] = name
        if not found and len(self.logs) == 1 and len(self.claims.seeds) <= 1:
            name, log = next(iter(self.logs.items()))
            if log.stored_scores:
                found[next(iter(self.claims.seeds), 0)] = name
        return dict(sorted(found.items(), key=lambda pair: pair[1]))

    def _is_claimed(self, seed: int, name: str, other: str) -> bool:
        """Whether a log, rather than another of its seed, has the score that is claimed of the seed."""
        claimed = self.claims.results[seed].number("val_bpb") if seed in self.claims.results else None
        if claimed is None or plainness(other)[0] == 0:
            return False
        return self.logs[name].prints(claimed) and not self.logs[other].prints(claimed)

    def finding(self, rule: str, severity: Severity, key: str, message: str) -> Finding:
        """A finding at a key of submission.json."""
        return Finding(rule, severity, JSON_FILE, self.lines.get(key), message)


def plainness(name: str) -> tuple[int, int, str]:
    """Sorts names of logs: those as the challenge has them first, then those at the top of the folder."""
    return (0 if PLAIN_NAME.fullmatch(name) else 1, name.count("/"), name)


def named_seed(name: str) -> int | None:
    """The seed in a log's name, such as train_seed42.log, log_seed42_v1.txt or train_s42.log."""
    stem = PurePosixPath(name).name
    match = next((found for pattern in SEED_NAMES if (found := pattern.search(stem))), None)
    return int(match[1]) if match else None


def number_named(name: str) -> int | None:
    """A number at the end of a log's name that may be its seed, such as log999.txt."""
    match = NUMBER_NAME.search(PurePosixPath(name).name)
    return int(match[1]) if match else None


def refuse(rule: str, file: str, message: str) -> Finding:
    """A finding against a rule, about a whole file."""
    return Finding(rule, Severity.REFUSE, file, None, message)


def file_findings(folder: Path) -> list[Finding]:
    """Required files are there, and say something."""
    found = [
        refuse("files", name, "expected this file, got none")
        for name in REQUIRED_FILES
        if not (folder / name).is_file()
    ]
    readme = folder / README
    if readme.is_file() and not read_text(readme).strip():
        found.append(refuse("files", README, "expected a description, got an empty file"))
    return found


def training_logs(folder: Path, names: Sequence[str]) -> dict[str, ChallengeLog]:
    """The logs of training in a folder: by their names, or by what other texts in it say."""
    found: dict[str, ChallengeLog] = {}
    for name in possible_logs(names):
        log = read_log(read_text(folder / name))
        if TRAIN_LOG.fullmatch(name) or log.is_training:
            found[name] = log
    return found


def possible_logs(names: Iterable[str]) -> list[str]:
    """Names that a log may have; nothing in hidden folders, which editors leave behind."""
    return [
        name
        for name in names
        if name.endswith(LOG_SUFFIXES)
        and not NO_LOG.fullmatch(PurePosixPath(name).name)
        and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    ]


def read_submission(folder: Path, findings: list[Finding]) -> Submission | None:
    """The folder's contents; None, and findings longer, where submission.json or a required file cannot be used."""
    if any(finding.rule == "files" for finding in findings):
        return None
    text = read_text(folder / JSON_FILE)
    try:
        values = read_json(text)
    except ValueError as error:
        findings.append(refuse("json", JSON_FILE, f"expected JSON, got {error}"))
        return None
    if not isinstance(values, dict):
        findings.append(refuse("json", JSON_FILE, "expected an object, got another value"))
        return None
    lines = key_lines(text)
    findings += field_findings(values, lines)
    names = file_names(folder)
    logs = training_logs(folder, names)
    if not logs:
        findings.append(refuse("files", "train_seed*.log", "expected a log for each seed, got none"))
        return None
    submission = Submission(folder, values, lines, logs, names)
    # Without a score there is nothing to compare; other wrong fields leave the rest to be checked.
    return None if submission.claims.val_bpb is None else submission


def key_lines(text: str) -> dict[str, int]:
    """Line of each key of an indented JSON object, the first one of each name."""
    found: dict[str, int] = {}
    for number, line in log_lines(text):
        if match := re.match(r'\s*+(?:\{\s*+)?"([^"]+)"\s*+:', line):
            found.setdefault(match[1], number)
    return found
