"""The lines of a challenge log that print a score, under any name they were given over time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from search.verify.log_text import STEP
from search.verify.number import Shown

BPB = re.compile(r"\bval_bpb\s?[:=]\s*(?P<value>\d{1,6}\.\d{1,20}|nan|inf)", re.IGNORECASE)
LOSS = re.compile(r"\bval_loss\s?[:=]\s*(?P<value>\d{1,6}\.\d{1,20}|nan|inf)", re.IGNORECASE)
EVAL_TIME = re.compile(
    r"\b(?:eval_time|elapsed|eval_seconds)\s?[:=]\s*(?P<value>\d{1,12}(?:\.\d{1,12})?)\s?(?P<unit>ms|s)?\b"
)
MAX_LABEL_CHARS = 200  # what stands before a score is its name and a few settings
NAME = re.compile(r"[A-Za-z][\w .+/()-]*")
SETTING = re.compile(r"\w+[:=][\d.]\S*")  # stride:64 and the like, between the name and the score
EXACT = re.compile(r"_?exact\b")
# While training or scoring goes on.
RUNNING = re.compile(r"\bstep\b|\bchunks?\b|running|progress|\bepochs?\b|\bbatch\b|\bwarmup|\bwindows?\b(?! *$)", re.I)
FINAL = re.compile(r"^final|quantized|round_?trip|ttt|sliding", re.I)
# Of weights that are not those of the artifact.
NOT_STORED = re.compile(r"pre[-_ ]?quant|post[-_ ]?ema|diagnostic|unquant|full[-_ ]?precision|fp32|\braw\b", re.I)


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """A score of the validation split as a log prints it.

    Attributes:
        label: its name without _exact and settings, such as final_int8_zlib_roundtrip.
        val_bpb: None where the log prints that it is no number.
        line: where its most exact form stands.
        is_stored: whether it is of the weights as the artifact stores them.
    """

    label: str
    val_bpb: Shown | None
    val_loss: Shown | None
    eval_seconds: float | None
    line: int
    is_stored: bool
    bpb_text: str = ""
    loss_text: str = ""


def score_line(number: int, line: str) -> ScoreLine | None:
    """The score that a line prints; None if it prints none, or one of a model still in training."""
    if "val_bpb" not in line or STEP.match(line) or not (bpb := BPB.search(line)):
        return None
    loss = LOSS.search(line)
    start = min(bpb.start(), loss.start()) if loss else bpb.start()
    if start > MAX_LABEL_CHARS:
        return None
    name = " ".join(word for word in line[:start].replace(",", " ").split() if not SETTING.fullmatch(word))
    label = EXACT.sub("", name).strip(" :|-").lower() or "val_bpb"
    if not NAME.fullmatch(label.replace(":", " ")) or RUNNING.search(label):
        return None
    return ScoreLine(
        label=label,
        val_bpb=number_of(bpb["value"]),
        val_loss=number_of(loss["value"]) if loss else None,
        eval_seconds=eval_seconds(line),
        line=number,
        is_stored=not NOT_STORED.search(label),
        bpb_text=bpb["value"],
        loss_text=loss["value"] if loss else "",
    )


def since_packed(score: ScoreLine, line: int) -> ScoreLine:
    """A score whose name does not say that the weights are stored, printed before they were, is of other weights.

    Args:
        line: where the log says how large the stored weights are; 0 if it does not.
    """
    is_early = score.line < line and not FINAL.search(score.label)
    return replace(score, is_stored=False) if is_early else score


def number_of(text: str) -> Shown | None:
    """A printed number; None for nan and inf."""
    return Shown(text) if text[0].isdigit() else None


def eval_seconds(line: str) -> float | None:
    """How long a line says that scoring took; milliseconds unless it says seconds."""
    match = EVAL_TIME.search(line)
    if match is None:
        return None
    return float(match["value"]) / (1 if match["unit"] == "s" or "elapsed" in match[0] else 1000)


def merge(scores: Iterable[ScoreLine]) -> tuple[ScoreLine, ...]:
    """One score a label, in the order they were last printed: a rounded and an exact line become one.

    A later line that is not the earlier one in other digits replaces it: the log holds two runs.
    """
    found: dict[str, ScoreLine] = {}
    for score in scores:
        earlier = found.pop(score.label, None)
        found[score.label] = score if earlier is None else merged(earlier, score)
    return tuple(found.values())


def merged(earlier: ScoreLine, later: ScoreLine) -> ScoreLine:
    """The more exact of two lines of a label, with the time that either tells; the later if they disagree."""
    if earlier.val_bpb is None or later.val_bpb is None:
        return later
    digits = min(earlier.val_bpb.decimals, later.val_bpb.decimals)
    if abs(earlier.val_bpb - later.val_bpb) > 0.51 * 10.0**-digits:
        return later
    exact, other = (earlier, later) if earlier.val_bpb.decimals > later.val_bpb.decimals else (later, earlier)
    seconds = exact.eval_seconds if exact.eval_seconds is not None else other.eval_seconds
    return replace(exact, eval_seconds=seconds)
