"""A Gaussian process over recipes and rungs together: what all runs so far say of a recipe's score in the dearest rung.

The score of a recipe in a rung is a smooth function of its params (Matern 5/2, a length for each), correlated between
rungs: what cheap runs say of the dear ones, and what dear runs say against the cheap ones, is one posterior. Scores are
centred by rung, and bad ones compressed: how bad a bad recipe is says little of the good ones. Lengths, noise of each
rung and correlation are the most likely ones given the runs and weak priors.

Everything here is a pure function of arrays. Lower scores are better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

Array = NDArray[np.float64]
Places = NDArray[np.intp]

# Means and deviations of the priors, of logarithms but for the last, a logit: length, signal, noise, correlation.
LENGTH, SIGNAL, NOISE, CORRELATION = (0.0, 1.0), (0.0, 1.0), (-1.6, 0.7), (1.7, 1.0)
USUAL_DIMENSIONS = 11  # for which LENGTH is meant; more of them are longer, so that functions stay as simple
BOUND = 3.5  # deviations from the prior's mean
JITTER = 1e-6
ITERATIONS = 30
MOST_RUNS = 400  # a fit takes a second then; who would need a larger one does without the model


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Measured runs, a place each.

    Attributes:
        points_ND: params, each spanning about 0 to 1.
        rungs_N: 0 for the cheapest.
        scores_N: val_bpb.
    """

    points_ND: Array
    rungs_N: Places
    scores_N: Array


@dataclass(frozen=True, kw_only=True)
class JointModel:
    """The posterior, in units of the cheapest rung's spread about each rung's middle.

    Attributes:
        scaled_N: scores in these units.
        theta: logarithms of lengths, signal variance and each rung's noise deviation; logit of the correlation.
    """

    points_ND: Array
    rungs_N: Places
    scaled_N: Array
    theta: Array

    def predict(self, points_MD: Array, rung: int) -> tuple[Array, Array]:
        """Means and standard deviations of the scores without noise in a rung."""
        means, half = self._parts(points_MD, rung)
        return means, np.sqrt(np.maximum(self._signal - np.sum(half**2, axis=0), 1e-9))

    def outlook(self, points_MD: Array, rung: int, dearest: int) -> tuple[Array, Array]:
        """Means in the dearest rung, and by how much (standard deviation) a run in another rung may change each.

        A recipe that ran there already hardly changes by another run, however little is known of its dear score.
        """
        noise = float(_noise(self.theta, self.points_ND.shape[1], np.array([rung]))[0])
        means, halves = self._parts(points_MD, dearest)
        own = self._parts(points_MD, rung)[1]
        apart = _correlation(self.theta) ** abs(dearest - rung)
        shared = apart * self._signal - np.sum(halves * own, axis=0)
        known = np.maximum(self._signal - np.sum(own**2, axis=0), 0.0) + noise
        return means, np.maximum(shared, 1e-9) / np.sqrt(known)

    def believing(self, points_MD: Array, rung: int) -> "JointModel":
        """The model as if runs under way had come out as expected: they are not proposed again."""
        if not len(points_MD):
            return self
        return JointModel(
            points_ND=np.concatenate([self.points_ND, points_MD]),
            rungs_N=np.concatenate([self.rungs_N, np.full(len(points_MD), rung)]),
            scaled_N=np.concatenate([self.scaled_N, self.predict(points_MD, rung)[0]]),
            theta=self.theta,
        )

    def _parts(self, points_MD: Array, rung: int) -> tuple[Array, Array]:
        """Means, and what the runs know of each point: its squares add up to the variance that they take away."""
        kernel_MN = _kernel(points_MD, np.full(len(points_MD), rung), self.points_ND, self.rungs_N, self.theta)
        return kernel_MN @ self._weights, solve_triangular(self._root, kernel_MN.T, lower=True)

    @property
    def _signal(self) -> float:
        return float(np.exp(self.theta[self.points_ND.shape[1]]))

    @cached_property
    def _root(self) -> Array:
        kernel = _kernel(self.points_ND, self.rungs_N, self.points_ND, self.rungs_N, self.theta)
        return cholesky(kernel + np.diag(_noise(self.theta, self.points_ND.shape[1], self.rungs_N)), lower=True)

    @cached_property
    def _weights(self) -> Array:
        return cho_solve((self._root, True), self.scaled_N)


def model_of(runs: Runs, theta: Array) -> JointModel:
    """The model of some runs, with the theta of an earlier fit."""
    scaled = scale(runs.scores_N, runs.rungs_N)
    return JointModel(points_ND=runs.points_ND, rungs_N=runs.rungs_N, scaled_N=scaled, theta=theta)


def fit_joint(runs: Runs, num_rungs: int, start: Array | None = None) -> JointModel:
    """The most likely model of some runs.

    Args:
        start: theta of an earlier fit, to begin from; None begins from the prior.
    """
    points, rungs = runs.points_ND, runs.rungs_N
    scaled = scale(runs.scores_N, rungs)
    means, deviations = prior(points.shape[1], num_rungs)
    squares_DNN = np.square(points.T[:, :, None] - points.T[:, None, :])
    found = minimize(
        lambda theta: _loss(theta, squares_DNN, rungs, scaled, means, deviations),
        means if start is None else start,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(means - BOUND * deviations, means + BOUND * deviations, strict=True)),
        options={"maxiter": ITERATIONS},
    )
    return model_of(runs, found.x)


def scale(scores_N: Array, rungs_N: Places) -> Array:
    """Scores about the mean of their rung, in units of the cheapest rung's spread, bad ones compressed."""
    unit, scaled = unit_of(scores_N, rungs_N), np.empty_like(scores_N)
    for rung in np.unique(rungs_N):
        scaled[rungs_N == rung] = compress(scores_N[rungs_N == rung]) - middle_of(scores_N, rungs_N, rung)
    return scaled / unit


def unit_of(scores_N: Array, rungs_N: Places) -> float:
    """The unit of scaled scores in bits per byte."""
    return max(float(np.std(compress(scores_N[rungs_N == np.min(rungs_N)]))), 1e-6)


def middle_of(scores_N: Array, rungs_N: Places, rung: int) -> float:
    """The score of a rung in bits per byte that is 0 once scaled."""
    return float(np.mean(compress(scores_N[rungs_N == rung])))


def compress(scores: Array) -> Array:
    """Scores worse than the median by more than the spread of the better half grow with their logarithm."""
    middle, better = np.median(scores), np.quantile(scores, 0.25)
    spread = max(1.5 * float(middle - better), 1e-3)
    return np.where(scores > middle, middle + spread * np.log1p(np.maximum(scores - middle, 0) / spread), scores)


def expected_improvement(means: Array, deviations: Array, best: float) -> Array:
    """How far below the best a recipe is expected to be, counting those that are not as 0."""
    gap = best - means
    ratio = gap / deviations
    return gap * ndtr(ratio) + deviations * np.exp(-0.5 * ratio**2) / np.sqrt(2 * np.pi)


def prior(dimensions: int, num_rungs: int) -> tuple[Array, Array]:
    """Means and standard deviations of theta."""
    length = (LENGTH[0] + 0.5 * np.log(max(dimensions / USUAL_DIMENSIONS, 1.0)), LENGTH[1])
    parts: Sequence[tuple[float, float]] = [*[length] * dimensions, SIGNAL, *[NOISE] * num_rungs, CORRELATION]
    return np.array([mean for mean, _ in parts]), np.array([deviation for _, deviation in parts])


def _kernel(a_MD: Array, rungs_M: Places, b_ND: Array, rungs_N: Places, theta: Array) -> Array:
    """Covariances of the scores without noise."""
    dimensions = a_MD.shape[1]
    lengths = np.exp(theta[:dimensions])
    a, b = a_MD / lengths, b_ND / lengths
    squares = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0.0)
    root = np.sqrt(5 * squares)
    apart = np.abs(rungs_M[:, None] - rungs_N[None, :])
    return np.exp(theta[dimensions]) * (1 + root + root**2 / 3) * np.exp(-root) * _correlation(theta) ** apart


def _noise(theta: Array, dimensions: int, rungs_N: Places) -> Array:
    return np.exp(2 * theta[dimensions + 1 + rungs_N]) + JITTER


def _correlation(theta: Array) -> float:
    return float(1 / (1 + np.exp(-theta[-1])))


def _loss(
    theta: Array, squares_DNN: Array, rungs: Places, scaled: Array, means: Array, deviations: Array
) -> tuple[float, Array]:
    """Minus the logarithm of the posterior of theta, and its gradient."""
    dimensions = len(squares_DNN)
    inverse_D = np.exp(-2 * theta[:dimensions])
    root = np.sqrt(5 * np.tensordot(inverse_D, squares_DNN, 1))
    apart = np.abs(rungs[:, None] - rungs[None, :])
    rate = _correlation(theta)
    common = np.exp(theta[dimensions] - root) * rate**apart
    kernel = common * (1 + root + root**2 / 3)
    noise = np.exp(2 * theta[dimensions + 1 + rungs])
    factor = cholesky(kernel + np.diag(noise + JITTER), lower=True)
    inverse = cho_solve((factor, True), np.eye(len(scaled)))
    weights = inverse @ scaled
    outer = 0.5 * (inverse - np.outer(weights, weights))
    by_length = 5 / 3 * np.tensordot(squares_DNN, outer * common * (1 + root), 2) * inverse_D
    by_noise = [
        float(np.sum((2 * np.diag(outer) * noise)[rungs == rung])) for rung in range(len(theta) - dimensions - 2)
    ]
    by_rate = float(np.sum(outer * kernel * apart)) * (1 - rate)
    gradient = np.array([*by_length, float(np.sum(outer * kernel)), *by_noise, by_rate])
    away = (theta - means) / deviations
    loss = 0.5 * float(scaled @ weights) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(away @ away)
    return loss, gradient + away / deviations
