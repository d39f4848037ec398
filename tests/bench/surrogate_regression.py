"""Gaussian-process regression with a length scale for each feature: smooth functions through scattered results."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Array = NDArray[np.float64]
ROOT_5 = 5**0.5
LOG_SCALE_BOUNDS = (-2.0, 4.0)  # features span 0 to 1, so a scale of e^4 leaves a feature without effect
LOG_NOISE_BOUNDS = (-9.0, 1.0)
# Few results a feature: without a pull towards one whole range, a feature that does little gets a scale of chance.
LOG_SCALE_MEAN, LOG_SCALE_DEVIATION = 0.7, 1.2


@dataclass(frozen=True, slots=True)
class Scales:
    """What a regression learns slowly, hence once.

    Attributes:
        features: length scales.
        noise: variance of what the function leaves out, as a share of the function's own.
    """

    features: tuple[float, ...]
    noise: float


@dataclass(frozen=True, slots=True)
class Regression:
    """A function through results, one or several values at once, without their noise."""

    scaled_NF: Array
    scales_F: Array
    weights_NK: Array
    mean_K: Array

    def __call__(self, features_F: Array) -> Array:
        """The values (K,) at a point."""
        distances_N = np.sqrt(((self.scaled_NF - features_F / self.scales_F) ** 2).sum(1))
        return self.mean_K + matern(distances_N) @ self.weights_NK


def matern(distances: Array) -> Array:
    """The covariance at a distance (Matern 5/2): twice differentiable, less sure of itself than a Gaussian."""
    return (1.0 + ROOT_5 * distances + 5.0 / 3.0 * distances**2) * np.exp(-ROOT_5 * distances)


def regress(features_NF: Array, targets_NK: Array, scales: Scales) -> Regression:
    """The function through targets, by scales already learned."""
    scales_F = np.array(scales.features)
    scaled_NF = features_NF / scales_F
    factor = cho_factor(covariance(scaled_NF, scales.noise), lower=True)
    ones_N = np.ones(len(features_NF))
    # The mean that generalized least squares gives: clusters of results count as what they tell.
    shares_N = cho_solve(factor, ones_N)
    mean_K = shares_N @ targets_NK / shares_N.sum()
    return Regression(scaled_NF, scales_F, cho_solve(factor, targets_NK - mean_K), mean_K)


def covariance(scaled_NF: Array, noise: float) -> Array:
    """Covariances of results at all pairs of points."""
    return matern(np.sqrt(squared_distances(scaled_NF))) + noise * np.eye(len(scaled_NF))


def squared_distances(scaled_NF: Array) -> Array:
    """Between all pairs of points."""
    squares_N = (scaled_NF**2).sum(1)
    return np.maximum(squares_N[:, None] + squares_N - 2.0 * scaled_NF @ scaled_NF.T, 0.0)


def learn_scales(features_NF: Array, targets_NK: Array) -> Scales:
    """The most likely scales that functions through the columns of targets share."""
    start = np.append(np.full(features_NF.shape[1], LOG_SCALE_MEAN), -4.0)
    bounds = [LOG_SCALE_BOUNDS] * features_NF.shape[1] + [LOG_NOISE_BOUNDS]
    found = minimize(negative_likelihood, start, (features_NF, targets_NK), jac=True, method="L-BFGS-B", bounds=bounds)
    *scales, noise = np.exp(found.x)
    return Scales(tuple(round(float(scale), 4) for scale in scales), round(float(noise), 7))


def negative_likelihood(logs: Array, features_NF: Array, targets_NK: Array) -> tuple[float, Array]:
    """Minus the mean log-likelihood of the columns of targets, each with its own best variance, and its gradient.

    Args:
        logs: of the length scales, and of the noise.
    """
    count, noise = len(targets_NK), float(np.exp(logs[-1]))
    scaled_NF = features_NF / np.exp(logs[:-1])
    covariance_NN = covariance(scaled_NF, noise)
    inverse_NN = np.linalg.inv(covariance_NN)
    centred_NK = targets_NK - inverse_NN.sum(0) @ targets_NK / inverse_NN.sum()
    weights_NK = inverse_NN @ centred_NK
    variance_K = (centred_NK * weights_NK).sum(0) / count
    from_prior_F = (logs[:-1] - LOG_SCALE_MEAN) / LOG_SCALE_DEVIATION
    fit = count * float(np.log(variance_K).mean()) + float(np.linalg.slogdet(covariance_NN)[1])
    value = 0.5 * (fit + float(from_prior_F @ from_prior_F))
    slope_NN = 0.5 * (inverse_NN - (weights_NK / variance_K) @ weights_NK.T / targets_NK.shape[1])
    distances_NN = np.sqrt(squared_distances(scaled_NF))
    shared_NN = slope_NN * 5.0 / 3.0 * (1.0 + ROOT_5 * distances_NN) * np.exp(-ROOT_5 * distances_NN)
    by_scale_F = 2.0 * (shared_NN.sum(1) @ scaled_NF**2 - (scaled_NF * (shared_NN @ scaled_NF)).sum(0))
    by_noise = noise * float(np.trace(slope_NN))
    return value, np.append(by_scale_F + from_prior_F / LOG_SCALE_DEVIATION, by_noise)
