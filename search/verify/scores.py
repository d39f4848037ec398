"""Whether submission.json, the logs and the shipped bytes say the same, and keep the challenge's limits."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from search.verify.artifact import artifact_findings, byte_claim_findings
from search.verify.chosen import chosen_scores
from search.verify.claims import Claim, SeedClaims
from search.verify.files import Submission
from search.verify.finding import Finding, Severity
from search.verify.folder import read_text
from search.verify.log import EXPECTED, NEEDED, ChallengeLog
from search.verify.number import Shown, agrees, agrees_with_deviation, agrees_with_mean, deviations, unit
from search.verify.score_line import ScoreLine
from search.verify.times import compliance_findings, step_findings, time_findings

REFUSE, REVIEW, NOTE = Severity.REFUSE, Severity.REVIEW, Severity.NOTE
# Targets of the frozen validation split by published tokenizer; some loaders drop the incomplete last window.
VALIDATION_TOKENS = (62_021_846, 50_905_088, 45_508_608, 40_540_160, 47_853_343)
WINDOW_TOKENS = 4_096
DEVIATION_TOLERANCE = 0.05
HAND_ROUNDED = 1e-6  # no program prints fewer decimals of a deviation


def score_findings(submission: Submission) -> list[Finding]:
    """Every check of numbers."""
    by_seed = submission.log_of_seed
    found = [*seed_findings(submission, by_seed), *other_log_findings(submission, by_seed)]
    for seed, name in by_seed.items():
        found += log_findings(submission, name, seed)
    found += artifact_findings(submission)
    if any(finding.severity is REFUSE and finding.rule in {"logs", "log-lines"} for finding in found) or not by_seed:
        return found  # what is claimed cannot be compared with all logs
    chosen = chosen_scores(submission)
    found += time_findings(submission, chosen)
    found += step_findings(submission)
    found += byte_claim_findings(submission)
    results = [*submission.claims.results.items(), *submission.claims.more_results]
    for seed, result in results:
        if seed in by_seed:
            found += result_findings(submission, seed, result)
    found += label_findings(submission, chosen)
    found += total_findings(submission, chosen)
    found += compliance_findings(submission, chosen)
    found += readme_findings(submission)
    return found


def seed_findings(submission: Submission, by_seed: Mapping[int, str]) -> Iterator[Finding]:
    """Seeds are claimed once, and each has a log and a result."""
    claims = submission.claims
    seeds = list(claims.seeds) if claims.has_seeds else list(by_seed)
    if not seeds:
        yield submission.finding("seeds", REFUSE, claims.seed_key, "expected at least one seed, got none")
    if len(set(seeds)) != len(seeds):
        yield submission.finding("seeds", REFUSE, claims.seed_key, f"expected every seed once, got {seeds}")
    if "seed_results" in submission.values and set(claims.results) != set(seeds):
        message = f"expected a result for each of the seeds {seeds}, got {sorted(claims.results)}"
        yield submission.finding("seeds", REFUSE, "seed_results", message)
    for seed in seeds:
        if seed not in by_seed:
            yield Finding("logs", REFUSE, f"train_seed{seed}.log", None, f"expected the log of seed {seed}, got none")
    for seed, name in by_seed.items():
        if seed not in seeds:
            yield Finding("logs", REVIEW, name, None, f"expected logs of the seeds {seeds} only, got one of {seed}")
    if len(set(seeds)) < 3:
        message = f"expected three seeds for a record, got {len(set(seeds))}"
        yield submission.finding("seeds", REVIEW if submission.is_record else NOTE, claims.seed_key, message)


def other_log_findings(submission: Submission, by_seed: Mapping[int, str]) -> Iterator[Finding]:
    """Logs that no number is taken from."""
    for name in submission.logs:
        if name not in by_seed.values():
            seed = submission.logs[name].integer("seed")
            used = by_seed.get(seed) if seed is not None else None
            message = f"expected one log a seed, got another of seed {seed}; {used} is the one compared"
            if used is None:
                message = "expected a log that says its seed, got none in it or in its name"
            yield Finding("logs", NOTE if used else REVIEW, name, None, message)


def log_findings(submission: Submission, name: str, seed: int) -> Iterator[Finding]:
    """A log has the lines a reviewer needs, and is of its seed and of the whole validation split."""
    log = submission.logs[name]
    needed = NEEDED if submission.is_record else NEEDED[:2]
    missing = set(log.missing((*NEEDED, *EXPECTED)))
    if log.stored_scores and log.stored_scores[-1].val_bpb is None:
        missing.add("val_bpb")  # the log says nan
    for severity, names in ((REFUSE, needed), (REVIEW, (*NEEDED[len(needed) :], *EXPECTED))):
        if lacking := [one for one in names if one in missing]:
            yield Finding("log-lines", severity, name, None, f"expected the values {', '.join(lacking)}, got none")
    logged = log.integer("seed")
    if logged is not None and logged != seed:
        yield at(log, "seed", name, "logs", f"expected seed {seed}, got {logged}")
    tokens = log.integer("val_tokens")
    if tokens is not None and not any(0 <= full - tokens <= WINDOW_TOKENS for full in VALIDATION_TOKENS):
        message = f"expected the whole frozen validation split, got {tokens} tokens"
        yield at(log, "val_tokens", name, "validation-split", message, REVIEW)


def at(log: ChallengeLog, key: str, name: str, rule: str, message: str, severity: Severity = REFUSE) -> Finding:
    """A finding at the line of a log that says something."""
    return Finding(rule, severity, name, log.line(key), f"{key}: {message}")


def result_findings(submission: Submission, seed: int, result: SeedClaims) -> Iterator[Finding]:
    """A seed's score in submission.json is one that its log prints of stored weights."""
    name = submission.log_of_seed[seed]
    scores = submission.logs[name].scores
    for key in ("val_bpb", "val_loss"):
        claim = result.values.get(key)
        if claim is None or any(matches(score, key, claim.value) for score in scores if score.is_stored):
            continue
        if key == "val_loss" and not any(score.val_loss is not None for score in scores if score.is_stored):
            message = f"{claim.name}: expected a val_loss in {name} to compare with, got none"
            yield submission.finding("score", REVIEW, claim.key, message)
            continue
        yield submission.finding("score", REFUSE, claim.key, mismatch(claim, key, scores, name))


def matches(score: ScoreLine, key: str, value: float) -> bool:
    """Whether a claimed number is that of a log's line."""
    logged = score.val_bpb if key == "val_bpb" else score.val_loss
    return logged is not None and agrees(value, logged)


def mismatch(claim: Claim, key: str, scores: Sequence[ScoreLine], name: str) -> str:
    """What a log has instead of a claimed number."""
    unstored = next((one for one in scores if not one.is_stored and matches(one, key, claim.value)), None)
    last = [one for one in scores if one.is_stored][-1]
    expected = last.bpb_text if key == "val_bpb" else last.loss_text
    reason = f", that of {unstored.label}, which is not the stored model" if unstored else ""
    return f"{claim.name}: expected {expected} as in {name}, got {claim.value}{reason}"


def label_findings(submission: Submission, chosen: Mapping[int, ScoreLine]) -> Iterator[Finding]:
    """The score that is claimed is the one that the log ends with; another one needs a reason."""
    for seed, score in chosen.items():
        name = submission.log_of_seed[seed]
        last = submission.logs[name].stored_scores[-1]
        if score.label != last.label and last.val_bpb is not None and score.val_bpb != last.val_bpb:
            message = f"expected {last.bpb_text} of {last.label}, the last score, claimed; got that of {score.label}"
            yield Finding("score", REVIEW, name, score.line, message)


def total_findings(submission: Submission, chosen: Mapping[int, ScoreLine]) -> Iterator[Finding]:
    """Means and deviations over all seeds are those of the logs."""
    claims = submission.claims
    for key in ("val_bpb", "val_loss"):
        lists = score_lists(submission, chosen, key)
        for claim in claims.scores[key]:
            if not any(agrees_with_mean(claim.value, fmean(terms)) for terms in lists):
                yield from single_findings(submission, claim, lists)
        spreads = [spread for terms in lists for spread in deviations(terms)]
        for name in ("val_bpb", "val_loss"):
            for claim in claims.deviations[name] if name == key else ():
                if not any(agrees_with_deviation(claim.value, spread) for spread in spreads):
                    yield deviation_finding(submission, claim, spreads)


def deviation_finding(submission: Submission, claim: Claim, spreads: Sequence[float]) -> Finding:
    """A deviation that is none of the logs'; one that was rounded by hand and is nearly right is for a reviewer."""
    is_near = any(abs(claim.value - spread) <= DEVIATION_TOLERANCE * spread for spread in spreads)
    severity = REVIEW if is_near and unit(claim.value) >= HAND_ROUNDED else REFUSE
    message = f"{claim.name}: expected {spreads[0] if spreads else None} over the seeds, got {claim.value}"
    return submission.finding("score", severity, claim.key, message)


def single_findings(submission: Submission, claim: Claim, lists: Sequence[Sequence[float]]) -> Iterator[Finding]:
    """What to say of a total that is not the mean over the seeds."""
    if not lists:
        yield submission.finding("score", REVIEW, claim.key, f"{claim.name}: expected it in the logs, got none there")
        return
    mean = fmean(lists[0])
    message = f"{claim.name}: expected {mean} over the seeds, got {claim.value}"
    is_one = any(agrees(claim.value, term) for terms in lists for term in terms)
    if is_one and len(submission.claims.seeds) <= 1:
        yield submission.finding("score", REVIEW, claim.key, f"{message}, that of one of them")
    else:
        yield submission.finding("score", REFUSE, claim.key, message)


def score_lists(submission: Submission, chosen: Mapping[int, ScoreLine], key: str) -> list[list[float]]:
    """The seeds' scores: as submission.json has them, which may be exact, and as their logs do."""
    results = [submission.claims.results.get(seed) for seed in chosen]
    claimed = [one.number(key) for one in results if one is not None]
    logged: list[Shown | None] = [one.val_bpb if key == "val_bpb" else one.val_loss for one in chosen.values()]
    found: list[list[float]] = []
    for terms in (claimed, logged):
        present = [term for term in terms if term is not None]
        if terms and len(present) == len(chosen):
            found.append(present)
    return found


def readme_findings(submission: Submission) -> Iterator[Finding]:
    """The README names the score that submission.json claims."""
    claim = submission.claims.val_bpb
    score = f"{claim.value:.4f}" if claim else ""
    if score not in read_text(submission.folder / "README.md"):
        yield Finding("readme", REVIEW, "README.md", None, f"expected the score {score} in it, got none")
