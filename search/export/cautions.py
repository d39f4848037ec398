"""What whoever exports a claim must know before submitting it, though no rule is broken."""

from collections.abc import Iterator
from statistics import stdev

from search.export.claim import Claim

NEAR_CAP_BYTES = 10_000


def cautions(claim: Claim) -> list[str]:
    """Warnings, a sentence or two each."""
    return [*near_cap(claim), *left_out(claim), *unhashed_logs(claim)]


def near_cap(claim: Claim) -> Iterator[str]:
    """An artifact so close to the cap that another seed's may not fit."""
    cap, largest = claim.origin.cap_bytes, max(claim.measurements, key=lambda one: one.artifact_bytes)
    room = cap - largest.artifact_bytes
    if room <= NEAR_CAP_BYTES:
        yield (
            f"Near the cap: the artifact of seed {largest.seed} takes {largest.artifact_bytes:,} bytes, {room:,} below"
            f" the cap of {cap:,}. {bytes_spread(claim, room)}"
        )


def bytes_spread(claim: Claim, room: int) -> str:
    """How much artifacts differ from seed to seed, and what that means for the room that is left."""
    sizes = [one.artifact_bytes for one in claim.measurements]
    sizes += [one.artifact_bytes for one in claim.left_out if one.artifact_bytes is not None]
    if len(sizes) == 1:
        return "Only one seed was measured, so how far the bytes of seeds spread is not known."
    spread = max(sizes) - min(sizes)
    fits = "less" if spread < room else "not less"
    return (
        f"The bytes of {len(sizes)} seeds spread over {spread:,} (standard deviation {stdev(sizes):,.0f}),"
        f" which is {fits} than the room left."
    )


def left_out(claim: Claim) -> Iterator[str]:
    """Seeds that are missing from the mean."""
    if claim.left_out:
        reasons = "; ".join(f"seed {one.seed}: {one.reason}" for one in claim.left_out)
        yield f"Seeds without a feasible result, which the mean leaves out: {reasons}."


def unhashed_logs(claim: Claim) -> Iterator[str]:
    """Logs that nothing proves to be untouched."""
    seeds = [str(run.measurement.seed) for run in claim.runs if not run.log_sha256]
    if seeds:
        yield (
            f"No hash of the log was recorded as the runs of seeds {', '.join(seeds)} ended: their logs agree with what"
            " was measured, and nothing more is known."
        )
