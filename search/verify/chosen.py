"""Which of the scores that a log prints is the one that a submission claims."""

from collections.abc import Mapping
from statistics import fmean

from search.verify.files import Submission
from search.verify.log import ChallengeLog
from search.verify.number import Shown, agrees, agrees_with_mean
from search.verify.score_line import ScoreLine


def chosen_scores(submission: Submission) -> dict[int, ScoreLine]:
    """The claimed score of each seed's log: the one whose number is claimed, else the last of stored weights."""
    logs = {seed: submission.logs[name] for seed, name in submission.log_of_seed.items()}
    label = claimed_label(submission, logs)
    chosen: dict[int, ScoreLine] = {}
    for seed, log in logs.items():
        result = submission.claims.results.get(seed)
        claimed = result.number("val_bpb") if result else None
        scores = [score for score in reversed(log.stored_scores) if score.val_bpb is not None]
        fitting = [score for score in scores if claimed is not None and agrees(claimed, bpb_of(score))]
        fitting += [score for score in scores if claimed is None and score.label == label]
        chosen[seed] = (fitting or list(reversed(log.stored_scores)))[0]
    return chosen


def claimed_label(submission: Submission, logs: Mapping[int, ChallengeLog]) -> str | None:
    """The label whose scores give the claimed total, as their mean or as one of them."""
    claim = submission.claims.val_bpb
    labels = [score.label for score in reversed(next(iter(logs.values())).stored_scores)]
    if claim is None:
        return None
    by_label = {label: terms for label in labels if len(terms := terms_of(logs, label)) == len(logs)}
    for label, terms in by_label.items():
        if agrees_with_mean(claim.value, fmean(terms)):
            return label
    return next((label for label, terms in by_label.items() if any(agrees(claim.value, one) for one in terms)), None)


def terms_of(logs: Mapping[int, ChallengeLog], label: str) -> list[Shown]:
    """What the logs print under a label."""
    scores = [score for log in logs.values() for score in log.stored_scores if score.label == label]
    return [score.val_bpb for score in scores if score.val_bpb is not None]


def bpb_of(score: ScoreLine) -> float:
    """A score as a number; no number agrees with a missing one."""
    return float("nan") if score.val_bpb is None else score.val_bpb
