"""Which recipe of a rung is most likely the best one, given noise: not the luckiest single run.

Recipes' true means are taken as normal about their own mean, and runs as normal about the recipe's; so a recipe's mean
is drawn towards all others', the more so the fewer seeds it has and the noisier they are. The chance to be the best is
counted in draws from that posterior, with a fixed seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from search.calibration import Array, seed_noise
from search.trials import TrialRow, TrialStatus

ENDED = frozenset({TrialStatus.FEASIBLE, TrialStatus.INFEASIBLE, TrialStatus.FAILED, TrialStatus.STOPPED})
DRAWS = 20_000
DRAW_SEED = 0
FAR_OUT = 3.0  # standard deviations
NORMAL_MAD = 1.4826  # standard deviations of a normal value to its median absolute deviation
LEAST_BETWEEN = 0.1  # of the noise's variance, between recipes: none are exactly alike


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A recipe of a rung.

    Attributes:
        row: its best feasible run.
        seeds: feasible runs of it.
        mean: of the posterior of its val_bpb over seeds.
        standard_error: deviation of that posterior.
        probability: to be the best of the rung's recipes.
    """

    row: TrialRow
    seeds: int
    mean: float
    standard_error: float
    probability: float

    def facts(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "trial": self.row.number,
            "seeds": self.seeds,
            "val_bpb": self.mean,
            "standard_error": self.standard_error,
            "probability": self.probability,
        }


def standings(rows: Sequence[TrialRow]) -> list[Standing]:
    """The feasible recipes of a rung, the likeliest best one first.

    One seed over a limit, or that came to nothing, bars a recipe while others have none such: who submits it would have
    to hope for the seed.
    """
    runs = _runs_by_recipe(rows)
    feasible = {key: [row for row in group if row.status is TrialStatus.FEASIBLE] for key, group in runs.items()}
    feasible = {key: group for key, group in feasible.items() if group}
    whole = {key: group for key, group in feasible.items() if len(group) == len(runs[key])}
    groups = list((whole or feasible).values())
    if not groups:
        return []
    scores = [[row.val_bpb for row in group if row.val_bpb is not None] for group in runs.values()]
    noise = seed_noise([group for group in scores if group])
    measured = np.array([fmean(row.attributes["val_bpb"] for row in group) for group in groups])
    means, errors = shrunk(measured, noise**2 / np.array([len(group) for group in groups]))
    chances = best_probabilities(means, errors)
    found = [
        Standing(
            row=min(group, key=lambda row: (row.attributes["val_bpb"], row.number)),
            seeds=len(group),
            mean=float(mean),
            standard_error=float(error),
            probability=float(chance),
        )
        for group, mean, error, chance in zip(groups, means, errors, chances, strict=True)
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


def best_probabilities(means: Array, deviations: Array) -> Array:
    """How likely each of some independent normal values is the lowest."""
    draws = np.random.default_rng(DRAW_SEED).standard_normal((DRAWS, len(means)))
    lowest = np.argmin(means + deviations * draws, axis=1)
    return np.bincount(lowest, minlength=len(means)) / DRAWS


def _runs_by_recipe(rows: Sequence[TrialRow]) -> dict[str, list[TrialRow]]:
    """Runs of each recipe that ended by its doing; copies of other trials are no further evidence."""
    groups: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.status in ENDED and "recipe_hash" in row.attributes and not row.is_copy:
            groups.setdefault(row.attributes["recipe_hash"], []).append(row)
    return groups
