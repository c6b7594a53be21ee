"""The belief against numerical integration, and the words that it is about."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from prefloop_sampler_pack.belief import Belief, believe
from prefloop_sampler_pack.words import FEATURES, occurrences


def labels(*rows: tuple[list[int], float]) -> tuple[Any, Any]:
    return np.array([row for row, _ in rows], np.int8), np.array([p for _, p in rows], np.float32)


def test_no_label_leaves_the_prior() -> None:
    belief = believe(np.zeros((0, 3), np.int8), np.zeros(0, np.float32), prior=2.0)
    assert np.allclose(belief.mean, 0) and np.allclose(belief.root @ belief.root.T, 4 * np.eye(3))


def test_the_mean_is_the_likeliest_and_the_variance_the_curvature_there() -> None:
    """One weight, three labels for it and one against: found on a fine grid."""
    belief = believe(*labels(([1], 1.0), ([1], 1.0), ([-1], 0.0), ([1], 0.0)), prior=1.5)
    grid = np.linspace(-6, 6, 240_001)
    log = -3 * np.logaddexp(0, -grid) - np.logaddexp(0, grid) - grid**2 / (2 * 1.5**2)
    best = int(log.argmax())
    curvature = -(log[best + 100] - 2 * log[best] + log[best - 100]) / (100 * (grid[1] - grid[0])) ** 2
    assert belief.mean[0] == pytest.approx(grid[best], abs=1e-4)
    assert belief.root[0, 0] ** 2 == pytest.approx(1 / curvature, rel=1e-4)


def test_the_variance_is_near_that_of_the_posterior_itself() -> None:
    """With a dozen labels Laplace's approximation is good: within a tenth of the exact one."""
    x, y = labels(*[([1], float(i % 3 > 0)) for i in range(12)])
    belief = believe(x, y, prior=1.0)
    grid = np.linspace(-8, 8, 160_001)
    weight = np.exp(-8 * np.logaddexp(0, -grid) - 4 * np.logaddexp(0, grid) - grid**2 / 2)
    weight /= weight.sum()
    mean = float((weight * grid).sum())
    assert belief.mean[0] == pytest.approx(mean, abs=0.05)
    assert belief.root[0, 0] ** 2 == pytest.approx(float((weight * (grid - mean) ** 2).sum()), rel=0.1)


def test_a_tie_pulls_to_neither_side_and_makes_surer() -> None:
    before = believe(*labels(([1, 0], 1.0)), prior=1.0)
    after = believe(*labels(([1, 0], 1.0), ([1, 0], 0.5)), prior=1.0)
    assert 0 < after.mean[0] < before.mean[0] and after.mean[1] == 0
    assert [b.worth(np.array([[1.0, 0.0]]))[1][0] for b in (after, before)] == sorted(
        b.worth(np.array([[1.0, 0.0]]))[1][0] for b in (after, before)
    )


def test_what_no_label_is_about_stays_as_unsure_as_before() -> None:
    belief = believe(*labels(*[([1, 0, -1], 1.0)] * 20), prior=1.0)
    mean, deviation = belief.worth(np.eye(3))
    assert mean[0] > 0.5 and mean[1] == 0 and mean[2] == pytest.approx(-mean[0])
    assert deviation[1] == pytest.approx(1.0) and deviation[0] < 0.9


def test_labels_that_agree_without_exception_are_fitted_too() -> None:
    """Where the prior is all but flat Newton's plain steps go astray."""
    x = np.random.default_rng(0).integers(-1, 2, (60, 20)).astype(np.int8)
    y = (x @ np.linspace(-3, 3, 20) > 0).astype(np.float32)
    belief = believe(x, y, prior=30.0)
    gradient = x.T @ (1 / (1 + np.exp(-x @ belief.mean)) - y) + belief.mean / 30.0**2
    assert np.abs(gradient).max() < 1e-6


def test_draws_have_the_mean_and_the_covariance() -> None:
    root = np.array([[0.5, 0.0], [0.3, 0.2]])
    belief = Belief(np.array([1.0, -2.0]), root)
    random = np.random.default_rng(0)
    drawn = np.array([belief.draw(random) for _ in range(20_000)])
    assert np.allclose(drawn.mean(0), belief.mean, atol=0.02)
    assert np.allclose(np.cov(drawn.T), root @ root.T, atol=0.01)


def test_words_and_pairs_of_words_occur_or_do_not() -> None:
    one, twice, turned, shouted = occurrences(["moo baa", "moo baa moo baa", "baa moo", "MOO BAA"])
    assert one.sum() == 3 and set(one) == {0, 1} and one.shape == (FEATURES,)
    assert twice.sum() == 4, "'baa moo' besides; how often does not count"
    assert turned.sum() == 3 and (one != turned).sum() == 2
    assert (shouted == one).all()
    assert not occurrences(["", "  "]).any()
    assert occurrences(["Was? Ja!"]).sum() == 7, "marks are words: was, ?, ja, ! and three pairs"


def test_words_are_the_same_in_every_process() -> None:
    code = (
        "from prefloop_sampler_pack.words import occurrences as o; print(*o(['Sure thing!'])[0].nonzero()[0])"
    )
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
    assert said[0] == said[1] == " ".join(map(str, occurrences(["Sure thing!"])[0].nonzero()[0])) + "\n"
