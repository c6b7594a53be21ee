"""SimPO against a float64 numpy reference, and as prefloop finds it once it is installed."""

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop import Scores, component
from prefloop_loss_simpo.loss import SimPo
from prefloop_testing import LossSuite, PluginSuite


class TestConformance(LossSuite):
    component = SimPo()


class TestPlugin(PluginSuite):
    distribution = "prefloop-loss-simpo"


CHOSEN, REJECTED = np.array([-12.5, -40.0, -3.25, -90.0]), np.array([-14.0, -22.5, -80.0, -1.5])
CHOSEN_TOKENS, REJECTED_TOKENS = np.array([5.0, 40.0, 1.0, 30.0]), np.array([7.0, 9.0, 64.0, 3.0])


def scores(chosen: mx.array, rejected: mx.array) -> Scores:
    ones = mx.ones(chosen.shape)
    tokens = mx.array(CHOSEN_TOKENS.astype(np.float32)), mx.array(REJECTED_TOKENS.astype(np.float32))
    return Scores(chosen, rejected, None, None, *tokens, ones)


def as_mlx(*arrays: Any) -> list[mx.array]:
    return [mx.array(a.astype(np.float32)) for a in arrays]


def reference(chosen: Any, rejected: Any, beta: float, gamma: float) -> Any:
    x = beta * (chosen / CHOSEN_TOKENS - rejected / REJECTED_TOKENS) - gamma
    return np.logaddexp(0.0, -x)


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 1.0), (2.5, 0.0), (0.5, 3.0)])
def test_values_and_gradients_agree_with_numpy(beta: float, gamma: float) -> None:
    loss = SimPo(beta=beta, gamma=gamma)
    found = loss(scores(*as_mlx(CHOSEN, REJECTED)))
    np.testing.assert_allclose(found, reference(CHOSEN, REJECTED, beta, gamma), rtol=1e-5)

    gradients = mx.grad(lambda c, r: loss(scores(c, r)).sum(), argnums=(0, 1))(*as_mlx(CHOSEN, REJECTED))
    h = 1e-5
    for gradient, (c, r) in zip(gradients, [(h, 0.0), (0.0, h)], strict=True):
        up, down = (reference(CHOSEN + s * c, REJECTED + s * r, beta, gamma) for s in (1, -1))
        np.testing.assert_allclose(gradient, (up - down) / (2 * h), rtol=1e-5, atol=1e-9)


def test_by_hand() -> None:
    # mean log-probabilities -0.5 and -1.5, so beta * 1 - gamma = 1
    one = mx.ones(1)
    pair = Scores(mx.array([-2.0]), mx.array([-3.0]), None, None, 4 * one, 2 * one, one)
    assert SimPo()(pair).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_defaults_are_the_papers_and_nonsense_is_refused() -> None:
    assert (SimPo().beta, SimPo().gamma) == (2.0, 1.0)
    with pytest.raises(ValueError, match="'beta' must be > 0"):
        SimPo(beta=0.0)
    with pytest.raises(ValueError, match="'gamma' must be >= 0"):
        SimPo(gamma=-1.0)


def test_is_found_by_name_and_asks_for_nothing() -> None:
    assert component("loss", "simpo") is SimPo
    assert component("loss", "prefloop-loss-simpo:simpo") is SimPo
    assert SimPo().needs == frozenset()
