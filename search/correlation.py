"""Whether a cheap rung ranks recipes as a dear one does: rank correlations, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from search.trials import TrialRow

FEWEST_RANKED = 3  # recipes below which a rank correlation says nothing
FEWEST_JUDGED = 6  # and below which its interval is so wide that it is no ground for a warning
RANKS_FROM = 0.7  # a proxy whose interval reaches below this may not rank
CONFIDENCE = 0.9
RESAMPLES = 2000
RESAMPLE_SEED = 0


def rank_correlation(low: Sequence[TrialRow], high: Sequence[TrialRow]) -> dict[str, Any]:
    """How the mean val_bpb of the recipes measured in both rungs agree, as JSON; None for fewer than three.

    Returns:
        recipes, spearman, kendall, and the ends of their bootstrap intervals over recipes: interval, kendall_interval.
    """
    low_scores, high_scores = mean_scores(low), mean_scores(high)
    shared = sorted(low_scores.keys() & high_scores.keys())
    return {"recipes": len(shared)} | correlate(
        [low_scores[key] for key in shared], [high_scores[key] for key in shared]
    )


def correlate(low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    """The same for scores of the same recipes in the same order."""
    if len(low) < FEWEST_RANKED:
        return {"spearman": None, "kendall": None, "interval": None, "kendall_interval": None}
    import numpy as np
    import scipy.stats  # takes a second, and few calls come this far

    def spearman(one: Any, other: Any, axis: int = -1) -> Any:
        ranks = [scipy.stats.rankdata(values, axis=axis) for values in (one, other)]
        first, second = (rank - rank.mean(axis=axis, keepdims=True) for rank in ranks)
        norm = np.sqrt((first**2).sum(axis=axis) * (second**2).sum(axis=axis))
        return (first * second).sum(axis=axis) / np.where(
            norm > 0, norm, 1.0
        )  # a resample of one recipe agrees nowhere

    found: Any = scipy.stats.bootstrap(
        (np.asarray(low), np.asarray(high)),
        spearman,
        paired=True,
        vectorized=True,
        method="percentile",  # the bias-corrected one has no value where the order is the same in both
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(RESAMPLE_SEED),
    )
    draws_RN = np.random.default_rng(RESAMPLE_SEED).multinomial(len(low), [1 / len(low)] * len(low), RESAMPLES)
    taus = kendall(low, high, draws_RN)
    ends, kendall_ends = found.confidence_interval, np.quantile(taus, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {
        "spearman": float(spearman(np.asarray(low), np.asarray(high))),
        "kendall": float(kendall(low, high, np.ones((1, len(low))))[0]),
        "interval": [float(ends.low), float(ends.high)],
        "kendall_interval": [float(end) for end in kendall_ends],
    }


def kendall(low: Sequence[float], high: Sequence[float], weights_RN: Any) -> Any:
    """Kendall's tau-b of each of R resamples; 0 where one has no two recipes of different scores.

    Args:
        weights_RN: how often each recipe is in a resample.
    """
    import numpy as np

    orders = [np.sign(np.subtract.outer(scores, scores)) for scores in (low, high)]
    agreeing, first, second = (
        ((weights_RN @ pairs_NN) * weights_RN).sum(axis=1)
        for pairs_NN in (orders[0] * orders[1], abs(orders[0]), abs(orders[1]))
    )
    norm = np.sqrt(first * second)
    return agreeing / np.where(norm > 0, norm, 1.0)


def mean_scores(rows: Sequence[TrialRow]) -> dict[str, float]:
    """Mean measured val_bpb by recipe over its own runs, infeasible ones included: their score ranks as well as any."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.val_bpb is not None and row.is_measured:
            scores.setdefault(row.attributes["recipe_hash"], []).append(row.val_bpb)
    return {key: sum(values) / len(values) for key, values in scores.items()}


def ranks(pair: Mapping[str, Any]) -> bool | None:
    """Whether a proxy is known to rank; None where too few recipes ran in both rungs to say."""
    if pair["recipes"] < FEWEST_JUDGED or pair["interval"] is None:
        return None
    return pair["interval"][0] >= RANKS_FROM


def describe_correlation(pair: Mapping[str, Any]) -> str:
    """A rank correlation in a few words."""
    recipes = f"({pair['recipes']} recipes in both)"
    if pair["spearman"] is None:
        return f"needs {FEWEST_RANKED} shared recipes {recipes}"
    low, high = pair["interval"]
    interval = f"{CONFIDENCE:.0%} interval {low:.2f} to {high:.2f}"
    return f"{pair['spearman']:.2f}, {interval}; Kendall {pair['kendall']:.2f} {recipes}"


def correlation_warning(pair: Mapping[str, Any]) -> str:
    """What to do about a proxy that does not rank; empty where it does, or where nobody can say yet."""
    if ranks(pair) is not False:
        return ""
    return (
        f"warning: {pair['from']} may not rank like {pair['to']}: the interval reaches below {RANKS_FROM:g}."
        f" Give {pair['from']} a longer budget under another study name; caddie calibrate finds one."
    )
