"""Which recipe of a rung is most likely the best one, given noise: not the luckiest single run.

Recipes' true means are taken as normal about their own mean, and runs as normal about the recipe's; so a recipe's mean
is drawn towards all others', the more so the fewer seeds it has and the noisier they are. The chance to be the best is
counted in draws from that posterior, with a fixed seed. In a draw in which a further seed of a recipe is over the limit
of bytes, that recipe cannot be the best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.calibration import NORMAL_MAD, Array, seed_noise
from search.seed_bytes import Scatter, fitting_draws, scatter_of, seed_bytes
from search.trials import TrialRow, TrialStatus

ENDED = frozenset({TrialStatus.FEASIBLE, TrialStatus.INFEASIBLE, TrialStatus.FAILED, TrialStatus.STOPPED})
DRAWS = 20_000
DRAW_SEED = 0
LAST = 1e6  # bits per byte, more than any score
FAR_OUT = 3.0  # standard deviations
LEAST_BETWEEN = 0.1  # of the noise's variance, between recipes: none are exactly alike


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What recipes of a rung are compared by, beside its runs.

    Attributes:
        seeds: that each recipe would have to run with in this rung.
        artifact_bytes: the limit that each of these runs has to keep.
        other_rungs: trials of the study's other rungs, which tell what seeds do.
    """

    seeds: Sequence[int]
    artifact_bytes: int
    other_rungs: Sequence[Sequence[TrialRow]]


def terms_of(rung: str, rows_of: Mapping[str, Sequence[TrialRow]], seeds: Sequence[int], artifact_bytes: int) -> Terms:
    """The terms of a rung of a study.

    Args:
        rows_of: trials by rung.
        seeds: of the rung.
        artifact_bytes: the study's limit.
    """
    others = [rows for name, rows in rows_of.items() if name != rung]
    return Terms(seeds=seeds, artifact_bytes=artifact_bytes, other_rungs=others)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A recipe of a rung.

    Attributes:
        row: its best feasible run.
        seeds: feasible runs of it.
        mean: of the posterior of its val_bpb over seeds.
        standard_error: deviation of that posterior.
        probability: to be the best of the rung's recipes, or one of the best that were asked for.
        fits: probability that the seeds it has not run with keep the limit of bytes too.
    """

    row: TrialRow
    seeds: int
    mean: float
    standard_error: float
    probability: float
    fits: float

    def facts(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "trial": self.row.number,
            "seeds": self.seeds,
            "val_bpb": self.mean,
            "standard_error": self.standard_error,
            "probability": self.probability,
            "fits": self.fits,
        }


def standings(rows: Sequence[TrialRow], terms: Terms, among: int = 1) -> list[Standing]:
    """The feasible recipes of a rung, the likeliest best one first.

    One seed over a limit, or that came to nothing, bars a recipe while others have none such: who submits it would have
    to hope for the seed.

    Args:
        among: how many of the recipes count as the best.
    """
    runs = _runs_by_recipe(rows)
    feasible = {key: [row for row in group if row.status is TrialStatus.FEASIBLE] for key, group in runs.items()}
    feasible = {key: group for key, group in feasible.items() if group}
    whole = {key: group for key, group in feasible.items() if len(group) == len(runs[key])}
    groups = list((whole or feasible).values())
    if not groups:
        return []
    noise = seed_noise(scores_by_recipe(rows), [scores_by_recipe(others) for others in terms.other_rungs])
    measured = np.array([fmean(row.attributes["val_bpb"] for row in group) for group in groups])
    means, errors = shrunk(measured, noise**2 / np.array([len(group) for group in groups]))
    fits = _fits([runs[group[0].attributes["recipe_hash"]] for group in groups], terms, _scatter(rows, terms))
    chances = best_probabilities(means, errors, fits, among)
    found = [
        Standing(
            row=min(group, key=lambda row: (row.attributes["val_bpb"], row.number)),
            seeds=len(group),
            mean=float(mean),
            standard_error=float(error),
            probability=float(chance),
            fits=float(fit),
        )
        for group, mean, error, chance, fit in zip(groups, means, errors, chances, fits.mean(0), strict=True)
    ]
    return sorted(found, key=lambda one: (-one.probability, one.mean, one.row.number))


def shrunk(measured: Array, variances: Array) -> tuple[Array, Array]:
    """Posterior means and deviations of normal means with a common normal prior, estimated from them.

    Recipes far from the middle ones do not count for the prior: a few disasters must not make a lucky run believable.

    Args:
        measured: one mean a recipe.
        variances: of each, by noise.
    """
    middle = float(np.median(measured))
    reach = FAR_OUT * NORMAL_MAD * float(np.median(np.abs(measured - middle)))
    near = np.abs(measured - middle) <= reach
    if np.sum(near) < 3:  # too few to know how far recipes differ
        return measured, np.sqrt(variances)
    noise = float(np.mean(variances[near]))
    between = max(float(np.var(measured[near], ddof=1)) - noise, LEAST_BETWEEN * noise)
    weight = between / (between + variances)
    centre, centre_variance = float(np.mean(measured[near])), (between + noise) / float(np.sum(near))
    return centre + weight * (measured - centre), np.sqrt(weight * variances + (1 - weight) ** 2 * centre_variance)


def best_probabilities(means: Array, deviations: Array, fits: NDArray[np.bool_], among: int = 1) -> Array:
    """How likely each of some independent normal values is one of the lowest that fit.

    Args:
        fits: (DRAWS, n); those that do not come after all that do.
        among: how many count as the lowest.
    """
    values = means + deviations * np.random.default_rng(DRAW_SEED).standard_normal((DRAWS, len(means)))
    count = min(among, len(means))
    lowest = np.argpartition(values + LAST * ~fits, count - 1, axis=1)[:, :count]
    return np.bincount(lowest.ravel(), minlength=len(means)) / DRAWS


def scores_by_recipe(rows: Sequence[TrialRow]) -> list[list[float]]:
    """Scores of the measured runs of each recipe."""
    groups = _runs_by_recipe(rows).values()
    scores = [[row.val_bpb for row in group if row.val_bpb is not None] for group in groups]
    return [group for group in scores if group]


def _scatter(rows: Sequence[TrialRow], terms: Terms) -> Scatter:
    return scatter_of([*rows, *(row for others in terms.other_rungs for row in others)])


def _fits(groups: Sequence[Sequence[TrialRow]], terms: Terms, scatter: Scatter) -> NDArray[np.bool_]:
    """(DRAWS, n): whether all seeds of each recipe keep the limit of bytes."""
    chance = np.random.default_rng(DRAW_SEED + 1)  # other draws than those of scores: a lucky score is no lucky size
    recipes = [seed_bytes(group, terms.seeds) for group in groups]
    return np.stack([fitting_draws(one, terms.artifact_bytes, scatter, DRAWS, chance) for one in recipes], axis=1)


def _runs_by_recipe(rows: Sequence[TrialRow]) -> dict[str, list[TrialRow]]:
    """Runs of each recipe that ended by its doing; copies of other trials are no further evidence."""
    groups: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.status in ENDED and "recipe_hash" in row.attributes and not row.is_copy:
            groups.setdefault(row.attributes["recipe_hash"], []).append(row)
    return groups
