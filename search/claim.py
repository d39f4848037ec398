"""What a submission claims: whose it is, where the search found it, and the runs that measured it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from search.spec_parts import Limits
from search.techniques import technique_phrases
from trainer.config import Budget, Recipe
from trainer.result import Measurement

RECORD_TRACK = "10min_16mb"
OPEN_TRACK = "non-record-16mb"
TRACK_SECONDS = 600.0  # of the record track, for training and again for evaluation
TRACK_ARTIFACT_BYTES = 16_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """How the submission is listed.

    Attributes:
        name: of the submission; "" names it after its trial.
        date: YYYY-MM-DD.
        blurb: one paragraph; "" takes the summary of techniques.
        base_pr: pull request it builds on.
    """

    author: str
    github_id: str
    date: str
    name: str = ""
    blurb: str = ""
    base_pr: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The trial that is submitted and the search that found it.

    Attributes:
        num_trials: that the study has finished, on all rungs.
        gpu_hours: that the study has spent.
        data_path: folder of shards the runs used; only its name and dataset.json are shown.
        seeds: that the study file names for the rung.
        source: readable trainer with comments, as bundle made it; shipped only if it packs to the code that ran.
    """

    study: str
    rung: str
    trial_number: int
    recipe: Recipe
    budget: Budget
    limits: Limits
    num_trials: int
    gpu_hours: float
    data_path: Path
    tokenizer_path: Path
    seeds: Sequence[int] = ()
    source: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """One run of the trial's recipe and budget.

    Attributes:
        folder: holds train_gpt.py, train.log and weights.bin.
        code_sha256: of the file that ran, as the ledger knows it.
    """

    folder: Path
    measurement: Measurement
    code_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """All that an exported folder says. There is at least one run."""

    entry: Entry
    origin: Origin
    runs: Sequence[SeedRun]

    @property
    def measurements(self) -> list[Measurement]:
        """Of the runs, in seed order."""
        return sorted((run.measurement for run in self.runs), key=lambda measurement: measurement.seed)

    @property
    def name(self) -> str:
        """The submission's title."""
        return self.entry.name or f"{self.origin.study} trial {self.origin.trial_number}"

    @property
    def val_bpb(self) -> float:
        """Mean over seeds."""
        return fmean(measurement.val_bpb for measurement in self.measurements)

    @property
    def val_loss(self) -> float:
        """Mean over seeds, nats per token."""
        return fmean(measurement.val_loss for measurement in self.measurements)

    @property
    def val_bpb_std(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return deviation([measurement.val_bpb for measurement in self.measurements])

    @property
    def val_loss_std(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return deviation([measurement.val_loss for measurement in self.measurements])

    @property
    def artifact_bytes(self) -> int:
        """Of the largest artifact."""
        return max(measurement.artifact_bytes for measurement in self.measurements)

    @property
    def hardware(self) -> str:
        """What the runs ran on."""
        return "; ".join(sorted({f"{one.world_size} x {one.device}" for one in self.measurements}))

    @property
    def track(self) -> str:
        """The record track for runs on 8 H100 in its time and over the whole validation split, else the open one."""
        is_record = self.origin.budget.eval_tokens is None and all(
            one.world_size == 8 and "H100" in one.device and max(one.train_seconds, one.eval_seconds) <= TRACK_SECONDS
            for one in self.measurements
        )
        return RECORD_TRACK if is_record else OPEN_TRACK

    @property
    def techniques(self) -> str:
        """The recipe in one line."""
        return ", ".join(technique_phrases(self.origin.recipe))


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None where there is only one value."""
    return stdev(values) if len(values) > 1 else None
