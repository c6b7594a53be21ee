"""An arm: one setting of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from prefloop.types import Ties

Options = Mapping[str, Any]
SMOLLM2 = "smollm2"
"""The model of a judge that is SmolLM2-135M-Instruct."""


@frozen
class Arm:
    """One setting that is compared with others; every part of it is as in a configuration file."""

    name: str
    task: str = "warm"
    sampler: Options = field(factory=lambda: {"use": "policy"})
    judge: Options = field(factory=lambda: {"use": "faulty"})
    labels: int = 0
    """How many true labels on pairs of the start a judge that learns hears before training."""
    loss: Options = field(factory=lambda: {"use": "sigmoid"})
    bonuses: Sequence[Options] = ()
    ties: Ties = "drop"
    steps: int = 40
    batch: int = 8
    rollout: int = 1
    epochs: int = 1
    """Passes over a file of ``steps * batch`` judged pairs, where the sampler is ``dataset``."""
    learning_rate: float = 1e-4
    optimizer: Options = field(factory=dict)
    adapter: Options = field(factory=dict)
    bits: int = 0
    """Of the weights of the base, where it is quantized."""
    evaluations: int = 4
