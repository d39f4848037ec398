"""Which files a submission holds, and what submission.json must say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.run import CODE_FILE
from search.verify.finding import Finding, Severity
from search.verify.folder import log_lines, matching, read_text
from search.verify.log import ChallengeLog, read_log
from search.verify.strict_json import read_json

JSON_FILE = "submission.json"
REQUIRED_FILES = ("README.md", JSON_FILE, CODE_FILE)
NUMBER = (int, float)
NULLABLE_NUMBER = (int, float, type(None))
# Field, its types, and whether a submission is refused without it.
FIELDS: tuple[tuple[str, tuple[type, ...], bool], ...] = (
    ("author", (str,), True),
    ("github_id", (str,), True),
    ("name", (str,), True),
    ("date", (str,), True),
    ("val_bpb", NUMBER, True),
    ("bytes_total", (int,), True),
    ("blurb", (str,), False),
    ("track", (str,), False),
    ("val_loss", NUMBER, False),
    ("val_loss_std", NULLABLE_NUMBER, False),
    ("val_bpb_std", NULLABLE_NUMBER, False),
    ("seeds", (list,), False),
    ("seed_results", (dict,), False),
    ("bytes_code", (int,), False),
    ("hardware", (str,), False),
    ("pytorch_version", (str,), False),
    ("technique_summary", (str,), False),
    ("compliance", (dict,), False),
    ("base_pr", (int, type(None)), False),
)
SEED_FIELDS = ("val_bpb", "val_loss", "artifact_bytes", "steps", "step_avg_ms", "train_time_s", "eval_time_s")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}(T.*)?")
LOG_NAME = re.compile(r"train_seed(\d+)\.log")


@dataclass(frozen=True, slots=True)
class Submission:
    """A folder as read.

    Attributes:
        values: of submission.json, whose required fields have their types.
        lines: of submission.json, where each top-level key stands.
        logs: by file name.
    """

    folder: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int]
    logs: Mapping[str, ChallengeLog]

    @property
    def log_of_seed(self) -> dict[int, str]:
        """Log names by seed: of the name train_seed<seed>.log, else of the log's own seed line."""
        found: dict[int, str] = {}
        for name, log in self.logs.items():
            match = LOG_NAME.fullmatch(name)
            seed = int(match[1]) if match else log.integer("seed")
            if seed is not None:
                found[seed] = name
        return found

    def finding(self, rule: str, severity: Severity, key: str, message: str) -> Finding:
        """A finding at a key of submission.json."""
        return Finding(rule, severity, JSON_FILE, self.lines.get(key), message)


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
    if not matching(folder, "train*.log"):
        found.append(refuse("files", "train_seed*.log", "expected a log for each seed, got none"))
    readme = folder / "README.md"
    if readme.is_file() and not read_text(readme).strip():
        found.append(refuse("files", "README.md", "expected a description, got an empty file"))
    return found


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
    wrong = field_findings(values, lines)
    findings += wrong
    if wrong:
        return None
    logs = {path.name: read_log(read_text(path)) for path in matching(folder, "train*.log")}
    return Submission(folder, values, lines, logs)


def key_lines(text: str) -> dict[str, int]:
    """Line of each key of an indented JSON object, the first one of each name."""
    found: dict[str, int] = {}
    for number, line in log_lines(text):
        if match := re.match(r'\s*+(?:\{\s*+)?"([^"]+)"\s*+:', line):
            found.setdefault(match[1], number)
    return found


def has_type(value: object, types: tuple[type, ...]) -> bool:
    """Whether a JSON value has one of the types; true and false are no numbers."""
    return isinstance(value, types) and not isinstance(value, bool)


def field_findings(values: Mapping[str, Any], lines: Mapping[str, int]) -> list[Finding]:
    """Required fields are there, and all known ones have their type."""
    found: list[Finding] = []

    def refuse_field(key: str, message: str) -> None:
        found.append(Finding("json", Severity.REFUSE, JSON_FILE, lines.get(key), f"{key}: {message}"))

    for key, types, is_required in FIELDS:
        expected = " or ".join("null" if one is type(None) else one.__name__ for one in types)
        if key not in values:
            if is_required:
                refuse_field(key, f"expected {expected}, got no such field")
        elif not has_type(values[key], types):
            refuse_field(key, f"expected {expected}, got {values[key]!r}")
        elif is_required and types == (str,) and not values[key].strip():
            refuse_field(key, "expected some text, got none")
    if isinstance(values.get("date"), str) and not DATE.fullmatch(values["date"]):
        refuse_field("date", f"expected YYYY-MM-DD, got {values['date']!r}")
    if isinstance(values.get("seeds"), list) and not all(has_type(seed, (int,)) for seed in values["seeds"]):
        refuse_field("seeds", f"expected a list of whole numbers, got {values['seeds']!r}")
    if isinstance(values.get("seed_results"), dict):
        for seed, result in values["seed_results"].items():
            refuse_seed_result(seed, result, refuse_field)
    return found


def refuse_seed_result(seed: str, result: object, refuse_field: Any) -> None:
    """Each seed's result is an object of numbers."""
    if not isinstance(result, dict):
        refuse_field("seed_results", f"seed {seed}: expected an object, got {result!r}")
        return
    for name in SEED_FIELDS:
        if name in result and not has_type(result[name], NUMBER):
            refuse_field("seed_results", f"seed {seed}: {name}: expected a number, got {result[name]!r}")
    if "val_bpb" not in result:
        refuse_field("seed_results", f"seed {seed}: val_bpb: expected a number, got no such field")
