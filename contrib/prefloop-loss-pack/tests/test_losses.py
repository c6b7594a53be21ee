"""Every loss against a float64 numpy reference written from its paper, and as prefloop finds it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop import Loss, Scores, component
from prefloop_loss_pack.anchored import ApoDown, ApoZero, Nca, SppoHard
from prefloop_loss_pack.length import LengthDpo
from prefloop_loss_pack.noisy import Exo, Robust
from prefloop_testing import LossSuite


class TestRobust(LossSuite):
    component = Robust()


class TestExo(LossSuite):
    component = Exo()


class TestApoZero(LossSuite):
    component = ApoZero()


class TestApoDown(LossSuite):
    component = ApoDown()


class TestNca(LossSuite):
    component = Nca()


class TestSppoHard(LossSuite):
    component = SppoHard()


class TestLengthDpo(LossSuite):
    component = LengthDpo()


Numbers = Any
Reference = Callable[[Numbers, Numbers], Numbers]
"""From the chosen and the rejected log-ratios, float64 ``[B]``, to the loss of each pair."""

POLICY_CHOSEN = np.array([-12.5, -40.0, -3.25, -90.0, -20.0])
POLICY_REJECTED = np.array([-14.0, -22.5, -80.0, -1.5, -20.0])
REFERENCE_CHOSEN = np.array([-15.0, -41.5, -30.0, -60.0, -20.0])
REFERENCE_REJECTED = np.array([-13.0, -20.0, -60.0, -9.5, -20.0])
CHOSEN_TOKENS, REJECTED_TOKENS = np.array([5.0, 40.0, 1.0, 30.0, 9.0]), np.array([7.0, 9.0, 64.0, 3.0, 9.0])


def logistic(x: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-x))


def dpo(chosen: Numbers, rejected: Numbers, beta: float) -> Numbers:
    return -np.log(logistic(beta * (chosen - rejected)))


def robust(beta: float, e: float) -> Reference:
    return lambda c, r: ((1 - e) * dpo(c, r, beta) - e * dpo(r, c, beta)) / (1 - 2 * e)


def exo(beta: float, e: float) -> Reference:
    def divergence(c: Numbers, r: Numbers) -> Numbers:
        p, label = logistic(beta * (c - r)), 1 - e
        return p * np.log(p / label) + (1 - p) * np.log((1 - p) / (1 - label))

    return divergence


def apo_zero(beta: float) -> Reference:
    return lambda c, r: 1 - logistic(beta * c) + logistic(beta * r)


def apo_down(beta: float) -> Reference:
    return lambda c, r: logistic(beta * c) + 1 - logistic(beta * (c - r))


def nca(beta: float) -> Reference:
    def contrast(c: Numbers, r: Numbers) -> Numbers:
        against = np.log(logistic(-beta * c)) + np.log(logistic(-beta * r))
        return -np.log(logistic(beta * c)) - 0.5 * against

    return contrast


def sppo_hard(beta: float) -> Reference:
    eta = 1 / beta
    return lambda c, r: (c - eta * (1 - 0.5)) ** 2 + (r - eta * (0 - 0.5)) ** 2


def length_dpo(beta: float, alpha: float) -> Reference:
    extra = alpha * CHOSEN_TOKENS - alpha * REJECTED_TOKENS
    return lambda c, r: -np.log(logistic(beta * c - beta * r + extra))


CASES: list[tuple[Loss, Reference]] = [
    (Robust(), robust(0.1, 0.1)),
    (Robust(beta=0.5, epsilon=0.3), robust(0.5, 0.3)),
    (Exo(), exo(0.1, 1e-3)),
    (Exo(beta=0.3, epsilon=0.2), exo(0.3, 0.2)),
    (ApoZero(), apo_zero(0.1)),
    (ApoZero(beta=0.02), apo_zero(0.02)),
    (ApoDown(), apo_down(0.1)),
    (ApoDown(beta=0.02), apo_down(0.02)),
    (Nca(), nca(0.1)),
    (Nca(beta=0.3), nca(0.3)),
    (SppoHard(), sppo_hard(0.001)),
    (SppoHard(beta=0.1), sppo_hard(0.1)),
    (LengthDpo(), length_dpo(0.1, 0.01)),
    (LengthDpo(beta=0.3, alpha=0.05), length_dpo(0.3, 0.05)),
]
LOSSES = [Robust(), Exo(), ApoZero(), ApoDown(), Nca(), SppoHard(), LengthDpo()]


def as_mlx(array: Numbers) -> mx.array:
    return mx.array(array.astype(np.float32))


def scores(chosen: mx.array, rejected: mx.array) -> Scores:
    """Scores of a policy that gives the completions these log-probabilities."""
    reference = as_mlx(REFERENCE_CHOSEN), as_mlx(REFERENCE_REJECTED)
    tokens = as_mlx(CHOSEN_TOKENS), as_mlx(REJECTED_TOKENS)
    return Scores(chosen, rejected, *reference, *tokens, mx.ones(chosen.shape))


def pair(chosen: float, rejected: float) -> Scores:
    """Scores of one pair with these log-ratios and equal lengths."""
    one, zero = mx.ones(1), mx.zeros(1)
    return Scores(chosen * one, rejected * one, zero, zero, one, one, one)


@pytest.mark.parametrize(("loss", "reference"), CASES, ids=lambda case: getattr(case, "__name__", repr(case)))
def test_values_and_gradients_agree_with_numpy(loss: Loss, reference: Reference) -> None:
    policy = as_mlx(POLICY_CHOSEN), as_mlx(POLICY_REJECTED)
    chosen, rejected = POLICY_CHOSEN - REFERENCE_CHOSEN, POLICY_REJECTED - REFERENCE_REJECTED
    np.testing.assert_allclose(loss(scores(*policy)), reference(chosen, rejected), rtol=1e-5, atol=1e-6)

    gradients = mx.grad(lambda c, r: loss(scores(c, r)).sum(), argnums=(0, 1))(*policy)
    h = 1e-5
    for gradient, (c, r) in zip(gradients, [(h, 0.0), (0.0, h)], strict=True):
        up, down = (reference(chosen + s * c, rejected + s * r) for s in (1, -1))
        np.testing.assert_allclose(gradient, (up - down) / (2 * h), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("chosen", [1e4, 0.0, -1e4])
@pytest.mark.parametrize("rejected", [1e4, 0.0, -1e4])
def test_finite_at_extreme_log_ratios(loss: Loss, chosen: float, rejected: float) -> None:
    def value(c: mx.array, r: mx.array) -> mx.array:
        return loss(Scores(c, r, 0 * c, 0 * r, mx.ones(1), mx.ones(1), mx.ones(1))).sum()

    found, gradients = mx.value_and_grad(value, argnums=(0, 1))(mx.array([chosen]), mx.array([rejected]))
    assert all(mx.isfinite(x).all() for x in (found, *gradients))


def test_robust_without_flips_is_dpo_and_undoes_flips_on_average() -> None:
    sigmoid = component("loss", "sigmoid")(beta=0.1)
    assert Robust(epsilon=0.0)(pair(3.0, -2.0)).item() == pytest.approx(sigmoid(pair(3.0, -2.0)).item())

    loss, e = Robust(epsilon=0.2), 0.2
    expected = (1 - e) * loss(pair(3.0, -2.0)).item() + e * loss(pair(-2.0, 3.0)).item()
    assert expected == pytest.approx(sigmoid(pair(3.0, -2.0)).item(), rel=1e-5)


def test_exo_is_zero_where_the_policy_says_what_the_label_says() -> None:
    margin = math.log(0.8 / 0.2) / 0.1
    assert Exo(epsilon=0.2)(pair(margin, 0.0)).item() == pytest.approx(0.0, abs=1e-6)
    assert Exo(epsilon=0.2)(pair(2 * margin, 0.0)).item() > 0.05  # it rises again beyond


DIRECTIONS: list[tuple[Loss, tuple[int, int]]] = [
    (ApoZero(), (1, -1)),
    (ApoDown(), (-1, -1)),
    (Nca(), (1, -1)),
    (SppoHard(), (1, -1)),
]


@pytest.mark.parametrize(("loss", "directions"), DIRECTIONS, ids=lambda case: type(case).__name__)
def test_where_the_first_step_takes_each_completion(loss: Loss, directions: tuple[int, int]) -> None:
    """At policy = reference, but for APO-down, whose two terms on the chosen one cancel there."""
    one, start = mx.ones(1), mx.array([5.0 if isinstance(loss, ApoDown) else 0.0])

    def value(c: mx.array, r: mx.array) -> mx.array:
        return loss(Scores(c, r, 0 * one, 0 * one, one, one, one)).sum()

    chosen, rejected = mx.grad(value, argnums=(0, 1))(start, -start)
    assert (-mx.sign(chosen).item(), -mx.sign(rejected).item()) == directions


def test_nca_draws_the_chosen_reward_to_log_two() -> None:
    at = math.log(2) / 0.1
    slope = mx.grad(lambda c: Nca()(Scores(c, 0 * c, 0 * c, 0 * c, 1 + c, 1 + c, c)).sum())(mx.array([at]))
    assert slope.item() == pytest.approx(0.0, abs=1e-7)


def test_a_longer_chosen_completion_has_part_of_its_margin_already() -> None:
    one, zero = mx.ones(1), mx.zeros(1)
    longer = Scores(zero, zero, zero, zero, 60 * one, 10 * one, one)
    assert LengthDpo(alpha=0.02)(longer).item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert LengthDpo(alpha=0.0)(longer).item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Robust(epsilon=0.5), "'epsilon' must be < 0.5"),
        (lambda: Exo(epsilon=0.0), "'epsilon' must be > 0"),
        (lambda: Nca(beta=0.0), "'beta' must be > 0"),
        (lambda: ApoZero(beta=math.inf), "'beta' must be < inf"),
        (lambda: LengthDpo(alpha=-1.0), "'alpha' must be >= 0"),
    ],
)
def test_nonsense_is_refused(build: Callable[[], Loss], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_scores_without_the_reference_are_refused() -> None:
    one = mx.ones(1)
    for loss in LOSSES:
        with pytest.raises(ValueError, match="add 'reference' to the component's needs"):
            loss(Scores(one, one, None, None, one, one, one))


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("robust", Robust),
        ("exo", Exo),
        ("apo-zero", ApoZero),
        ("apo-down", ApoDown),
        ("nca", Nca),
        ("sppo-hard", SppoHard),
        ("length-dpo", LengthDpo),
    ],
)
def test_is_found_by_name(name: str, cls: type) -> None:
    assert component("loss", name) is cls
    assert component("loss", f"prefloop-loss-pack:{name}") is cls


def test_the_plugin_module_imports_no_mlx() -> None:
    code = "import sys, prefloop_loss_pack as p; p.prefloop_losses(); sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
