"""Bytes of a submission: the code that lies there, the weights of each seed, and what is claimed of both."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import fmean

from search.export.claim import TRACK_ARTIFACT_BYTES
from search.run import CODE_FILE
from search.verify.claims import Claim
from search.verify.files import Submission, named_seed
from search.verify.finding import Finding, Severity
from search.verify.folder import matching, read_bytes
from search.verify.log import ChallengeLog

REFUSE, REVIEW, NOTE = Severity.REFUSE, Severity.REVIEW, Severity.NOTE
WEIGHT_FILE = re.compile(
    r"(?!fineweb).*\.(?:ptz|zst|zstd|br|xz|lzma|lrz|rans)|(?:weights?|model|final_model|artifact).*\.(?:bin|ptz|z)"
)


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of a seed's weights, and the file that says so."""

    count: int
    source: str


def artifact_findings(submission: Submission) -> Iterator[Finding]:
    """The code that lies there and each seed's weights are within the limit, and are what the logs counted."""
    files = weight_files(submission)
    yield from weight_file_findings(submission, files)
    shipped = shipped_code(submission)
    largest: tuple[int, Weights] | None = None
    for seed, name in submission.log_of_seed.items():
        log = submission.logs[name]
        yield from count_findings(log, name, shipped)
        yield from tokenizer_findings(submission, name)
        weights = weights_of(submission, seed, files)
        if weights is None:
            continue
        if largest is None or weights.count > largest[1].count:
            largest = (seed, weights)
        if shipped + weights.count > TRACK_ARTIFACT_BYTES:
            message = (
                f"expected at most {TRACK_ARTIFACT_BYTES} bytes of code and weights, got {shipped + weights.count}: "
                f"{shipped} of {CODE_FILE} as it lies there and {weights.count} by {weights.source}"
            )
            yield Finding("bytes-limit", REFUSE, name, log.line("total_bytes"), message)
    if largest is not None:
        seed, weights = largest
        message = (
            f"{shipped} bytes as it lies there and {weights.count} of weights by {weights.source}, the most of "
            f"{len(submission.log_of_seed)} seeds, are {shipped + weights.count} of {TRACK_ARTIFACT_BYTES}"
        )
        yield Finding("bytes", NOTE, CODE_FILE, None, message)


def shipped_code(submission: Submission) -> int:
    """Bytes of the script that lies in the folder."""
    return (submission.folder / CODE_FILE).stat().st_size


def weight_files(submission: Submission) -> dict[str, int]:
    """Sizes of the files that look like stored weights."""
    names = [name for name in submission.names if WEIGHT_FILE.fullmatch(PurePosixPath(name).name)]
    return {name: (submission.folder / name).stat().st_size for name in names}


def weights_of(submission: Submission, seed: int, files: Mapping[str, int]) -> Weights | None:
    """A seed's weights: of its file where there is one, else as its log counted them; None where neither says."""
    logged = submission.logs[submission.log_of_seed[seed]].integer("weight_bytes")
    for name, size in files.items():
        if named_seed(name) == seed or (named_seed(name) is None and size == logged):
            return Weights(size, name)
    return None if logged is None else Weights(logged, submission.log_of_seed[seed])


def weight_file_findings(submission: Submission, files: Mapping[str, int]) -> Iterator[Finding]:
    """Shipped weights are those that a log counted."""
    logs = {seed: submission.logs[name].integer("weight_bytes") for seed, name in submission.log_of_seed.items()}
    for name, size in files.items():
        seed = named_seed(name)
        expected = [logs.get(seed)] if seed is not None else list(logs.values())
        counts = sorted({count for count in expected if count is not None})
        if counts and size not in counts:
            message = f"expected the {' or '.join(map(str, counts))} bytes of the log, got {size}"
            yield Finding("weights", REFUSE, name, None, message)


def count_findings(log: ChallengeLog, name: str, shipped: int) -> Iterator[Finding]:
    """A log counted the train_gpt.py that lies beside it, and added up right."""
    code, weights, total = (log.integer(key) for key in ("code_bytes", "weight_bytes", "total_bytes"))
    if code is None and weights is not None and total is not None:
        code = total - weights
    if code is not None and code != shipped:
        is_packed = log.integer("raw_code_bytes") == shipped
        reason = ": the log counted it compressed, which it is not where it lies" if is_packed else ""
        message = f"code_bytes: expected {shipped}, as shipped, got {code}{reason}"
        line = log.line("code_bytes") or log.line("total_bytes")
        yield Finding("bytes-code", REFUSE, name, line, message)
    if None not in (code, weights, total) and total != (code or 0) + (weights or 0):
        message = f"total_bytes: expected {code} + {weights}, got {total}"
        yield Finding("bytes-total", REFUSE, name, log.line("total_bytes"), message)


def tokenizer_findings(submission: Submission, name: str) -> Iterator[Finding]:
    """Where a log says which tokenizer counted its bytes, that one is shipped; another gives another score."""
    log, folder = submission.logs[name], submission.folder / "tokenizers"
    expected = log.text("tokenizer_sha256")
    shipped = {hashlib.sha256(read_bytes(path)).hexdigest() for path in matching(folder, "*.model")}
    if expected is not None and shipped and expected not in shipped:
        message = f"tokenizer_sha256: expected {expected}, got another in tokenizers/"
        yield Finding("tokenizer", REFUSE, name, log.line("tokenizer_sha256"), message)


def byte_claim_findings(submission: Submission) -> Iterator[Finding]:
    """Bytes in submission.json are those of the logs and of the file that lies there."""
    claims, shipped = submission.claims, shipped_code(submission)
    logs = {seed: submission.logs[name] for seed, name in submission.log_of_seed.items()}
    results = [*claims.results.items(), *claims.more_results]
    for seed, claim in [(seed, result.values.get("total_bytes")) for seed, result in results]:
        if claim is not None and seed in logs:
            yield from seed_byte_findings(submission, claim, logs[seed])
    totals = [total for log in logs.values() if (total := total_of(log, shipped)) is not None]
    for claim in claims.total_bytes if totals else ():
        yield from total_byte_findings(submission, claim, totals, weight_counts(logs))
    for claim in claims.mean_bytes if totals else ():
        if not any(abs(claim.value - fmean(counts)) <= 1 for counts in (totals, weight_counts(logs)) if counts):
            message = f"{claim.name}: expected {fmean(totals):.0f} over the seeds, got {claim.value}"
            yield submission.finding("bytes-total", REFUSE, claim.key, message)
    for claim in claims.code_bytes:
        if claim.value != shipped:
            message = f"{claim.name}: expected {shipped}, as shipped, got {claim.value}"
            yield submission.finding("bytes-code", REFUSE, claim.key, message)
    for claim in claims.model_bytes:
        raw = {log.integer("raw_weight_bytes") for log in logs.values()}
        if claim.value not in {*weight_counts(logs), *raw}:
            message = f"{claim.name}: expected one of {sorted(weight_counts(logs))} as in the logs, got {claim.value}"
            yield submission.finding("bytes-total", REFUSE, claim.key, message)


def weight_counts(logs: Mapping[int, ChallengeLog]) -> list[int]:
    """Bytes of weights as the logs have them."""
    return [count for log in logs.values() if (count := log.integer("weight_bytes")) is not None]


def total_of(log: ChallengeLog, shipped: int) -> int | None:
    """What a log counted in all; where it does not say, its weights and the code that lies there."""
    weights = log.integer("weight_bytes")
    total = log.integer("total_bytes")
    return total if total is not None or weights is None else weights + shipped


def seed_byte_findings(submission: Submission, claim: Claim, log: ChallengeLog) -> Iterator[Finding]:
    """A seed's artifact has the bytes that its log counted."""
    shipped, weights = shipped_code(submission), log.integer("weight_bytes")
    total = total_of(log, shipped)
    if claim.value in {total, None if weights is None else weights + shipped}:
        return
    is_part = claim.value == weights
    message = f"{claim.name}: expected {total} as in the log, got {claim.value}{', the weights alone' * is_part}"
    yield submission.finding("bytes-total", REVIEW if is_part else REFUSE, claim.key, message)


def total_byte_findings(
    submission: Submission, claim: Claim, totals: list[int], weights: list[int]
) -> Iterator[Finding]:
    """The bytes claimed are those of the largest seed; those of another, a mean or weights alone are for a reviewer."""
    if claim.value == max(totals):
        return
    is_other = claim.value in {*totals, *weights} or abs(claim.value - fmean(totals)) < 1
    message = f"{claim.name}: expected {max(totals)}, the largest of the logs, got {claim.value}"
    yield submission.finding("bytes-total", REVIEW if is_other else REFUSE, claim.key, message)
