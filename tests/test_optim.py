"""Optimizers and schedules: every one of mlx's, and their values against float64 references."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from prefloop.errors import UserError
from prefloop.optim import build_optimizer, make_schedule, optimizer_classes, schedule_functions


def rates(schedule: ScheduleConfig | None, steps: int, rate: float = 0.1) -> np.ndarray:
    """The learning rate that each of `steps` updates really used."""
    training = TrainingConfig(learning_rate=rate, schedule=schedule, optimizer=OptimizerConfig("sgd"))
    optimizer = build_optimizer(training, steps)
    weights = {"w": mx.zeros(1)}
    used = []
    for _ in range(steps):
        before = weights["w"].item()
        weights = optimizer.apply_gradients({"w": mx.ones(1)}, weights)
        used.append(before - weights["w"].item())
    return np.array(used)


def test_optimizers_and_schedules_of_mlx_are_listed() -> None:
    assert {"adam", "adamw", "adafactor", "lion", "muon", "sgd", "rmsprop"} <= set(optimizer_classes())
    assert not {"optimizer", "multioptimizer"} & set(optimizer_classes())
    assert set(schedule_functions()) == {
        "constant",
        "cosine_decay",
        "exponential_decay",
        "linear_schedule",
        "step_decay",
    }


@pytest.mark.parametrize("name", sorted(optimizer_classes()))
def test_every_optimizer_moves_weights(name: str) -> None:
    optimizer = build_optimizer(TrainingConfig(optimizer=OptimizerConfig(name), learning_rate=0.01), steps=3)
    weights = optimizer.apply_gradients({"w": mx.eye(4)}, {"w": mx.ones((4, 4))})["w"]
    assert mx.isfinite(weights).all().item()
    assert (mx.diag(weights) < 1).all().item()


def test_options_reach_the_optimizer() -> None:
    training = TrainingConfig(optimizer=OptimizerConfig("adamw", {"betas": [0.8, 0.9], "weight_decay": 0.5}))
    optimizer: Any = build_optimizer(training, 1)
    assert (optimizer.betas, optimizer.weight_decay) == ([0.8, 0.9], 0.5)
    assert optimizer.learning_rate.item() == pytest.approx(1e-5)


def test_adafactor_uses_the_learning_rate() -> None:
    moved = []
    for rate in (0.01, 0.02):
        training = TrainingConfig(
            learning_rate=rate, optimizer=OptimizerConfig("adafactor", {"scale_parameter": False})
        )
        weights = build_optimizer(training, 1).apply_gradients({"w": mx.ones((2, 2))}, {"w": mx.ones((2, 2))})
        moved.append(1 - weights["w"][0, 0].item())
    assert moved[1] == pytest.approx(2 * moved[0], rel=1e-4)
    own = OptimizerConfig("adafactor", {"relative_step": True})
    optimizer: Any = build_optimizer(TrainingConfig(optimizer=own), 1)
    assert optimizer.relative_step is True


def test_without_a_schedule_the_rate_is_constant() -> None:
    np.testing.assert_allclose(rates(None, 4), 0.1, rtol=1e-5)


def test_cosine_after_warmup_lasts_to_the_end_of_the_run() -> None:
    warmup, steps, end = 4, 12, 0.02
    k = np.arange(steps, dtype=np.float64)
    decay = end + 0.5 * (0.1 - end) * (1 + np.cos(math.pi * (k - warmup) / (steps - warmup)))
    expected = np.where(k < warmup, 0.1 * k / warmup, decay)
    schedule = ScheduleConfig("cosine_decay", warmup=warmup, options={"end": end})
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-4, atol=1e-6)


def test_linear_decay_with_its_own_length() -> None:
    schedule = ScheduleConfig("linear_schedule", options={"end": 0.0, "steps": 4})
    np.testing.assert_allclose(rates(schedule, 6), [0.1, 0.075, 0.05, 0.025, 0, 0], atol=1e-6)


def test_warmup_from_a_given_rate_then_constant() -> None:
    schedule = ScheduleConfig("constant", warmup=2, warmup_init=0.05)
    np.testing.assert_allclose(rates(schedule, 4), [0.05, 0.075, 0.1, 0.1], rtol=1e-4)


def test_step_and_exponential_decay() -> None:
    stepped = ScheduleConfig("step_decay", options={"decay_rate": 0.5, "step_size": 2})
    np.testing.assert_allclose(rates(stepped, 5), [0.1, 0.1, 0.05, 0.05, 0.025], rtol=1e-4)
    decayed = ScheduleConfig("exponential_decay", options={"decay_rate": 0.5})
    np.testing.assert_allclose(rates(decayed, 3), [0.1, 0.05, 0.025], rtol=1e-4)


def test_a_schedule_length_of_null_is_the_rest_of_the_run() -> None:
    schedule = make_schedule(ScheduleConfig("cosine_decay", options={"decay_steps": None}), 0.1, 8)
    assert schedule(mx.array(8)).item() == pytest.approx(0.0, abs=1e-7)
    assert schedule(mx.array(4)).item() == pytest.approx(0.05, rel=1e-5)


def test_a_warmup_as_long_as_the_run() -> None:
    training = TrainingConfig(schedule=ScheduleConfig("constant", warmup=5))
    with pytest.raises(UserError) as caught:
        build_optimizer(training, 5)
    assert caught.value.problems == (
        (
            "training.schedule.warmup: 5 steps of warm-up leave nothing of a run of 5 steps. "
            "Shorten it, or train for longer."
        ),
    )


@pytest.mark.parametrize(("name", "length"), [("cosine_decay", "decay_steps"), ("step_decay", "step_size")])
def test_schedule_lengths_below_one_are_refused(name: str, length: str) -> None:
    with pytest.raises(ValueError, match=f"{length} must be at least 1, not 0"):
        make_schedule(ScheduleConfig(name, options={length: 0}), 0.1, 8)
