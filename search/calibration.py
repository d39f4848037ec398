"""What cheap runs say of dear ones: the posterior of a recipe's dear score, given its proxy and the dear runs so far.

    dear_i = a + b (proxy_i - centre) + r_i,   mean of n dear runs = dear_i + noise / sqrt(n)

a is known to PRIOR_OFFSET_SD about the dear scores' mean, b to PRIOR_SLOPE_SD (a longer run of the same kind ranks
alike), and r is what the proxy does not tell of a recipe: partly its own, partly shared with similar ones, since what
misleads a proxy (a batch too small, an average too long) misleads it in all recipes that have it. How large r is and
how much of it is shared are not fitted but averaged over, by how well each choice explains the dear runs; so few of
them leave the proxy's order as it is, with honest deviations.

Everything here is a pure function of arrays. Lower scores are better; all are bits per byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Groups = Sequence[Sequence[float]]

PRIOR_SLOPE, PRIOR_SLOPE_SD = 0.8, 0.5
PRIOR_OFFSET_SD = 1.0  # bits per byte between the rungs, before any dear run: next to nothing is known
# Of a seed, where no recipe of a study ran with several: a share of how far its recipes differ, and at least so much.
# Full runs have 0.0008, H100 runs of 30 s to ten minutes 0.0007 to 0.003, which is 3 to 10 % of their recipes' spread;
# tiny CPU runs have 0.015 to 0.04, 10 to 20 % of theirs.
PRIOR_NOISE_SHARE, LEAST_PRIOR_NOISE = 0.1, 0.001
PRIOR_NOISE_WEIGHT = 1.0  # as so many pairs
NORMAL_MAD = 1.4826  # standard deviations of a normal value to its median absolute deviation
LEAST_SCORES = 5  # of which a spread says something
RESIDUALS = np.geomspace(0.05, 2.0, 12)  # size of r as a share of the proxies' spread
SHARED = (0.0, 0.4, 0.8)  # of the variance of r, with recipes that are alike
LCB_DEVIATIONS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What is known of some recipes, one place each.

    Attributes:
        proxies: mean proxy scores.
        num_proxies: runs behind each.
        dears: mean dear scores; nan where there is none yet.
        num_dears: runs behind each.
        similarity: (n, n), 1 on the diagonal, positive semidefinite.
    """

    proxies: Array
    num_proxies: Array
    dears: Array
    num_dears: Array
    similarity: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Posterior:
    """Of the mean dear score of each recipe, over seeds.

    Attributes:
        sds: standard deviations.
        slope: posterior mean of b; None where another model speaks (search.joint_promotion).
        is_calibrated: whether a dear score was there to go by; without one, means are on the scale of the proxies.
    """

    means: Array
    sds: Array
    slope: float | None = None
    is_calibrated: bool = True

    @property
    def lower_bounds(self) -> Array:
        """Scores that a recipe may well reach: what is little known gets the benefit of the doubt."""
        return self.means - LCB_DEVIATIONS * self.sds


def seed_noise(own: Groups, others: Sequence[Groups]) -> float:
    """Standard deviation of a run's score over seeds in a rung, pooled over its recipes that ran with several.

    The other rungs' is the guess that counts beside them, for which in turn recipes' spread is: noise differs less
    between the rungs of a study than between studies.

    Args:
        own: scores of the runs of each recipe in the rung.
        others: the same in each other rung of the study.
    """
    spread = max(_spread([fmean(group) for group in groups]) for groups in (own, *others))
    usual = max(PRIOR_NOISE_SHARE * spread, LEAST_PRIOR_NOISE)
    return _pooled(own, _pooled([group for groups in others for group in groups], usual))


def _pooled(groups: Groups, guess: float) -> float:
    """The guess counts as PRIOR_NOISE_WEIGHT degrees of freedom, so that two equal runs do not mean no noise."""
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    return float(np.sqrt((squares + PRIOR_NOISE_WEIGHT * guess**2) / (freedom + PRIOR_NOISE_WEIGHT)))


def _spread(scores: Sequence[float]) -> float:
    """Deviation of most scores about their middle, whatever the few disasters are; 0 for too few to know."""
    if len(scores) < LEAST_SCORES:
        return 0.0
    return NORMAL_MAD * float(np.median(np.abs(np.array(scores) - np.median(scores))))


def calibrate(scores: Scores, proxy_noise: float, dear_noise: float) -> Posterior:
    """The posterior of every recipe's dear score.

    Args:
        proxy_noise, dear_noise: standard deviation of a run over seeds.
    """
    seen = np.flatnonzero(~np.isnan(scores.dears))
    spread = max(float(np.std(scores.proxies)), dear_noise)
    fits = [
        _fit(scores, seen, float(residual) * spread, shared, proxy_noise, dear_noise)
        for residual in RESIDUALS
        for shared in SHARED
    ]
    evidence = np.array([fit.log_evidence for fit in fits])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    means = weights @ np.array([fit.means for fit in fits])
    second = weights @ np.array([fit.variances + fit.means**2 for fit in fits])
    return Posterior(
        means=means,
        sds=np.sqrt(np.maximum(second - means**2, 0.0)),
        slope=float(weights @ np.array([fit.slope for fit in fits])),
        is_calibrated=bool(len(seen)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fit:
    """The posterior under one guess of r's size and sharing."""

    means: Array
    variances: Array
    slope: float
    log_evidence: float


def _fit(
    scores: Scores, seen: NDArray[np.intp], residual: float, shared: float, proxy_noise: float, dear_noise: float
) -> _Fit:
    """Condition the joint Gaussian of all dear scores on those that were measured."""
    offset = np.mean(scores.dears[seen]) if len(seen) else np.mean(scores.proxies)
    centre = np.mean(scores.proxies[seen]) if len(seen) else np.mean(scores.proxies)
    x = scores.proxies - centre
    own = (1 - shared) * residual**2 + (PRIOR_SLOPE * proxy_noise) ** 2 / scores.num_proxies
    covariance = PRIOR_OFFSET_SD**2 + PRIOR_SLOPE_SD**2 * np.outer(x, x)
    covariance += shared * residual**2 * scores.similarity + np.diag(own)
    prior = offset + PRIOR_SLOPE * x
    if not len(seen):
        return _Fit(means=prior, variances=np.diag(covariance), slope=PRIOR_SLOPE, log_evidence=0.0)
    measured = covariance[np.ix_(seen, seen)] + np.diag(dear_noise**2 / scores.num_dears[seen])
    root = np.linalg.cholesky(measured)
    error = np.linalg.solve(root, scores.dears[seen] - prior[seen])
    gain = np.linalg.solve(root, covariance[seen])
    slope_gain = np.linalg.solve(root, PRIOR_SLOPE_SD**2 * x[seen])
    return _Fit(
        means=prior + gain.T @ error,
        variances=np.diag(covariance) - np.sum(gain**2, axis=0),
        slope=float(PRIOR_SLOPE + slope_gain @ error),
        log_evidence=float(-0.5 * error @ error - np.sum(np.log(np.diag(root)))),
    )
