"""How much of a judge's preference goes with length: a logistic regression on one feature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from attrs import frozen

Observation = tuple[int, float]
"""How much longer the first answer of a pair is, and the judge's probability that it is the better one."""


@frozen
class Fit:
    """The part of a judge's log-odds that goes with length: ``weight * tanh(difference / spread)``."""

    weight: float
    spread: float

    def log_odds(self, difference: float) -> float:
        """What being longer by `difference` is worth to the judge."""
        return self.weight * math.tanh(difference / self.spread)


def fit(observations: Sequence[Observation], *, ridge: float) -> Fit:
    """The `Fit` of largest likelihood, with ``ridge / 2 * weight^2`` against it.

    ``P(first is better) = sigmoid(weight * tanh(difference / spread))``, with probabilities as labels and
    the root mean square of the differences as `spread`. There is no intercept: which answer comes first
    means nothing. With `ridge` above 0 the optimum is unique and finite; Newton's method finds it.
    """
    spread = math.sqrt(fmean(d * d for d, _ in observations)) if observations else 0.0
    if spread == 0.0:
        return Fit(0.0, 1.0)
    rows = [(math.tanh(d / spread), p) for d, p in observations]
    weight = 0.0
    for _ in range(50):
        predicted = [logistic(weight * x) for x, _ in rows]
        slope = sum((q - p) * x for (x, p), q in zip(rows, predicted, strict=True)) + ridge * weight
        curvature = sum(q * (1 - q) * x * x for (x, _), q in zip(rows, predicted, strict=True)) + ridge
        # A step of at most 1 keeps Newton's method from overshooting where labels are one-sided.
        step = max(-1.0, min(1.0, slope / curvature))
        weight -= step
        if abs(step) < 1e-9:
            break
    return Fit(weight, spread)


def logistic(x: float) -> float:
    """``1 / (1 + exp(-x))``, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
