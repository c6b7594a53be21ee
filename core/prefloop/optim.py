"""Optimizers and learning-rate schedules of `mlx.optimizers`, by name, with a warm-up in front."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from mlx import optimizers
from mlx.optimizers import schedulers

from prefloop.errors import UserError

if TYPE_CHECKING:
    from prefloop.settings import OptimizerConfig, ScheduleConfig, TrainingConfig

Schedule = Callable[[mx.array], mx.array]

LEARNING_RATE = ("learning_rate", "init")
"""Parameters that always come from ``training.learning_rate``."""

LENGTHS = ("decay_steps", "steps")
"""Parameters that are the steps which remain after the warm-up, unless given."""


def optimizer_classes() -> dict[str, Callable[..., optimizers.Optimizer]]:
    """Every optimizer class of mlx by its name in lower case, such as ``adamw``."""
    left_out = (optimizers.Optimizer, optimizers.MultiOptimizer)
    return {
        name.lower(): cls
        for name, cls in vars(optimizers).items()
        if inspect.isclass(cls) and issubclass(cls, optimizers.Optimizer) and cls not in left_out
    }


def schedule_functions() -> dict[str, Callable[..., Schedule]]:
    """Every schedule of mlx by name, such as ``cosine_decay``, and ``constant``."""
    found = {
        name: function
        for name, function in vars(schedulers).items()
        if inspect.isfunction(function) and next(iter(inspect.signature(function).parameters)) == "init"
    }
    return {"constant": constant, **found}


def constant(init: float) -> Schedule:
    """The learning rate as it is, for a warm-up without a decay."""
    return lambda _: mx.array(init)


def build_optimizer(training: TrainingConfig, steps: int) -> optimizers.Optimizer:
    """The optimizer for a run of `steps` updates, with its learning-rate schedule.

    Raises `UserError` where the warm-up leaves no step for the schedule.
    """
    rate, schedule = training.learning_rate, training.schedule
    return make_optimizer(training.optimizer, make_schedule(schedule, rate, steps) if schedule else rate)


def make_optimizer(config: OptimizerConfig, rate: float | Schedule) -> optimizers.Optimizer:
    """The optimizer that `config` names. Raises `ValueError` where mlx refuses an option."""
    options: dict[str, Any] = dict(config.options)
    if config.use == "adafactor":
        # With mlx's default of true, Adafactor would silently leave the learning rate aside.
        options.setdefault("relative_step", False)
    return optimizer_classes()[config.use](learning_rate=rate, **options)


def make_schedule(config: ScheduleConfig, rate: float, steps: int) -> Schedule:
    """The schedule over `steps` updates: linear from ``warmup_init`` to `rate`, then what is named.

    Raises `UserError` where nothing remains after the warm-up, `ValueError` for a length below 1.
    """
    remaining = steps - config.warmup
    if remaining < 1:
        raise UserError(
            f"training.schedule.warmup: {config.warmup} steps of warm-up leave nothing of a run of {steps} "
            "steps. Shorten it, or train for longer."
        )
    function = schedule_functions()[config.use]
    options = {name: value for name, value in config.options.items() if value is not None}
    for name in (*LENGTHS, "step_size"):
        if options.get(name, 1) < 1:
            raise ValueError(f"{name} must be at least 1, not {options[name]}.")
    lengths = {name: remaining for name in LENGTHS if name in inspect.signature(function).parameters}
    schedule = function(rate, **{**lengths, **options})
    if config.warmup == 0:
        return schedule
    warmup = schedulers.linear_schedule(config.warmup_init, rate, config.warmup)
    return schedulers.join_schedules([warmup, schedule], [config.warmup])
