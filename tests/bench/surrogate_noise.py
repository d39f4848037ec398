"""What runs of one recipe differ by from seed to seed, all their values together.

Training's part is added to the score, rounding's multiplies its cost: a recipe that rounding harms by 1 bit per byte
differs by 0.17 from seed to seed, most others by a tenth of that.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bench.surrogate_regression import Array
from bench.surrogate_table import CURVE, Run, log_cost


@dataclass(frozen=True, slots=True)
class Change:
    """What a seed adds to a run's values, or to their logarithms."""

    pre_quant_val_bpb: float
    log_cost: float
    log_bytes: float
    log_seconds: float
    curve: tuple[float, ...]


NO_CHANGE = Change(0.0, 0.0, 0.0, 0.0, (0.0,) * len(CURVE))


@dataclass(frozen=True, slots=True)
class Noise:
    """Seed noise of one fidelity: Gaussian, with the measured covariances.

    Attributes:
        factor_VV: a square root of the covariances.
        num_recipes: that were repeated.
    """

    factor_VV: Array
    num_recipes: int

    @property
    def deviations(self) -> Change:
        """The standard deviation of each value."""
        return change_of(np.sqrt((self.factor_VV**2).sum(1)))

    def draw(self, seed: int) -> Change:
        """The change that belongs to a number."""
        return change_of(self.factor_VV @ np.random.default_rng(seed).standard_normal(len(self.factor_VV)))


def change_of(values_V: Array) -> Change:
    """A change from its values in order."""
    pre_quant_val_bpb, log_cost, log_bytes, log_seconds, *curve = map(float, values_V)
    return Change(pre_quant_val_bpb, log_cost, log_bytes, log_seconds, tuple(curve))


def measure_noise(runs: Sequence[Run]) -> Noise:
    """The noise of runs of one fidelity, some recipes of which ran from several seeds.

    Raises:
        ValueError: none did.
    """
    groups = [np.array([values_of_noise(run) for run in same]) for same in repeats_of(runs)]
    if not groups:
        raise ValueError("runs: expected recipes that ran from several seeds, got none")
    residuals_NV = np.concatenate([group - group.mean(0) for group in groups])
    freedom = len(residuals_NV) - len(groups)
    variances_V, axes_VV = np.linalg.eigh(residuals_NV.T @ residuals_NV / freedom)
    return Noise(axes_VV * np.sqrt(np.maximum(variances_V, 0.0)), len(groups))


def repeats_of(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each recipe that ran from several seeds."""
    by_recipe: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_recipe[run.recipe].append(run)
    return [same for same in by_recipe.values() if len(same) > 1]


def values_of_noise(run: Run) -> Array:
    """A run's values as Change has them."""
    logs = [log_cost(run), *(float(np.log(run.measured[name])) for name in ("weight_bytes", "train_seconds"))]
    return np.array([run.measured["pre_quant_val_bpb"], *logs, *(run.measured[name] for name in CURVE)])
