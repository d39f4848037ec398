"""What runs of one recipe differ by from seed to seed, all their values together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bench.surrogate_regression import Array
from bench.surrogate_table import CURVE, Run


@dataclass(frozen=True, slots=True)
class Change:
    """What a seed adds to a run's values; of bytes and seconds to their logarithms."""

    val_bpb: float
    pre_quant_val_bpb: float
    log_bytes: float
    log_seconds: float
    curve: tuple[float, ...]


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
    val_bpb, pre_quant_val_bpb, log_bytes, log_seconds, *curve = map(float, values_V)
    return Change(val_bpb, pre_quant_val_bpb, log_bytes, log_seconds, tuple(curve))


def measure_noise(runs: Sequence[Run]) -> Noise:
    """The noise of runs of one fidelity, some recipes of which ran from several seeds.

    Raises:
        ValueError: none did.
    """
    repeats: dict[int, list[Array]] = defaultdict(list)
    for run in runs:
        repeats[run.recipe].append(values_of_noise(run))
    groups = [np.array(group) for group in repeats.values() if len(group) > 1]
    if not groups:
        raise ValueError("runs: expected recipes that ran from several seeds, got none")
    residuals_NV = np.concatenate([group - group.mean(0) for group in groups])
    freedom = len(residuals_NV) - len(groups)
    variances_V, axes_VV = np.linalg.eigh(residuals_NV.T @ residuals_NV / freedom)
    return Noise(axes_VV * np.sqrt(np.maximum(variances_V, 0.0)), len(groups))


def values_of_noise(run: Run) -> Array:
    """A run's values as Change has them."""
    seen = run.measured
    scores = [seen["val_bpb"], seen["pre_quant_val_bpb"]]
    return np.array([*scores, np.log(seen["weight_bytes"]), np.log(seen["train_seconds"]), *(seen[c] for c in CURVE)])
