"""The rules of a record, each as a fact of a claim: what is asked, what is there, and whether it is kept."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from search.errors import SubmissionError
from search.export.claim import TRACK_ARTIFACT_BYTES, TRACK_SECONDS, Claim
from search.export.significance import RECORD_MARGIN, RECORD_P, significance
from trainer.result import Measurement

RECORD_SEEDS = 3
RECORD_WORLD_SIZE = 8
SLOWER_H100 = ("PCIe", "NVL")  # the challenge's are SXM, which CUDA calls "NVIDIA H100 80GB HBM3"


class RecordFact(NamedTuple):
    """One rule of the record track and how a claim stands to it."""

    rule: str
    is_kept: bool
    expected: str
    got: str


def record_facts(claim: Claim) -> list[RecordFact]:
    """Every rule of the record track that a claim's own runs can decide."""
    ones = claim.measurements
    largest = max(one.artifact_bytes for one in ones)
    eval_tokens = claim.origin.budget.eval_tokens
    scored = "the whole split" if eval_tokens is None else f"its first {eval_tokens:,} tokens"
    without = [str(run.measurement.seed) for run in claim.runs if not run.log_sha256]
    return [
        *seed_facts(claim),
        hardware_fact(ones),
        time_fact("train-seconds", [one.train_seconds for one in ones]),
        time_fact("eval-seconds", [one.eval_seconds for one in ones]),
        RecordFact(
            "bytes",
            largest <= TRACK_ARTIFACT_BYTES,
            f"at most {TRACK_ARTIFACT_BYTES:,} bytes of every seed",
            f"{largest:,} at most",
        ),
        RecordFact("validation", eval_tokens is None, "the whole validation split scored", scored),
        RecordFact(
            "logs",
            not without,
            "logs whose hashes were recorded as the runs ended",
            f"no hash for the seeds {', '.join(without)}" if without else "all",
        ),
        significance_fact(claim),
    ]


def seed_facts(claim: Claim) -> Iterator[RecordFact]:
    """Seeds are fixed beforehand, enough of them, and none is left out."""
    fixed, measured = sorted(claim.origin.seeds), sorted(one.seed for one in claim.measurements)
    listed = ", ".join(map(str, fixed)) or "none"
    expected = f"at least {RECORD_SEEDS} seeds that the study file fixed before any run"
    yield RecordFact("seeds", len(set(fixed)) >= RECORD_SEEDS, expected, listed)
    reasons = [f"seed {one.seed} left out: {one.reason}" for one in claim.left_out]
    reasons += [f"seed {seed} is none of them" for seed in measured if seed not in fixed]
    got = "; ".join(reasons) or "all of them"
    yield RecordFact("all-seeds", not reasons, "every one of those seeds measured, feasible and reported", got)


def hardware_fact(ones: Sequence[Measurement]) -> RecordFact:
    """The challenge's machine: one node of 8 H100 SXM."""
    is_kept = all(
        one.world_size == RECORD_WORLD_SIZE
        and "H100" in one.device
        and not any(name in one.device for name in SLOWER_H100)
        for one in ones
    )
    got = "; ".join(sorted({f"{one.world_size} x {one.device}" for one in ones}))
    return RecordFact("hardware", is_kept, f"every run on {RECORD_WORLD_SIZE} x H100 SXM", got)


def time_fact(rule: str, seconds: Sequence[float]) -> RecordFact:
    """A limit on seconds, of every run."""
    expected = f"at most {TRACK_SECONDS:.0f} s in every run"
    return RecordFact(rule, max(seconds) <= TRACK_SECONDS, expected, f"{max(seconds):.1f} s at most")


def significance_fact(claim: Claim) -> RecordFact:
    """The mean beats a given reference by the margin."""
    expected = f"a mean below the reference by {RECORD_MARGIN} nats at p < {RECORD_P}"
    if claim.entry.reference is None:
        return RecordFact("reference", False, expected, "no reference score")
    try:
        test = significance(claim)
    except SubmissionError as error:
        return RecordFact("significance", False, expected, str(error))
    assert test is not None
    got = f"{test.mean - test.reference_loss:+.5f} nats, p = {test.p:.2g}"
    return RecordFact("significance", test.is_significant, expected, got)


def check_record(claim: Claim) -> None:
    """Refuse to call a claim a record where a rule of the track fails.

    Raises:
        SubmissionError: it is claimed as a record; the message names every rule that fails.
    """
    if not claim.is_record:
        return
    broken = [f"{one.rule}: expected {one.expected}, got {one.got}" for one in record_facts(claim) if not one.is_kept]
    if broken:
        raise SubmissionError(f"track record: {len(broken)} rule(s) fail: {'; '.join(broken)}")
