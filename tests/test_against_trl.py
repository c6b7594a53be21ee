"""prefloop's losses against TRL's, by value and by gradient.

`trl_losses.json` holds the log-probabilities and what TRL made of them; it was written by
``python -m benchmarks.others losses``, which installs TRL in an environment of its own. TRL is not needed
here.
"""

from __future__ import annotations

import json
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from benchmarks.others.losses import FIXTURE, Comparison, build, compare, value_and_gradient

ANSWERS: dict[str, Any] = json.loads(FIXTURE.read_text())
COMPARISONS = compare(ANSWERS)


@pytest.mark.parametrize("found", COMPARISONS, ids=lambda c: f"{c.trainer}-{c.loss}-{c.beta}")
def test_values_and_gradients_are_those_of_trl(found: Comparison) -> None:
    assert found.ours == pytest.approx(found.theirs, abs=1e-5)
    assert found.gradient_difference < 1e-5


def test_the_fixture_covers_every_compared_loss() -> None:
    covered = {(c.trainer, c.loss) for c in COMPARISONS}
    assert {("DPOTrainer", loss) for loss in ("sigmoid", "hinge", "ipo")} < covered
    assert ("OnlineDPOTrainer", "ipo") in covered
    hinge = next(c for c in ANSWERS["cases"] if c["loss"] == "hinge" and c["beta"] == 0.5)
    moved = np.abs(hinge["gradient"]).max(axis=-1) > 0
    assert moved.any() and not moved.all()  # pairs on both sides of the kink
    assert all(np.abs(c["gradient"]).max() > 1e-3 for c in ANSWERS["cases"])


def test_both_meanings_of_ipo_are_compared() -> None:
    """TRL's offline trainer takes means over tokens, its online trainer sums."""
    tables = {name: mx.array(value) for name, value in ANSWERS["tables"].items()}
    means, _ = value_and_gradient(build("DPOTrainer", "ipo", 0.1), tables)
    sums, _ = value_and_gradient(build("OnlineDPOTrainer", "ipo", 0.1), tables)
    theirs = {c.trainer: c.theirs for c in COMPARISONS if c.loss == "ipo" and c.beta == 0.1}
    assert means == pytest.approx(theirs["DPOTrainer"]) and sums == pytest.approx(theirs["OnlineDPOTrainer"])
    assert abs(means - sums) > 1
