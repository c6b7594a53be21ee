"""prefloop's losses beside what TRL's gave for the same log-probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from attrs import frozen
from benchmarks.harness.internals import number
from benchmarks.harness.workers import ROOT

from prefloop import Loss, Scores, component

FIXTURE = ROOT / "tests" / "trl_losses.json"
"""What `trl_losses_worker` reported."""
OPTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("DPOTrainer", "ipo"): {"average": "tokens"},
    ("OnlineDPOTrainer", "ipo"): {"average": "sums"},
}
"""What makes prefloop's loss the one that TRL's trainer means by that name; nothing for the others."""


@frozen
class Comparison:
    """One loss at one beta: the mean over the pairs on both sides, and the largest differences."""

    trainer: str
    loss: str
    beta: float
    options: Mapping[str, Any]
    theirs: float
    ours: float
    gradient_difference: float
    """Over all tokens, in the gradient of the sum over the pairs, so that no mean makes it small."""

    @property
    def value_difference(self) -> float:
        return abs(self.ours - self.theirs)


def compare(fixture: Mapping[str, Any]) -> list[Comparison]:
    """Every case of the fixture."""
    tables = {name: mx.array(np.array(value, np.float32)) for name, value in fixture["tables"].items()}
    return [_compare(case, tables) for case in fixture["cases"]]


def build(trainer: str, loss: str, beta: float) -> Loss:
    """prefloop's loss that computes what TRL's `trainer` calls `loss`."""
    found: Loss = component("loss", loss)(beta=beta, **OPTIONS.get((trainer, loss), {}))
    return found


def _compare(case: Mapping[str, Any], tables: Mapping[str, mx.array]) -> Comparison:
    trainer, name, beta = case["trainer"], case["loss"], case["beta"]
    ours, gradient = value_and_gradient(build(trainer, name, beta), tables)
    theirs = np.array(case["gradient"], np.float32)
    pairs = len(theirs) // 2
    return Comparison(
        trainer=trainer,
        loss=name,
        beta=beta,
        options=OPTIONS.get((trainer, name), {}),
        theirs=case["value"],
        ours=ours,
        gradient_difference=float(np.abs(gradient - theirs).max()) * pairs,
    )


def value_and_gradient(loss: Loss, tables: Mapping[str, mx.array]) -> tuple[float, np.ndarray]:
    """The mean of `loss` over the pairs, and its gradient in the policy's table, ``[2 pairs, T]``."""

    def mean(policy: mx.array) -> mx.array:
        return loss(scores(policy, tables["reference"], tables["mask"])).mean()

    value, gradient = mx.value_and_grad(mean)(tables["policy"])
    return number(value), np.array(gradient)


def scores(policy: mx.array, reference: mx.array, mask: mx.array) -> Scores:
    """What a loss reads, from tables of log-probabilities ``[2 pairs, T]``, the chosen rows first."""
    summed = [mx.split((table * mask).sum(-1), 2) for table in (policy, reference)]
    counts = mx.split(mask.sum(-1), 2)
    (policy_chosen, policy_rejected), (reference_chosen, reference_rejected) = summed
    return Scores(
        policy_chosen=policy_chosen,
        policy_rejected=policy_rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
        chosen_tokens=counts[0],
        rejected_tokens=counts[1],
        probability=mx.ones_like(counts[0]),
    )


def largest(comparisons: Iterable[Comparison]) -> float:
    """The largest difference of all, in a value or a gradient."""
    return max(max(c.value_difference, c.gradient_difference) for c in comparisons)
