"""The bonuses against float64 numpy, against what their derivations claim, and as prefloop finds them."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop import Bonus, Progress, Scores, TokenScores, component
from prefloop_bonus_pack.entropy import Entropy
from prefloop_bonus_pack.novelty import Copo
from prefloop_bonus_pack.value import Selm, Vpo
from prefloop_testing import BonusSuite


class TestSelm(BonusSuite):
    component = Selm()


class TestVpo(BonusSuite):
    component = Vpo(alpha=(0.1, 0.01), base="rejected")


class TestEntropy(BonusSuite):
    component = Entropy()


START = Progress(1, 10, 0.0, 2.0)

POLICY_CHOSEN, POLICY_REJECTED = np.array([-12.5, -40.0, -3.0]), np.array([-14.0, -22.5, -80.0])
REFERENCE_CHOSEN, REFERENCE_REJECTED = np.array([-15.0, -41.5, -3.0]), np.array([-13.0, -20.0, -60.0])
FROM_REFERENCE = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""The first pair's chosen, the second's rejected, and none of the third."""


def as_mlx(array: Any) -> mx.array:
    return mx.array(np.asarray(array).astype(np.float32))


def scores(chosen: mx.array, rejected: mx.array) -> Scores:
    one = mx.ones(chosen.shape)
    reference = as_mlx(REFERENCE_CHOSEN), as_mlx(REFERENCE_REJECTED)
    drawn = as_mlx(FROM_REFERENCE[0]), as_mlx(FROM_REFERENCE[1])
    return Scores(
        chosen,
        rejected,
        *reference,
        one,
        one,
        one,
        chosen_from_reference=drawn[0],
        rejected_from_reference=drawn[1],
    )


LOG_RATIO_CHOSEN, LOG_RATIO_REJECTED = POLICY_CHOSEN - REFERENCE_CHOSEN, POLICY_REJECTED - REFERENCE_REJECTED
LOG_RATIO_REFERENCE = np.array([2.5, -2.5, 0.0])
CASES: list[tuple[Bonus, Any, Any]] = [
    (Selm(alpha=0.2, beta=0.5), -0.1 * LOG_RATIO_REFERENCE, -0.1 * FROM_REFERENCE),
    (Vpo(alpha=0.2, beta=0.5), -0.1 * LOG_RATIO_REFERENCE, -0.1 * FROM_REFERENCE),
    (
        Vpo(alpha=0.2, beta=0.5, base="chosen", outlook="pessimism"),
        0.1 * LOG_RATIO_CHOSEN,
        [[0.1] * 3, [0.0] * 3],
    ),
    (Vpo(alpha=0.2, beta=0.5, base="rejected"), -0.1 * LOG_RATIO_REJECTED, [[0.0] * 3, [-0.1] * 3]),
]


@pytest.mark.parametrize(("bonus", "value", "gradients"), CASES, ids=lambda case: type(case).__name__)
def test_values_and_gradients(bonus: Bonus, value: Any, gradients: Any) -> None:
    policy = as_mlx(POLICY_CHOSEN), as_mlx(POLICY_REJECTED)
    np.testing.assert_allclose(bonus(scores(*policy), START), value, rtol=1e-5, atol=1e-7)
    found = mx.grad(lambda c, r: bonus(scores(c, r), START).sum(), argnums=(0, 1))(*policy)
    np.testing.assert_allclose(np.array(found), gradients, rtol=1e-6)


def test_selm_has_the_gradient_of_optimism_whose_alpha_is_alpha_beta() -> None:
    policy = as_mlx(POLICY_CHOSEN), as_mlx(POLICY_REJECTED)
    optimism = component("bonus", "optimism")(alpha=0.02)

    def gradient(bonus: Bonus) -> Any:
        return np.array(mx.grad(lambda c, r: bonus(scores(c, r), START).sum(), argnums=(0, 1))(*policy))

    np.testing.assert_allclose(gradient(Selm(alpha=0.2, beta=0.1)), gradient(optimism), rtol=1e-6)


def test_the_value_of_the_best_policy_is_what_the_derivation_says() -> None:
    """Of 6 completions: max_pi E_pi[r] - E_ref[r] - beta KL(pi, ref) = -beta E_ref[log pi_r - log ref]."""
    rng, beta = np.random.default_rng(0), 0.3
    reward, reference = rng.normal(size=6), rng.dirichlet(np.ones(6))

    def value(policy: Any) -> Any:
        return policy @ reward - reference @ reward - beta * policy @ np.log(policy / reference)

    best = reference * np.exp(reward / beta)
    best /= best.sum()
    bonus = -beta * reference @ np.log(best / reference)
    assert value(best) == pytest.approx(bonus, rel=1e-12)
    assert all(value(rng.dirichlet(np.ones(6))) < bonus for _ in range(200))

    # and Selm, summed over what the reference may draw, is alpha times that
    one, zero = mx.ones(6), mx.zeros(6)
    drawn = Scores(
        as_mlx(np.log(best)),
        zero,
        as_mlx(np.log(reference)),
        zero,
        one,
        one,
        one,
        chosen_from_reference=one,
        rejected_from_reference=zero,
    )
    expected = (as_mlx(reference) * Selm(alpha=0.5, beta=beta)(drawn, START)).sum()
    assert expected.item() == pytest.approx(0.5 * bonus, rel=1e-5)


def per_token(policy: mx.array, mask: mx.array) -> Scores:
    one = mx.ones(policy.shape[0])
    tokens = TokenScores(policy, mx.zeros(policy.shape), mask)
    none = TokenScores(mx.zeros(policy.shape), mx.zeros(policy.shape), mx.zeros(policy.shape))
    total = (policy * mask).sum(-1)
    return Scores(total, 0 * one, None, None, one, one, one, chosen_per_token=tokens, rejected_per_token=none)


def test_entropy_by_hand_and_padding_counts_nothing() -> None:
    policy, mask = mx.array([[-1.0, -2.0, -9.0], [-3.0, -9.0, -9.0]]), mx.array([[1.0, 1.0, 0], [1.0, 0, 0]])
    found = Entropy(alpha=0.1)(per_token(policy, mask), START)
    np.testing.assert_allclose(found, [-0.1 * (1 + 4) / 2, -0.1 * 9 / 2], rtol=1e-6)


def test_the_gradient_of_entropy_is_right_in_expectation_and_that_of_the_plain_estimate_is_zero() -> None:
    """Summed over all tokens of a vocabulary, each weighted by its probability."""
    logits = mx.array([1.5, -0.3, 0.2, -2.0])
    weights = mx.softmax(logits)

    def log_policy(z: mx.array) -> mx.array:
        return z - mx.logsumexp(z)

    def estimate(z: mx.array) -> mx.array:
        drawn = per_token(log_policy(z)[:, None], mx.ones((4, 1)))
        return (weights * Entropy(alpha=1.0)(drawn, START)).sum()

    exact = mx.grad(lambda z: -(mx.exp(log_policy(z)) * log_policy(z)).sum())(logits)
    plain = mx.grad(lambda z: -(weights * log_policy(z)).sum())(logits)
    np.testing.assert_allclose(mx.grad(estimate)(logits), exact, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(plain, np.zeros(4), atol=1e-6)
    assert mx.abs(exact).max().item() > 0.05


@pytest.mark.parametrize("build", [Selm, Vpo, Entropy])
def test_alpha_may_change_with_the_epoch(build: Callable[..., Bonus]) -> None:
    bonus = build(alpha=[0.2, 0.1])
    each = Scores(
        mx.array([-3.0]),
        mx.array([-4.0]),
        mx.array([-5.0]),
        mx.array([-4.0]),
        *[mx.ones(1)] * 3,
        chosen_per_token=TokenScores(mx.array([[-3.0]]), mx.array([[-5.0]]), mx.ones((1, 1))),
        rejected_per_token=TokenScores(mx.array([[-4.0]]), mx.array([[-4.0]]), mx.ones((1, 1))),
        chosen_from_reference=mx.ones(1),
        rejected_from_reference=mx.zeros(1),
    )
    first, second, last = (bonus(each, Progress(1, 9, epoch, 3.0)).item() for epoch in (0.9, 1.0, 2.7))
    assert first == pytest.approx(2 * second)
    assert second == last != 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Selm(alpha=-1.0), "'alpha' must be finite and >= 0: -1.0"),
        (lambda: Entropy(alpha=()), "'alpha' must hold at least one number"),
        (lambda: Selm(beta=0.0), "'beta' must be > 0"),
        (lambda: Vpo(beta=math.inf), "'beta' must be < inf"),
    ],
)
def test_nonsense_is_refused(build: Callable[[], Bonus], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_what_nobody_asked_for_is_named() -> None:
    one = mx.ones(1)
    bare = Scores(one, one, None, None, one, one, one)
    for bonus, need in [
        (Selm(), "reference_samples"),
        (Vpo(base="chosen"), "reference"),
        (Entropy(), "per_token"),
        (Copo(), "completions"),
    ]:
        with pytest.raises(ValueError, match=f"where '{need}' is among the needs"):
            bonus(bare, START)  # type: ignore[operator]


def test_needs_follow_the_base() -> None:
    assert Vpo().needs == Selm().needs == {"reference", "reference_samples"}
    assert Vpo(base="chosen").needs == {"reference"}


@pytest.mark.parametrize(("name", "cls"), [("selm", Selm), ("vpo", Vpo), ("entropy", Entropy)])
def test_is_found_by_name(name: str, cls: type) -> None:
    assert component("bonus", name) is cls
    assert component("bonus", f"prefloop-bonus-pack:{name}") is cls


def test_the_plugin_module_imports_no_mlx() -> None:
    code = "import sys, prefloop_bonus_pack as p; p.prefloop_bonuses(); sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
