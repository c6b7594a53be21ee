"""An ensemble of Bradley-Terry heads, fitted in float64, and what it says of labels that it has not seen.

A head is a linear score of an answer's features, and the probability that the first answer is better is
``sigmoid(score(first) - score(second))`` (Bradley and Terry 1952). So it is fitted by a logistic regression
on differences of features without an intercept, and swapping the answers turns p into 1 - p.

Every head has a bootstrap sample of its own, in which a prompt occurs Poisson(1) times (Oza and Russell
2001) with all of its labels. The heads without a prompt predict its labels: they are kept out of those, so
one set of fits chooses the penalty, calibrates, and measures the agreement (Breiman 1996, "Out-of-bag
estimation").

scikit-learn would do one fit of the hundred as well, but each in milliseconds of Python around a general
solver. Newton's method is ten lines, fits all heads in one batch of solves, and brings no dependency.

Shapes: ``N`` labels, ``D`` features, ``R`` components, ``B`` heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COMPONENTS = 64
"""Directions that the heads see, those in which labelled answers differ most. Nothing is lost below that many
labels, and above it a fit takes a tenth of a second and not several."""
PENALTIES = tuple(10.0**k for k in (3, 2, 1, 0, -1, -2))
"""L2 penalties to choose from, on features of mean square 1 in each block: from all but nothing learnt to all
but no penalty. They go from strong to weak, as a fit begins where the one before it ended."""
_ITERATIONS, _CONVERGED, _RANK = 50, 1e-9, 1e-9


@frozen(eq=False)
class KeptOut:
    """How an ensemble does on labels that the heads asked were not fitted to; ties are left out."""

    logits: Floats
    """Of the answer that the label prefers over the other one, calibrated: ``[n]``."""

    @property
    def labels(self) -> int:
        """How many."""
        return len(self.logits)

    @property
    def right(self) -> int:
        """How many of them it agrees with."""
        return int((self.logits > 0).sum())

    @property
    def confidence(self) -> float:
        """How often it says itself that it agrees: the mean of the probability of its own side."""
        return float(_sigmoid(np.abs(self.logits)).mean()) if self.labels else 0.5

    @property
    def log_loss(self) -> float:
        """Mean negative log-likelihood in nats; a coin has 0.693."""
        return float(np.logaddexp(0, -self.logits).mean()) if self.labels else math.log(2)

    def interval(self, miss: float = 0.05) -> tuple[float, float]:
        """An interval of the agreement that never misses the truth, with probability ``1 - miss``, however
        often one looks as labels come in.

        It holds every rate p with ``(n + 1) Binomial(right; n, p) > miss``. One over the left side is what a
        bet against p has won that spreads its stake evenly over all rates, and a fair bet ever wins
        ``1 / miss`` with at most that probability (Ville 1939; Robbins 1970).
        """
        wrong = self.labels - self.right
        return _lowest_rate(self.right, wrong, miss), 1 - _lowest_rate(wrong, self.right, miss)


@frozen(eq=False)
class Ensemble:
    """Heads as directions in feature space, whose logits `slope` calibrates."""

    directions: Floats
    """``[B, D]``."""
    slope: float
    """One over the temperature (Guo et al. 2017, arXiv 1706.04599)."""
    penalty: float
    kept_out: KeptOut

    def __call__(self, difference: NDArray[np.float32]) -> tuple[float, float]:
        """The logit of the first answer being better, and the share of heads that are on its side.

        `difference` is of one pair, ``[D]``: a product with many of them would round otherwise.
        """
        logits = self.directions @ difference.astype(np.float64)
        mean = float(logits.mean())
        return self.slope * mean, float((logits * mean > 0).mean())


def fit(
    differences: NDArray[np.float32],
    targets: Sequence[float],
    prompts: Sequence[int],
    *,
    blocks: Sequence[int],
    heads: int,
) -> Ensemble:
    """The ensemble of the penalty under which labels kept out are likeliest.

    `differences` are those of the first answer's features to the second's, ``[N, D]``; `targets` the
    probabilities that the first is better, ``[N]``; `prompts` a number for each label's prompt, ``[N]``.
    Features come in `blocks` of so many, each of which counts the same however many features it has.
    """
    y = np.asarray(targets, np.float64)
    weights = _samples(prompts, heads)
    basis = _basis(differences.astype(np.float64), blocks)  # [D, R]
    x = differences @ basis  # [N, R]
    coefficients = np.zeros((heads, x.shape[1]))
    found: list[Ensemble] = []
    for penalty in PENALTIES:
        coefficients = newton(x, y, weights, penalty, coefficients)
        kept, slope = _calibrated(coefficients @ x.T, weights == 0, y)
        found.append(Ensemble(coefficients @ basis.T, slope, penalty, kept))
    return min(found, key=lambda one: one.kept_out.log_loss)


def newton(x: Floats, y: Floats, weights: Floats, penalty: float, start: Floats) -> Floats:
    """Coefficients ``[B, R]`` of the largest penalised likelihood, by Newton's method from `start`.

    Each head minimises ``sum_n w_n CE(y_n, sigmoid(x_n a)) + penalty / 2 |a|^2`` with weights ``[B, N]`` of
    its own; CE is the cross entropy.
    """
    a, diagonal = start, np.arange(x.shape[1])
    for _ in range(_ITERATIONS):
        p = _sigmoid(a @ x.T)  # [B, N]
        gradient = (weights * (p - y)) @ x + penalty * a
        curvature = x.T @ ((weights * p * (1 - p))[:, :, None] * x)  # [B, R, R]
        curvature[:, diagonal, diagonal] += penalty
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        a = a - step
        if np.abs(step).max(initial=0.0) < _CONVERGED:
            break
    return a


def _samples(prompts: Sequence[int], heads: int) -> Floats:
    """How often each head's bootstrap sample has each label: ``[B, N]``. It depends on the prompt alone, so
    that a label is kept out of the same heads for good."""
    drawn = {prompt: np.random.default_rng(prompt).poisson(1.0, heads) for prompt in set(prompts)}
    return np.array([drawn[prompt] for prompt in prompts], np.float64).T


def _basis(differences: Floats, blocks: Sequence[int]) -> Floats:
    """From features to components, ``[D, R]``: scaled, then turned to where labelled answers differ most.

    Each feature is divided by its root mean square, and each block by the root of its size. Nothing is
    centred: which answer comes first means nothing, so differences have no mean of their own.
    """
    scale = np.sqrt((differences**2).mean(axis=0)) * np.sqrt(np.repeat(blocks, blocks))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    _, sizes, axes = np.linalg.svd(differences * inverse, full_matrices=False)
    kept = (sizes > _RANK * sizes.max(initial=0.0)) & (np.arange(len(sizes)) < COMPONENTS)
    basis: Floats = inverse[:, None] * axes[kept].T
    return basis


def _calibrated(logits: Floats, out: NDArray[np.bool_], y: Floats) -> tuple[KeptOut, float]:
    """What heads ``[B, N]`` say of the labels that they were kept `out` of, and the slope to say it with.

    Its targets are a little below certainty, as Platt (1999) has them, so that a run of right answers gives
    no infinite one; below zero it would turn the heads round.
    """
    asked = out.any(axis=0) & (y != 0.5)
    mean = (logits * out).sum(axis=0)[asked] / out.sum(axis=0)[asked]
    towards = np.where(y[asked] > 0.5, mean, -mean)
    size = float(np.sqrt((towards**2).mean())) if len(towards) else 0.0
    if size == 0.0:
        return KeptOut(towards), 1.0
    sure = np.full(len(towards), (len(towards) + 1) / (len(towards) + 2))
    one = np.ones((1, len(towards)))
    slope = float(newton(towards[:, None] / size, sure, one, 0.0, np.zeros((1, 1)))[0, 0]) / size
    return KeptOut(max(slope, 0.0) * towards), max(slope, 0.0)


def _lowest_rate(right: int, wrong: int, miss: float) -> float:
    """The lower end of `KeptOut.interval`, by bisection."""
    n = right + wrong
    ways = math.log(n + 1) + math.lgamma(n + 1) - math.lgamma(right + 1) - math.lgamma(wrong + 1)
    low, high = 0.0, right / max(n, 1)
    for _ in range(50):
        rate = (low + high) / 2
        likelihood = right * math.log(rate) + wrong * math.log1p(-rate) if rate else -math.inf
        low, high = (rate, high) if ways + likelihood < math.log(miss) else (low, rate)
    return low


def _sigmoid(x: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -x))
