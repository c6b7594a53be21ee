"""What labels say of the worth of completions: a Gaussian process, which knows how unsure it is.

The worth of completions is Gaussian before any label, and the probability that the first of two is the better
one is ``sigmoid(worth(first) - worth(second))`` (Bradley and Terry 1952). A label is about such a difference,
and so this is a Gaussian process classifier of differences (Chu and Ghahramani, "Preference Learning with
Gaussian Processes", ICML 2005), by Laplace's approximation (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006, algorithms 3.1 and 3.2).

scikit-learn's classifier takes no matrix of covariances, no probability for a label, and gives no covariance.

Shapes: ``N`` labels, ``M`` completions.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ITERATIONS, _CONVERGED = 50, 1e-9


@frozen(eq=False)
class Belief:
    """The belief after N labels, as `believe` finds it."""

    pull: Floats
    """How far each label is from its likeliest probability: ``[N]``."""
    weight: Floats
    """The square root of the curvature of each label's likelihood: ``[N]``."""
    lower: Floats
    """The Cholesky factor of ``1 + weight K weight``: ``[N, N]``."""

    def about(self, cross: Floats, own: Floats) -> tuple[Floats, Floats]:
        """Mean ``[M]`` and covariance ``[M, M]`` of what completions are worth, in logits.

        `cross` are their covariances with the differences that the labels are about, ``[M, N]``, and `own`
        those among themselves before any label, ``[M, M]``.
        """
        known = np.linalg.solve(self.lower, self.weight[:, None] * cross.T)
        return cross @ self.pull, own - known.T @ known


def believe(covariance: Floats, targets: NDArray[np.float32]) -> Belief:
    """The belief after labels: `targets` ``[N]`` are the probabilities that the first completion is better,
    and `covariance` ``[N, N]`` that of the differences in worth before any label."""
    y = targets.astype(np.float64)
    pull = np.zeros(len(y))
    for _ in range(_ITERATIONS):
        difference = covariance @ pull
        p, weight = _likelihood(difference)
        wanted = weight**2 * difference + y - p
        inner = np.linalg.solve(_inner(covariance, weight), weight * (covariance @ wanted))
        step = _shortened(covariance, y, pull, wanted - weight * inner - pull)
        pull = pull + step
        if np.abs(covariance @ step).max(initial=0.0) < _CONVERGED:
            break
    _, weight = _likelihood(covariance @ pull)
    return Belief(pull, weight, np.linalg.cholesky(_inner(covariance, weight)).astype(np.float64))


def _shortened(covariance: Floats, y: Floats, pull: Floats, step: Floats) -> Floats:
    """Newton's `step`, halved until it makes nothing worse: far out the curvature misleads it."""
    before = _surprise(covariance, y, pull)
    for _ in range(_ITERATIONS):
        if _surprise(covariance, y, pull + step) <= before:
            return step
        step = step / 2
    return np.zeros_like(step)


def _surprise(covariance: Floats, y: Floats, pull: Floats) -> float:
    """The negative logarithm of the posterior, less a constant."""
    difference = covariance @ pull
    return float((np.logaddexp(0, difference) - y * difference).sum() + pull @ difference / 2)


def _likelihood(difference: Floats) -> tuple[Floats, Floats]:
    """The probability of the first completion, and the square root of the curvature there."""
    p = np.exp(-np.logaddexp(0, -difference))
    return p, np.sqrt(p * (1 - p))


def _inner(covariance: Floats, weight: Floats) -> Floats:
    found: Floats = np.eye(len(weight)) + weight[:, None] * covariance * weight
    return found
