"""What a training log of the challenge says, in any of the forms that its logs had over time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from search.verify.log_text import result_lines
from search.verify.number import agrees
from search.verify.score_line import ScoreLine, merge, score_line, since_packed

COUNT = r"(?P<value>\d[\d,]{0,19})"
WHOLE, DECIMAL = r"(?P<value>\d{1,15})", r"(?P<value>\d{1,12}(?:\.\d{1,20})?)"
# What a line says, by a word that it holds at least and the pattern it has; the last such line of a log counts.
PATTERNS: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (name, word, re.compile(pattern))
    for name, word, pattern in (
        ("device", "python:", r"^python:.*\bdevice:(?P<value>\S[^:]*)"),
        ("pytorch", "python:", r"^python:.*\bpytorch:(?P<value>\S+)"),
        ("world_size", "orld", rf"(?:\bworld_size|^World size)\s*[:=]\s*{WHOLE}"),
        ("world_size", "ws:", rf"\bws:{WHOLE}\b"),
        ("model_params", "params:", rf"^(?:model_params|params|Total params)\s*:\s*{COUNT}"),
        ("dataset", "train_loader:", r"^train_loader:dataset:(?P<value>\S+)"),
        ("dataset", "datasets_dir", r"^\s*datasets_dir\s*[:=]\s*(?:\S*/)?(?P<value>[^/\s]+)/?\s*$"),
        ("tokenizer_sha256", "tokenizer_sha256:", r"^tokenizer_sha256:(?P<value>[0-9a-f]{64})\s*$"),
        ("train_shards", "train_shards", rf"\btrain_shards\s*[:=]\s*{WHOLE}"),
        ("val_tokens", "val_loader:", rf"^val_loader:.*\btokens:{WHOLE}"),
        ("val_tokens", "okens", rf"^(?:val_tokens|Validation tokens)\s*:\s*{COUNT}"),
        ("train_loss", "loss", r"^(?:step\s*:?\s*)?\d+/\d+\s.*?\b(?:train_)?loss\s?:?\s?(?P<value>\d{1,12}\.\d{1,20})"),
        ("train_ms", "train_time", rf"\btrain_time[:=]\s*{WHOLE}(?:\.\d+)?\s?ms"),
        ("train_minutes", "train_time", rf"\btrain_time[:=]\s*{DECIMAL}\s?m\b"),
        ("minutes_step", "train_time", rf"^(?:step\s*:?\s*)?{WHOLE}/\d+\s.*\btrain_time[:=]\s*[\d.]+\s?m\b"),
        ("train_seconds", "raining", rf"^Training (?:complete|done|finished) in {DECIMAL}\s?s"),
        ("last_step", "/", rf"^(?:step\s*:?\s*)?{WHOLE}/\d+\s"),
        ("stopped_step", "topping", rf"^stopping_early:.*\bstep:\s*{WHOLE}/"),
        ("stopped_step", "topping", rf"^Stopping early at step {WHOLE}"),
        ("step_avg_ms", "step_avg", rf"\bstep_avg[:=]\s*{DECIMAL}\s?ms"),
        ("train_step_avg_ms", "train_loss", rf"\btrain_loss:.*\bstep_avg[:=]\s*{DECIMAL}\s?ms"),
        ("peak_memory_mib", "eak memory", rf"^[Pp]eak memory(?: allocated)?:\s*{WHOLE} MiB"),
        ("raw_weight_bytes", "Serialized model", rf"^Serialized model:\s*{COUNT} bytes"),
        ("weight_bytes", "Serialized model", rf"^Serialized model [^:]+:\s*{COUNT} bytes"),
        ("weight_bytes", "rtifact", rf"^Artifact(?: size)?:\s*{COUNT} bytes"),
        ("raw_code_bytes", "uncompressed", rf"^Code size \(uncompressed\):\s*{COUNT} bytes"),
        ("code_bytes", "Code size", rf"^Code size(?: \(compressed\))?:\s*{COUNT} bytes"),
        ("code_bytes", "code:", rf"^artifact:.*\bcode:{WHOLE}\b"),
        ("raw_total_bytes", "Total", rf"^Total submission size:\s*{COUNT} bytes"),
        ("total_bytes", "Total", rf"^Total submission size [^:]+:\s*{COUNT} bytes"),
        ("total_bytes", "budget:", rf"^budget:{WHOLE}/\d+"),
        ("total_eval_seconds", "total_eval_time", rf"^total_eval_time[:=]\s*{DECIMAL}\s?s"),
    )
)
SEED_LINE = re.compile(r"\s*+seed\s*+[:=]\s*+(?P<value>\d{1,18})\s*+(?:$|,)", re.IGNORECASE)
SEED_WORD = re.compile(r"(?:^|[\s,(])seed\s*[:=]\s*(?P<value>\d{1,18})\b", re.IGNORECASE)
# Without these a record cannot be checked; without the first two, no submission.
NEEDED = ("val_bpb", "weight_bytes", "train_ms")
# What reviewers also look for.
EXPECTED = (
    *("seed", "code_bytes", "total_bytes", "train_shards", "val_tokens", "train_loss", "steps", "peak_memory_mib"),
    "roundtrip_bpb",
)
ROUNDTRIP = re.compile(r"round_?trip|\bquantized$")


@dataclass(frozen=True, slots=True)
class LogValue:
    """One value of a log, as it is printed but for commas in numbers, and the line it stands on."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class ChallengeLog:
    """What a training log says.

    Attributes:
        scores: in the order the log prints them; the last one of stored weights is what its entries val_bpb,
            val_loss and eval_ms hold.
    """

    entries: Mapping[str, LogValue]
    scores: tuple[ScoreLine, ...] = ()

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

    @property
    def stored_scores(self) -> tuple[ScoreLine, ...]:
        """Scores of the weights as they are stored, which alone may be claimed."""
        return tuple(score for score in self.scores if score.is_stored)

    def prints(self, val_bpb: float) -> bool:
        """Whether a score of stored weights is this one."""
        return any(score.val_bpb is not None and agrees(val_bpb, score.val_bpb) for score in self.stored_scores)

    @property
    def is_training(self) -> bool:
        """Whether this is a log of training a model and storing it, whatever its file is called."""
        return bool(self.stored_scores) and not self.missing(("train_loss",))


def read_log(text: str) -> ChallengeLog:
    """Parse a training log; source code that it prints and unknown lines are left alone."""
    lines = list(result_lines(text))
    entries = values_of(lines)
    if seed := seed_value(lines):
        entries["seed"] = seed
    printed = [score for number, line in lines if (score := score_line(number, line))]
    packed = entries["weight_bytes"].line if "weight_bytes" in entries else 0
    scores = merge([since_packed(score, packed) for score in printed])
    complete(entries, scores)
    return ChallengeLog(MappingProxyType(entries), scores)


def values_of(lines: Sequence[tuple[int, str]]) -> dict[str, LogValue]:
    """The last value of each kind, searched from the end: most lines of a log are steps that another one follows."""
    found: dict[str, LogValue] = {}
    for name, word, pattern in PATTERNS:
        for number, line in reversed(lines):
            if word in line and (match := pattern.search(line)):
                value = match["value"]
                value = value.replace(",", "") if value[0].isdigit() else value.strip()
                if name not in found or found[name].line < number:
                    found[name] = LogValue(value, number)
                break
    return found


def seed_value(lines: Sequence[tuple[int, str]]) -> LogValue | None:
    """The first seed that has a line of its own, else the first that is named anywhere."""
    named = [(number, line) for number, line in lines if "seed" in line.lower()]
    for pattern in (SEED_LINE.match, SEED_WORD.search):
        for number, line in named:
            if match := pattern(line):
                return LogValue(match["value"], number)
    return None


def complete(entries: dict[str, LogValue], scores: tuple[ScoreLine, ...]) -> None:
    """Fill in what a log says in other words: totals from their parts, milliseconds from seconds or minutes."""
    if "total_bytes" not in entries and "weight_bytes" in entries and "raw_total_bytes" in entries:
        code, total = entries.get("code_bytes"), entries["raw_total_bytes"]
        if code is not None and int(total.text) == int(code.text) + int(entries["weight_bytes"].text):
            entries["total_bytes"] = total
    if "weight_bytes" not in entries and {"total_bytes", "code_bytes"} <= entries.keys():
        weights = int(entries["total_bytes"].text) - int(entries["code_bytes"].text)
        if weights > 0:
            entries["weight_bytes"] = LogValue(str(weights), entries["total_bytes"].line)
    steps = [entries[name].text if name in entries else "" for name in ("minutes_step", "last_step")]
    for name, factor in (("train_seconds", 1_000), ("train_minutes", 60_000)):
        # Minutes at an earlier step than the last are not those of the whole training.
        if name in entries and (name == "train_seconds" or steps[0] == steps[1]):
            milliseconds = round(float(entries[name].text) * factor)
            entries.setdefault("train_ms", LogValue(str(milliseconds), entries[name].line))
    if steps := entries.get("stopped_step") or entries.get("last_step"):
        entries["steps"] = steps
    roundtrips = [score for score in scores if ROUNDTRIP.search(score.label)]
    if roundtrips:
        entries["roundtrip_bpb"] = LogValue(roundtrips[-1].bpb_text, roundtrips[-1].line)
    stored = [score for score in scores if score.is_stored]
    if stored:
        entries |= headline(stored[-1])


def headline(score: ScoreLine) -> dict[str, LogValue]:
    """The entries of the score that a log ends with."""
    found = {"val_bpb": LogValue(score.bpb_text, score.line)}
    if score.val_loss is not None:
        found["val_loss"] = LogValue(score.loss_text, score.line)
    if score.eval_seconds is not None:
        found["eval_ms"] = LogValue(str(round(1000 * score.eval_seconds)), score.line)
    return found
