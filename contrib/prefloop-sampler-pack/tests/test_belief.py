"""The belief against numerical integration and a regression, and the words that it is about."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from prefloop_sampler_pack.belief import believe
from prefloop_sampler_pack.words import WORDS, likeness, words_of


def about_one(differences: list[float], targets: list[float], prior: float) -> tuple[float, float]:
    """Mean and variance of a single worth that all labels are about, each with its difference."""
    x = np.array(differences)
    belief = believe(prior**2 * np.outer(x, x), np.array(targets, np.float32))
    mean, covariance = belief.about(prior**2 * x[None], np.array([[prior**2]]))
    return float(mean[0]), float(covariance[0, 0])


def test_no_label_leaves_the_prior() -> None:
    belief = believe(np.zeros((0, 0)), np.zeros(0, np.float32))
    own = np.array([[4.0, 1.0], [1.0, 2.0]])
    mean, covariance = belief.about(np.zeros((2, 0)), own)
    assert mean.tolist() == [0.0, 0.0]
    assert (covariance == own).all()


def test_the_mean_is_the_likeliest_and_the_variance_the_curvature_there() -> None:
    """Three labels for one worth and one against it: found on a fine grid."""
    mean, variance = about_one([1, 1, -1, 1], [1.0, 1.0, 0.0, 0.0], prior=1.5)
    grid = np.linspace(-6, 6, 240_001)
    log = -3 * np.logaddexp(0, -grid) - np.logaddexp(0, grid) - grid**2 / (2 * 1.5**2)
    best = int(log.argmax())
    curvature = -(log[best + 100] - 2 * log[best] + log[best - 100]) / (100 * (grid[1] - grid[0])) ** 2
    assert mean == pytest.approx(grid[best], abs=1e-4)
    assert variance == pytest.approx(1 / curvature, rel=1e-4)


def test_the_variance_is_near_that_of_the_posterior_itself() -> None:
    """With a dozen labels Laplace's approximation is good: within a tenth of the exact one."""
    found, variance = about_one([1] * 12, [float(i % 3 > 0) for i in range(12)], prior=1.0)
    grid = np.linspace(-8, 8, 160_001)
    weight = np.exp(-8 * np.logaddexp(0, -grid) - 4 * np.logaddexp(0, grid) - grid**2 / 2)
    weight /= weight.sum()
    mean = float((weight * grid).sum())
    assert found == pytest.approx(mean, abs=0.05)
    assert variance == pytest.approx(float((weight * (grid - mean) ** 2).sum()), rel=0.1)


def test_it_is_the_logistic_regression_on_what_the_covariance_is_of() -> None:
    """Many labels on few features, by Newton's method on the features' weights: the same to 1e-8."""
    random = np.random.default_rng(0)
    x, asked = random.standard_normal((40, 6)), random.standard_normal((5, 6))
    y = random.random(40).round().astype(np.float32)
    weights = np.zeros(6)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        precision = x.T @ ((p * (1 - p))[:, None] * x) + np.eye(6)
        weights = weights - np.linalg.solve(precision, x.T @ (p - y) + weights)
    mean, covariance = believe(x @ x.T, y).about(asked @ x.T, asked @ asked.T)
    assert np.allclose(mean, asked @ weights, atol=1e-8)
    assert np.allclose(covariance, asked @ np.linalg.inv(precision) @ asked.T, atol=1e-8)


def test_a_tie_pulls_to_neither_side_and_makes_surer() -> None:
    before, unsure = about_one([1], [1.0], prior=1.0)
    after, surer = about_one([1, 1], [1.0, 0.5], prior=1.0)
    assert 0 < after < before
    assert surer < unsure < 1


def test_labels_that_agree_without_exception_are_fitted_too() -> None:
    """Where the prior is all but flat Newton's plain steps go astray."""
    x = np.random.default_rng(0).integers(-1, 2, (60, 20)).astype(float)
    y = (x @ np.linspace(-3, 3, 20) > 0).astype(np.float32)
    covariance = 900 * x @ x.T
    belief = believe(covariance, y)
    expected = y - 1 / (1 + np.exp(-covariance @ belief.pull))
    assert np.abs(belief.pull - expected).max() < 1e-6


def test_words_occur_or_do_not() -> None:
    once, twice, shouted, empty = words_of(["moo baa", "moo baa moo", "MOO Baa", " "])
    assert once.sum() == 2 and set(once) == {0, 1} and once.shape == (WORDS,)
    assert (once == twice).all() and (once == shouted).all()
    assert not empty.any()
    assert words_of(["Was? Ja!"]).sum() == 4, "marks are words"


def test_likeness_is_the_share_of_words_and_pairs_of_words_in_common() -> None:
    """The cosine of the indicators: what is in both, by the root of what is in each."""
    texts = ["a cow says moo .", "a dog says woof .", "a cow says moo !", "nothing", ""]
    words = words_of(texts)

    def seen(text: str) -> set[Any]:
        single = sorted(set(text.split()))
        return {*single, *combinations(single, 2)}

    counts = [max(len(seen(text)), 1) for text in texts]
    common = [[len(seen(a) & seen(b)) for b in texts] for a in texts]
    expected = np.array(common) / np.sqrt(np.outer(counts, counts))
    np.testing.assert_allclose(likeness(words, words), expected)
    assert expected[0, 0] == 1 and expected[-1, -1] == 0


def test_words_are_the_same_in_every_process() -> None:
    code = "from prefloop_sampler_pack.words import words_of as w; print(*w(['Sure thing!'])[0].nonzero()[0])"
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] == " ".join(map(str, words_of(["Sure thing!"])[0].nonzero()[0])) + "\n"
