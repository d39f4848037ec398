"""Whether submission.json, the logs and the shipped bytes say the same, and keep the challenge's limits."""

import hashlib
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from search.claim import RECORD_TRACK, TRACK_ARTIFACT_BYTES, TRACK_SECONDS, deviation
from search.run import CODE_FILE
from search.verify.files import Submission
from search.verify.finding import Finding, Severity
from search.verify.folder import matching, read_bytes, read_text
from search.verify.log import EXPECTED, NEEDED, ChallengeLog

REFUSE, REVIEW, NOTE = Severity.REFUSE, Severity.REVIEW, Severity.NOTE
LOG_DIGITS = 8  # of the exact score lines
# Targets of the frozen validation split by published tokenizer; some loaders drop the incomplete last window.
VALIDATION_TOKENS = (62_021_846, 50_905_088, 45_508_608, 40_540_160, 47_853_343)
WINDOW_TOKENS = 4_096


def score_findings(submission: Submission) -> list[Finding]:
    """Every check of numbers."""
    by_seed = submission.log_of_seed
    found = list(seed_findings(submission, by_seed))
    for seed, name in by_seed.items():
        found += log_findings(submission, name, seed)
        found += tokenizer_findings(submission, name)
    if any(finding.severity is REFUSE for finding in found):
        return found
    results: Mapping[str, Any] = submission.values.get("seed_results", {})
    for seed, name in by_seed.items():
        found += seed_score_findings(submission, name, results.get(str(seed), {}))
    found += total_findings(submission, list(by_seed.values()))
    found += compliance_findings(submission, list(by_seed.values()))
    found += readme_findings(submission)
    return found


def seed_findings(submission: Submission, by_seed: Mapping[int, str]) -> Iterator[Finding]:
    """Seeds are claimed once, and each has a log and a result."""
    seeds: list[int] = submission.values.get("seeds", list(by_seed))
    results: Mapping[str, Any] = submission.values.get("seed_results", {})
    if not seeds:
        yield submission.finding("seeds", REFUSE, "seeds", "expected at least one seed, got none")
    if len(set(seeds)) != len(seeds):
        yield submission.finding("seeds", REFUSE, "seeds", f"expected every seed once, got {seeds}")
    if "seed_results" in submission.values and set(results) != {str(seed) for seed in seeds}:
        message = f"expected a result for each of the seeds {seeds}, got {sorted(results)}"
        yield submission.finding("seeds", REFUSE, "seed_results", message)
    for seed in seeds:
        if seed not in by_seed:
            yield Finding("logs", REFUSE, f"train_seed{seed}.log", None, f"expected the log of seed {seed}, got none")
    for seed, name in by_seed.items():
        if seed not in seeds:
            yield Finding("logs", REVIEW, name, None, f"expected logs of the seeds {seeds} only, got one of {seed}")
    if len(set(seeds)) < 3:
        is_record = submission.values.get("track") == RECORD_TRACK
        message = f"expected three seeds for a record, got {len(set(seeds))}"
        yield submission.finding("seeds", REVIEW if is_record else NOTE, "seeds", message)


def log_findings(submission: Submission, name: str, seed: int) -> Iterator[Finding]:
    """A log has the lines a reviewer needs, is of its seed, and counted the train_gpt.py that lies beside it."""
    log = submission.logs[name]
    for severity, names in ((REFUSE, NEEDED), (REVIEW, EXPECTED)):
        if missing := log.missing(names):
            yield Finding("log-lines", severity, name, None, f"expected the values {', '.join(missing)}, got none")
    if log.missing(NEEDED):
        return
    if log.integer("seed") != seed:
        yield _at(log, "seed", name, "logs", f"expected seed {seed}, got {log.text('seed')}")
    shipped = (submission.folder / CODE_FILE).stat().st_size
    code, weights, total = (log.integer(key) or 0 for key in ("code_bytes", "weight_bytes", "total_bytes"))
    if code != shipped:
        yield _at(log, "code_bytes", name, "bytes-code", f"expected {shipped}, as shipped, got {code}")
    if total != code + weights:
        yield _at(log, "total_bytes", name, "bytes-total", f"expected {code} + {weights}, got {total}")
    if shipped + weights > TRACK_ARTIFACT_BYTES:
        message = f"expected at most {TRACK_ARTIFACT_BYTES} bytes of code and weights, got {shipped + weights}"
        yield _at(log, "total_bytes", name, "bytes-limit", message)
    shipped_weights = submission.folder / f"weights_seed{seed}.bin"
    if shipped_weights.is_file() and shipped_weights.stat().st_size != weights:
        message = f"expected the {weights} bytes of the log, got {shipped_weights.stat().st_size}"
        yield Finding("weights", REFUSE, shipped_weights.name, None, message)
    tokens = log.integer("val_tokens")
    if tokens is not None and not any(0 <= full - tokens <= WINDOW_TOKENS for full in VALIDATION_TOKENS):
        message = f"expected the whole frozen validation split, got {tokens} tokens"
        yield _at(log, "val_tokens", name, "validation-split", message, REVIEW)


def tokenizer_findings(submission: Submission, name: str) -> Iterator[Finding]:
    """Where a log says which tokenizer counted its bytes, that one is shipped; another gives another score."""
    log, folder = submission.logs[name], submission.folder / "tokenizers"
    expected = log.text("tokenizer_sha256")
    shipped = {hashlib.sha256(read_bytes(path)).hexdigest() for path in matching(folder, "*.model")}
    if expected is not None and shipped and expected not in shipped:
        yield _at(log, "tokenizer_sha256", name, "tokenizer", f"expected {expected}, got another in tokenizers/")


def _at(log: ChallengeLog, key: str, name: str, rule: str, message: str, severity: Severity = REFUSE) -> Finding:
    return Finding(rule, severity, name, log.line(key), f"{key}: {message}")


def seed_score_findings(submission: Submission, name: str, result: Mapping[str, Any]) -> Iterator[Finding]:
    """A seed's result in submission.json is what its log says."""
    log = submission.logs[name]
    for key in ("val_bpb", "val_loss"):
        if key in result and f"{result[key]:.{LOG_DIGITS}f}" != log.text(key):
            message = f"{key}: expected {log.text(key)} as in {name}, got {result[key]}"
            yield submission.finding("score", REFUSE, "seed_results", message)
    total = log.integer("total_bytes")
    if result.get("artifact_bytes", total) != total:
        message = f"artifact_bytes: expected {total} as in {name}, got {result['artifact_bytes']}"
        yield submission.finding("bytes-total", REFUSE, "seed_results", message)
    is_record = submission.values.get("track") == RECORD_TRACK
    for key, log_key in (("train_time_s", "train_ms"), ("eval_time_s", "eval_ms")):
        logged = (log.integer(log_key) or 0) / 1000
        seconds = result.get(key, logged)
        if seconds < logged - 0.001:  # logs round to milliseconds
            message = f"{key}: expected at least the {logged} s of {name}, got {seconds}"
            yield submission.finding("time", REFUSE, "seed_results", message)
        if max(seconds, logged) > TRACK_SECONDS:
            message = f"{key}: expected at most {TRACK_SECONDS:.0f} s, got {max(seconds, logged):.1f}"
            yield submission.finding("time-limit", REFUSE if is_record else NOTE, "seed_results", message)


def total_findings(submission: Submission, names: list[str]) -> Iterator[Finding]:
    """Means, deviations and byte counts over all seeds are those of the logs."""
    values, logs = submission.values, [submission.logs[name] for name in names]
    for key in ("val_bpb", "val_loss"):
        scores = exact_scores(submission, logs, key)
        spread = deviation(scores)
        for name, expected in ((key, fmean(scores)), (f"{key}_std", spread)):
            if name in values and not _agrees(values[name], expected):
                message = f"{name}: expected {expected} over the seeds, got {values[name]}"
                yield submission.finding("score", REFUSE, name, message)
    largest = max(log.integer("total_bytes") or 0 for log in logs)
    if values["bytes_total"] != largest:
        message = f"bytes_total: expected {largest}, the largest of the logs, got {values['bytes_total']}"
        yield submission.finding("bytes-total", REFUSE, "bytes_total", message)
    shipped = (submission.folder / CODE_FILE).stat().st_size
    if values.get("bytes_code", shipped) != shipped:
        message = f"bytes_code: expected {shipped}, as shipped, got {values['bytes_code']}"
        yield submission.finding("bytes-code", REFUSE, "bytes_code", message)


def exact_scores(submission: Submission, logs: list[ChallengeLog], key: str) -> list[float]:
    """Scores of the seeds at full precision where submission.json has them, else as logged."""
    results: Mapping[str, Any] = submission.values.get("seed_results", {})
    logged = {log.text("seed") or "": log.decimal(key) or 0.0 for log in logs}
    return [results.get(seed, {}).get(key, score) for seed, score in logged.items()]


def _agrees(value: float | None, expected: float | None) -> bool:
    if value is None or expected is None:
        return value is expected
    return abs(value - expected) < 10**-LOG_DIGITS


def compliance_findings(submission: Submission, names: list[str]) -> Iterator[Finding]:
    """What the compliance list says of times, bytes and seeds is so."""
    results = list(submission.values.get("seed_results", {}).values())
    logs = [submission.logs[name] for name in names]
    facts = {
        "artifact_under_16mb": all((log.integer("total_bytes") or 0) <= TRACK_ARTIFACT_BYTES for log in logs),
        "three_seeds": len(logs) >= 3,
        "train_under_600s": all(result.get("train_time_s", 0) <= TRACK_SECONDS for result in results)
        and all((log.integer("train_ms") or 0) <= 1000 * TRACK_SECONDS for log in logs),
        "eval_under_600s": all(result.get("eval_time_s", 0) <= TRACK_SECONDS for result in results)
        and all((log.integer("eval_ms") or 0) <= 1000 * TRACK_SECONDS for log in logs),
    }
    claimed: Mapping[str, Any] = submission.values.get("compliance", {})
    for key, is_so in facts.items():
        if claimed.get(key, False) and not is_so:
            yield submission.finding("compliance", REFUSE, key, f"{key}: expected false by the logs, got true")
    for key, value in claimed.items():
        if value is False and key not in facts:
            yield submission.finding("compliance", REVIEW, key, f"{key}: expected true, got false")


def readme_findings(submission: Submission) -> Iterator[Finding]:
    """The README names the score that submission.json claims."""
    score = f"{submission.values['val_bpb']:.4f}"
    if score not in read_text(submission.folder / "README.md"):
        yield Finding("readme", REVIEW, "README.md", None, f"expected the score {score} in it, got none")
