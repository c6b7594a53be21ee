"""The heads against plain gradient descent in float64, and what they say of labels kept out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from prefloop_judge_learned.heads import PENALTIES, KeptOut, fit, newton

Rng = np.random.Generator


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def descended(x: Any, y: Any, weights: Any, penalty: float) -> Any:
    """The optimum of one head by gradient descent, with a step below one over the largest curvature."""
    rate = 1 / (np.linalg.eigvalsh((x.T * weights) @ x).max() / 4 + penalty)
    a = np.zeros(x.shape[1])
    for _ in range(20_000):
        a = a - rate * ((weights * (sigmoid(x @ a) - y)) @ x + penalty * a)
    return a


def person(rng: Rng, labels: int, taste: Any, *, scale: float = 1.0) -> tuple[Any, Any]:
    """Pairs of random features, and what a Bradley-Terry person with a `taste` says of them."""
    x = rng.normal(size=(labels, len(taste))).astype(np.float32)
    return x, (rng.random(labels) < sigmoid(scale * x @ taste)).astype(float)


@pytest.mark.parametrize("penalty", [10.0, 1.0, 0.1])
def test_newton_finds_what_gradient_descent_finds(penalty: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.random(40).round(1)  # soft labels among them
    weights = rng.poisson(1.0, size=(5, 40)).astype(float)
    found = newton(x, y, weights, penalty, np.zeros((5, 6)))
    expected = [descended(x, y, w, penalty) for w in weights]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_one_label_by_hand() -> None:
    """``a = (1 - sigmoid(a)) / penalty`` at x = 1, whose solution for a penalty of 1/2 is 0.8047…"""
    a = newton(np.ones((1, 1)), np.ones(1), np.ones((1, 1)), 0.5, np.zeros((1, 1)))[0, 0]
    assert 0.5 * a == pytest.approx(1 - sigmoid(a), abs=1e-12)


def test_an_ensemble_is_the_one_of_the_plain_formulas() -> None:
    """Scaling, bootstrap, every penalty, kept-out logits and slope, each written out once more."""
    rng = np.random.default_rng(1)
    x, y = person(rng, 30, rng.normal(size=8))
    prompts = [int(i) for i in rng.integers(0, 20, 30)]
    found = fit(x, y, prompts, blocks=(5, 3), heads=6)

    d = x.astype(float)
    z = d / np.sqrt((d**2).mean(0)) / np.sqrt([5] * 5 + [3] * 3)
    weights = np.array([np.random.default_rng(p).poisson(1.0, 6) for p in prompts]).T
    losses = {}
    for penalty in PENALTIES:
        heads = np.array([descended(z, y, w, penalty) for w in weights])
        kept = [(i, [h for h in range(6) if weights[h, i] == 0]) for i in range(30)]
        logits = np.array(
            [np.mean([heads[h] @ z[i] for h in out]) * (2 * y[i] - 1) for i, out in kept if out]
        )
        n = len(logits)
        slopes = np.geomspace(1e-3, 1e4, 200_001)
        sure = (n + 1) / (n + 2)

        def cost(s: Any, logits: Any = logits, sure: float = sure) -> Any:
            return sum(sure * np.logaddexp(0, -s * v) + (1 - sure) * np.logaddexp(0, s * v) for v in logits)

        slope = slopes[np.argmin(cost(slopes))]
        losses[penalty] = np.logaddexp(0, -slope * logits).mean()
        if penalty == found.penalty:
            assert found.kept_out.labels == n
            assert found.slope == pytest.approx(slope, rel=1e-3)
            np.testing.assert_allclose(
                np.sort(found.kept_out.logits), np.sort(slope * logits), rtol=2e-3, atol=1e-6
            )
            np.testing.assert_allclose(found.directions @ d.T, heads @ z.T, atol=1e-6)
    assert found.penalty == min(losses, key=losses.__getitem__)


def test_swapping_answers_turns_every_probability() -> None:
    rng = np.random.default_rng(2)
    x, y = person(rng, 50, rng.normal(size=12))
    found = fit(x, y, range(50), blocks=(12,), heads=10)
    for row in x[:20]:
        logit, agreeing = found(row)
        assert found(-row) == (-logit, agreeing)


def test_swapping_labelled_pairs_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    x, y = person(rng, 50, rng.normal(size=12))
    turned = rng.choice([-1.0, 1.0], size=50)
    one = fit(x, y, range(50), blocks=(12,), heads=10)
    other = fit(
        (x * turned[:, None]).astype(np.float32),
        np.where(turned < 0, 1 - y, y),
        range(50),
        blocks=(12,),
        heads=10,
    )
    assert one.penalty == other.penalty
    np.testing.assert_allclose(one.directions, other.directions, atol=1e-8)


def test_labels_of_one_prompt_are_kept_out_together() -> None:
    """Every label says another prompt's opposite: only heads that saw the very prompt could be right."""
    rng = np.random.default_rng(4)
    x = (
        np.repeat(np.eye(30, dtype=np.float32), 4, axis=0)
        + rng.normal(size=(120, 30)).astype(np.float32) * 1e-3
    )
    y = np.repeat(rng.integers(0, 2, 30), 4).astype(float)
    together = fit(x, y, [i // 4 for i in range(120)], blocks=(30,), heads=24).kept_out
    apart = fit(x, y, range(120), blocks=(30,), heads=24).kept_out
    assert apart.right / apart.labels > 0.95
    assert together.right / together.labels < 0.75


def test_probabilities_mean_what_they_say() -> None:
    """A person whose taste is known: on 4000 fresh pairs, the mean probability of each tenth is its rate."""
    errors, gains = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        taste = rng.normal(size=20) / math.sqrt(20) * 2
        x, y = person(rng, 300, taste)
        fresh, truth = person(rng, 4000, taste)
        found = fit(x, y, range(300), blocks=(20,), heads=24)
        p = sigmoid(np.array([found(row)[0] for row in fresh]))
        tenths = np.array_split(np.argsort(p), 10)
        errors.append(np.mean([abs(p[t].mean() - truth[t].mean()) for t in tenths]))
        loss = -np.log(np.where(truth == 1, p, 1 - p)).mean()
        best = np.logaddexp(0, -np.where(truth == 1, 1, -1) * (fresh @ taste)).mean()
        gains.append((math.log(2) - loss) / (math.log(2) - best))
    assert np.mean(errors) < 0.05  # the noise of 400 labels in a tenth alone is 0.02
    assert np.mean(gains) > 0.75  # of what can be known at all


def test_it_is_wrong_more_often_where_its_heads_disagree() -> None:
    right: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(4):
        rng = np.random.default_rng(seed)
        taste = rng.normal(size=20)
        x, y = person(rng, 80, taste)
        fresh, _ = person(rng, 500, taste)
        found = fit(x, y, range(80), blocks=(20,), heads=24)
        for row in fresh:
            logit, agreeing = found(row)
            right[agreeing >= 0.9].append((logit > 0) == (row @ taste > 0))
    assert len(right[False]) > 100
    assert np.mean(right[True]) > 0.85 > 0.7 > np.mean(right[False])


def test_ties_pull_to_one_half_and_count_as_no_label() -> None:
    rng = np.random.default_rng(5)
    x, y = person(rng, 60, rng.normal(size=6), scale=4.0)
    tied = fit(np.concatenate([x, x]), [*y, *[0.5] * 60], [*range(60), *range(60)], blocks=(6,), heads=12)
    assert tied.kept_out.labels == 60
    assert fit(x, [0.5] * 60, range(60), blocks=(6,), heads=12)(x[0])[0] == 0.0


def test_pairs_that_do_not_differ_teach_nothing() -> None:
    found = fit(np.zeros((12, 4), np.float32), [1.0] * 12, range(12), blocks=(4,), heads=4)
    assert found(np.ones(4, np.float32)) == (0.0, 0.0)


@pytest.mark.parametrize(("right", "labels"), [(0, 0), (0, 7), (7, 7), (9, 12), (120, 200)])
def test_the_interval_is_where_no_bet_has_won_twenty_fold(right: int, labels: int) -> None:
    """Against the definition, by a sum over a fine grid of rates that the stake is spread over."""
    low, high = KeptOut(np.array([1.0] * right + [-1.0] * (labels - right))).interval()
    grid = (np.arange(100_000) + 0.5) / 100_000

    def won(rate: float) -> float:
        return float(np.mean((grid / rate) ** right * ((1 - grid) / (1 - rate)) ** (labels - right)))

    for end in (low, high):
        assert end in (0.0, 1.0) or won(end) == pytest.approx(20, rel=1e-3)
    assert low < 1e-12 if right == 0 else won(low * 0.9) > 20
    if 0 < right < labels:
        assert won(right / labels) < 20


def test_the_interval_never_misses_in_nineteen_of_twenty_streams() -> None:
    """Looked at after each of 300 labels, where a 95 % interval for one look misses in a third of them."""
    rng = np.random.default_rng(6)
    misses = fooled = 0
    for _ in range(400):
        hits = np.where(rng.random(300) < 0.7, 1.0, -1.0)
        rates = np.cumsum(hits > 0) / np.arange(1, 301)
        usual = 1.96 * np.sqrt(rates * (1 - rates) / np.arange(1, 301))
        fooled += bool((np.abs(rates - 0.7) > usual)[20:].any())
        ends = [KeptOut(hits[:n]).interval() for n in range(1, 301)]
        misses += not all(low <= 0.7 <= high for low, high in ends)
    assert misses <= 400 * 0.05 < 80 < fooled


def test_what_is_reported_of_labels_kept_out() -> None:
    kept = KeptOut(np.array([2.0, -1.0, 0.5, 3.0]))
    assert (kept.labels, kept.right) == (4, 3)
    assert kept.confidence == pytest.approx(np.mean(sigmoid(np.array([2.0, 1.0, 0.5, 3.0]))))
    assert kept.log_loss == pytest.approx(-np.log(sigmoid(np.array([2.0, -1.0, 0.5, 3.0]))).mean())
    nothing = KeptOut(np.array([]))
    assert (nothing.labels, nothing.confidence, nothing.log_loss) == (0, 0.5, math.log(2))
