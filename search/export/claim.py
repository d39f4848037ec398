"""What a submission claims: whose it is, where the search found it, and the runs that measured it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from search.errors import SubmissionError
from search.export.track import Track
from search.spec_parts import Limits
from search.techniques import technique_phrases
from trainer.config import Budget, Recipe
from trainer.result import Measurement

RECORD_TRACK = "10min_16mb"
OPEN_TRACK = "non-record-16mb"
TRACK_SECONDS = 600.0  # of the record track, for training and again for evaluation
TRACK_ARTIFACT_BYTES = 16_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The score to beat.

    Attributes:
        loss: nats per token of the submission's own tokenizer; None where bpb is given.
        bpb: bits per byte; None where loss is given.
    """

    loss: float | None = None
    bpb: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.loss, self.bpb) if value is not None]
        if len(given) != 1:
            raise SubmissionError(
                f"reference: expected either a loss in nats or bits per byte, got {len(given)} of them"
            )
        if not (math.isfinite(given[0]) and given[0] > 0):
            raise SubmissionError(f"reference: expected a positive number, got {given[0]}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """How the submission is listed.

    Attributes:
        name: of the submission; "" names it after its trial.
        date: YYYY-MM-DD.
        blurb: one paragraph; "" takes the summary of techniques.
        base_pr: pull request it builds on.
        reference: the score it is tested against; a record needs one.
    """

    author: str
    github_id: str
    date: str
    name: str = ""
    blurb: str = ""
    base_pr: int | None = None
    track: Track = Track.NON_RECORD
    reference: Reference | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A seed that the study file names and that has no feasible result.

    Attributes:
        artifact_bytes: of a measured but infeasible run; None where nothing was measured.
    """

    seed: int
    reason: str
    artifact_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCorrelation:
    """Spearman's correlation of the recipes measured in two rungs that follow each other; None for fewer than three."""

    low: str
    high: str
    recipes: int
    spearman: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The trial that is submitted and the search that found it.

    Attributes:
        num_trials: that the study has finished, on all rungs.
        gpu_hours: that the study has spent.
        data_path: folder of shards the runs used; only its name and dataset.json are shown.
        seeds: that the study file names for the rung.
        unfeasible: why seeds of the rung have no feasible result, by seed.
        lost: attempts at the recipe in this rung that measured nothing and were repeated, a line each.
        num_recipes: measured in the rung, the submitted one among them.
        rank_correlations: between the study's rungs, as caddie status has them.
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
    unfeasible: Mapping[int, LeftOut] = field(default_factory=dict[int, LeftOut])
    lost: Sequence[str] = ()
    num_recipes: int = 1
    rank_correlations: Sequence[RankCorrelation] = ()
    source: str | None = None

    @property
    def cap_bytes(self) -> int:
        """What an artifact may take: the challenge's cap, or the study's own where that is smaller."""
        return min(self.limits.artifact_bytes, TRACK_ARTIFACT_BYTES)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """One run of the trial's recipe and budget.

    Attributes:
        folder: holds train_gpt.py, train.log and weights.bin.
        code_sha256: of the file that ran, as the ledger had it before the run started.
        log_sha256: of the log as the run ended; "" where the ledger was older than such hashes.
    """

    folder: Path
    measurement: Measurement
    code_sha256: str
    log_sha256: str = ""


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
    def is_record(self) -> bool:
        """Whether it is claimed as a record; whether it may be, search.export.record says."""
        return self.entry.track is Track.RECORD

    @property
    def track(self) -> str:
        """The track as submission.json names it."""
        return RECORD_TRACK if self.is_record else OPEN_TRACK

    @property
    def left_out(self) -> list[LeftOut]:
        """Seeds that the study file names and the claim has no run of."""
        measured = {one.seed for one in self.measurements}
        reasons = self.origin.unfeasible
        return [
            reasons.get(seed) or LeftOut(seed=seed, reason="never measured")
            for seed in self.origin.seeds
            if seed not in measured
        ]

    @property
    def techniques(self) -> str:
        """The recipe in one line."""
        return ", ".join(technique_phrases(self.origin.recipe))


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None where there is only one value."""
    return stdev(values) if len(values) > 1 else None
