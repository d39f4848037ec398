"""Seconds and steps of a submission's runs: within the limits of its track, and as its logs have them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.export.claim import TRACK_ARTIFACT_BYTES, TRACK_SECONDS
from search.verify.artifact import shipped_code, total_of
from search.verify.claims import Claim, SeedClaims
from search.verify.files import Submission
from search.verify.finding import Finding, Severity
from search.verify.log import ChallengeLog
from search.verify.number import agrees, unit
from search.verify.score_line import ScoreLine

REFUSE, REVIEW, NOTE = Severity.REFUSE, Severity.REVIEW, Severity.NOTE
LOG_SECONDS = 0.001  # logs round to milliseconds
STEPS_OVER = 2  # the challenge's loop looks at its clock after a step, and measures once more after that
SAME_DIGITS = 4  # that the roundest lines of logs have
STEP_TOLERANCE = 0.05  # some count warm-up or validation in
# What a list of compliance calls each fact.
FACTS = {
    "artifact": ("artifact_under_16mb", "artifact_under_16MB", "size_under_16mb"),
    "train": ("train_under_600s", "training_under_600s", "train_under_10min"),
    "eval": ("eval_under_600s", "evaluation_under_600s", "eval_under_10min"),
    "seeds": ("three_seeds", "3_seeds"),
}


def train_seconds(log: ChallengeLog) -> float:
    """How long a log says that training took."""
    return (log.integer("train_ms") or 0) / 1000


def eval_seconds(log: ChallengeLog, score: ScoreLine) -> float:
    """How long a log says that evaluation took, the claimed score and what came before it; 0 if it does not say."""
    return max(score_seconds(log, score), log.decimal("total_eval_seconds") or 0.0)


def score_seconds(log: ChallengeLog, score: ScoreLine) -> float:
    """How long the claimed score alone took to compute, under any name; 0 if the log does not say."""
    same = [one for one in log.stored_scores if score.val_bpb is not None and is_same(one, score.val_bpb)]
    return max([one.eval_seconds or 0.0 for one in (score, *same)])


def is_same(score: ScoreLine, val_bpb: float) -> bool:
    """Whether a score is a number, as far as it shows."""
    return score.val_bpb is not None and agrees(score.val_bpb, val_bpb)


def all_eval_seconds(log: ChallengeLog) -> float:
    """How long all scores of stored weights took; those that are one number took their time once."""
    times: dict[float, float] = {}
    for score in log.stored_scores:
        key = round(score.val_bpb, SAME_DIGITS) if score.val_bpb is not None else float("nan")
        times[key] = max(times.get(key, 0.0), score.eval_seconds or 0.0)
    return sum(times.values())


def overshoot(log: ChallengeLog) -> float:
    """Seconds that training may end late: the loop stops after the step that reaches the limit."""
    steps, step_ms = log.integer("steps"), log.decimal("step_avg_ms")
    if step_ms is None:
        step_ms = 1000 * train_seconds(log) / steps if steps else 0.0
    return STEPS_OVER * step_ms / 1000


def time_findings(submission: Submission, chosen: Mapping[int, ScoreLine]) -> Iterator[Finding]:
    """Times claimed are not below those of the logs, and all are within the limits of the record track."""
    for seed, score in chosen.items():
        name = submission.log_of_seed[seed]
        log = submission.logs[name]
        if not eval_seconds(log, score):
            message = f"expected the values eval_ms of {score.label}, got none"
            yield Finding("log-lines", REFUSE if submission.is_record else REVIEW, name, score.line, message)
        result = submission.claims.results.get(seed) or submission.claims.whole
        for kind, logged, spare in (
            ("train_seconds", train_seconds(log), overshoot(log)),
            ("eval_seconds", eval_seconds(log, score), 0.0),
        ):
            claim = result.values.get(kind)
            seconds = max(logged, claim.value if claim else 0.0)
            if seconds > TRACK_SECONDS:
                is_late = submission.is_record and seconds > TRACK_SECONDS + spare
                is_claimed = claim is not None and claim.value > logged
                message = f"{kind}: expected at most {TRACK_SECONDS:.0f} s, got {seconds:.3f}"
                yield limit_finding(submission, name, message, claim if is_claimed else None, is_late=is_late)
        together = all_eval_seconds(log)
        if submission.is_record and together > TRACK_SECONDS >= eval_seconds(log, score):
            message = (
                f"expected at most {TRACK_SECONDS:.0f} s of evaluation, got {together:.1f} for all scores together"
            )
            yield Finding("time-limit", REVIEW, name, score.line, message)
    yield from claimed_time_findings(submission, chosen)


def limit_finding(submission: Submission, name: str, message: str, claim: Claim | None, *, is_late: bool) -> Finding:
    """A time over the limit, where it is claimed or else logged."""
    severity = REFUSE if is_late else NOTE
    if claim is not None:
        return submission.finding("time-limit", severity, claim.key, f"{claim.name}: {message}")
    return Finding("time-limit", severity, name, submission.logs[name].line("train_ms"), message)


def claimed_time_findings(submission: Submission, chosen: Mapping[int, ScoreLine]) -> Iterator[Finding]:
    """No time in submission.json is shorter than the log's."""
    logged: dict[int, dict[str, float]] = {}
    for seed, score in chosen.items():
        log = submission.logs[submission.log_of_seed[seed]]
        logged[seed] = {"train_seconds": train_seconds(log), "eval_seconds": score_seconds(log, score)}
    for kind in ("train_seconds", "eval_seconds"):
        least = min(times[kind] for times in logged.values())
        pairs = [(claim, least) for claim in [submission.claims.whole.values.get(kind)] if claim]
        for seed, result in [*submission.claims.results.items(), *submission.claims.more_results]:
            if seed in logged and kind in result.values:
                pairs.append((result.values[kind], logged[seed][kind]))
        for claim, seconds in pairs:
            if claim.value < seconds - max(unit(claim.value), LOG_SECONDS):
                message = f"{claim.name}: expected at least the {seconds} s of the log, got {claim.value}"
                yield submission.finding("time", REFUSE, claim.key, message)


def step_findings(submission: Submission) -> Iterator[Finding]:
    """Steps and milliseconds a step are those of the logs."""
    logs = {seed: submission.logs[name] for seed, name in submission.log_of_seed.items()}
    places: list[tuple[SeedClaims, Sequence[ChallengeLog]]] = [(submission.claims.whole, list(logs.values()))]
    for seed, result in [*submission.claims.results.items(), *submission.claims.more_results]:
        if seed in logs:
            places.append((result, [logs[seed]]))
    for claims, among in places:
        yield from step_count_findings(submission, claims.values.get("steps"), among)
        yield from step_time_findings(submission, claims.values.get("step_avg_ms"), among)


def step_count_findings(submission: Submission, claim: Claim | None, logs: Sequence[ChallengeLog]) -> Iterator[Finding]:
    """A number of steps lies among those of the logs."""
    counts = [count for log in logs if (count := log.integer("steps")) is not None]
    if claim is not None and counts and not min(counts) <= claim.value <= max(counts):
        message = f"{claim.name}: expected {counts[0]} as in the log, got {claim.value}"
        yield submission.finding("steps", REFUSE, claim.key, message)


def step_time_findings(submission: Submission, claim: Claim | None, logs: Sequence[ChallengeLog]) -> Iterator[Finding]:
    """A time a step is about that of a log, of training alone or with what its last line counts in."""
    names = ("step_avg_ms", "train_step_avg_ms")
    times = [time for log in logs for name in names if (time := log.decimal(name)) is not None]
    times += [1000 * train_seconds(log) / steps for log in logs if (steps := log.integer("steps"))]
    times = [time for time in times if time > 0]
    if claim is not None and times and not any(abs(claim.value / time - 1) <= STEP_TOLERANCE for time in times):
        message = f"{claim.name}: expected about {times[0]:.2f} as in the log, got {claim.value}"
        yield submission.finding("steps", REFUSE, claim.key, message)


def compliance_findings(submission: Submission, chosen: Mapping[int, ScoreLine]) -> Iterator[Finding]:
    """What the compliance list says of times, bytes and seeds is so."""
    claimed = submission.values.get("compliance", {})
    if not isinstance(claimed, Mapping):
        return
    facts = facts_of(submission, chosen)
    names = {name: facts[fact] for fact, keys in FACTS.items() for name in keys}
    for key, value in claimed.items():
        if value is True and names.get(key) is False:
            yield submission.finding("compliance", REFUSE, key, f"{key}: expected false by the logs, got true")
        elif value is False and is_promise(key):
            yield submission.finding("compliance", REVIEW, key, f"{key}: expected true, got false")


def is_promise(key: Any) -> bool:
    """Whether a point of a compliance list says that a rule is kept, other than those the logs tell of."""
    return isinstance(key, str) and (key.startswith("no_") or key == "score_first_ttt")


def facts_of(submission: Submission, chosen: Mapping[int, ScoreLine]) -> dict[str, bool]:
    """Whether limits are kept, by the logs and by what is claimed."""
    logs = {seed: submission.logs[submission.log_of_seed[seed]] for seed in chosen}
    shipped, claims = shipped_code(submission), submission.claims

    def slowest(kind: str) -> float:
        return max((result.number(kind) or 0.0 for result in (*claims.results.values(), claims.whole)), default=0.0)

    return {
        "artifact": all((total_of(log, shipped) or 0) <= TRACK_ARTIFACT_BYTES for log in logs.values()),
        "seeds": len(logs) >= 3,
        "train": all(
            max(train_seconds(log), slowest("train_seconds")) <= TRACK_SECONDS + overshoot(log) for log in logs.values()
        ),
        "eval": all(
            max(eval_seconds(logs[seed], score), slowest("eval_seconds")) <= TRACK_SECONDS
            for seed, score in chosen.items()
        ),
    }
