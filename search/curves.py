"""Training-loss curves of runs, read from the events that they leave in their folders."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

from search.run import EVENTS_FILE

PARTS = 8  # of a run: the loss of one batch says little, its mean over an eighth of the run does

Curve = tuple[tuple[float, float], ...]  # progress in [0, 1] and training loss (nats per token), in order


def read_curve(folder: Path) -> Curve:
    """The losses that a run has reported so far; empty where it has not, or where its folder is gone."""
    try:
        text = (folder / EVENTS_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(_points(text))


def _points(text: str) -> Iterator[tuple[float, float]]:
    for line in text.splitlines():
        with suppress(ValueError):  # a last line that is being written
            event: Any = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "TrainStep" and math.isfinite(event["train_loss"]):
                yield event["progress"], event["train_loss"]


def mean_loss(curve: Curve, progress: float) -> float | None:
    """Mean loss over the part of a run that ends at a progress; None where nothing was reported in it."""
    losses = [loss for at, loss in curve if progress - 1 / PARTS < at <= progress]
    return fmean(losses) if losses else None


def checkpoint_before(progress: float) -> float:
    """The last multiple of a part's length that a progress has reached."""
    return math.floor(progress * PARTS + 1e-9) / PARTS
