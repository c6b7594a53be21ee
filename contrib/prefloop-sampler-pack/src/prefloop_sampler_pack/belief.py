"""What labels say of the worth of words: a logistic regression that knows how unsure it is.

A completion is worth the sum of its features' weights, and the probability that the first is better than the
second is ``sigmoid(worth(first) - worth(second))`` (Bradley and Terry 1952). Weights are Gaussian before any
label; after N of them they are taken to be Gaussian about the likeliest ones, with the curvature there as
their precision (Laplace's approximation; Chapelle and Li, "An Empirical Evaluation of Thompson Sampling",
2011, for the same regression).

scikit-learn's regression gives the likeliest weights and not their covariance, which is what is wanted here.

Shapes: ``N`` labels, ``M`` completions, ``D`` features.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ITERATIONS, _CONVERGED = 50, 1e-9


@frozen(eq=False)
class Belief:
    """The weights of features: Gaussian with mean ``[D]`` and covariance ``root @ root.T``, ``[D, D]``."""

    mean: Floats
    root: Floats

    def draw(self, random: np.random.Generator) -> Floats:
        """Weights that may be the true ones: ``[D]``."""
        return self.mean + self.root @ random.standard_normal(len(self.mean))

    def worth(self, differences: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, in logits, of what ``[M, D]`` features add: ``[M]`` each."""
        return differences @ self.mean, np.linalg.norm(differences @ self.root, axis=1)


def believe(differences: NDArray[np.int8], targets: NDArray[np.float32], *, prior: float) -> Belief:
    """The belief after labels: `targets` ``[N]`` are the probabilities that the first completion is better,
    `differences` ``[N, D]`` its features less the second's, and `prior` the standard deviation of a weight
    before any label, in logits."""
    x, y = differences.astype(np.float64), targets.astype(np.float64)
    mean = np.zeros(x.shape[1])
    for _ in range(_ITERATIONS):
        p, precision = _sigmoid(x @ mean), _precision(x, mean, prior)
        gradient = x.T @ (p - y) + mean / prior**2
        step = np.linalg.solve(precision, gradient).astype(np.float64)
        mean = _shortened(x, y, mean, step, prior)
        if np.abs(step).max() < _CONVERGED:
            break
    lower = np.linalg.cholesky(_precision(x, mean, prior))
    return Belief(mean, np.linalg.inv(lower).T)


def _shortened(x: Floats, y: Floats, mean: Floats, step: Floats, prior: float) -> Floats:
    """Newton's `step` from `mean`, halved until it makes nothing worse: far out the curvature misleads it."""
    before = _surprise(x, y, mean, prior)
    for _ in range(_ITERATIONS):
        if _surprise(x, y, mean - step, prior) <= before:
            return mean - step
        step = step / 2
    return mean


def _surprise(x: Floats, y: Floats, mean: Floats, prior: float) -> float:
    """The negative logarithm of the posterior, less a constant."""
    logits = x @ mean
    return float((np.logaddexp(0, logits) - y * logits).sum() + (mean**2).sum() / (2 * prior**2))


def _precision(x: Floats, mean: Floats, prior: float) -> Floats:
    p = _sigmoid(x @ mean)
    found: Floats = x.T @ ((p * (1 - p))[:, None] * x) + np.eye(x.shape[1]) / prior**2
    return found


def _sigmoid(x: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -x))
