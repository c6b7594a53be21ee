"""What every loss and every bonus must do: one value per pair, right gradients, and true needs."""

from __future__ import annotations

import math
from collections.abc import Set
from itertools import pairwise
from typing import Any, ClassVar, cast, get_args

import mlx.core as mx
import numpy as np

from prefloop.components import BaseBonus, adapt
from prefloop.types import Need, Progress, Scores
from prefloop_testing.samples import EXTREME, ORDINARY, PAIRS, SAID, Base, scores_at
from prefloop_testing.suite import ComponentSuite, check_restoring, listed, note, skip

RATIOS = np.array([(-1.5, 0.5, 1.25, -0.75, 0.4), (0.7, -0.4, 1.5, -1.25, -0.5)])
"""Log-ratios of policy to reference, ``[2, B]`` as in `Base`; none is zero, where some terms have a kink."""
REACH = 1e4
"""The largest margin that is tried, in nats."""
STEP = 1 / 16
"""Of finite differences: a float32 sum near 100 resolves about 1e-5."""
MARGINS = (-2.0, -1.0, 0.0)
"""Nats by which the chosen completion gained on the rejected one. Losses with a target have it above zero."""
PROGRESS = Progress(step=1, steps=10, epoch=0.0, epochs=1.0)


class ScoredSuite(ComponentSuite):
    """Tests of a component that turns `Scores` into one value per pair."""

    @property
    def needs(self) -> Set[str]:
        needs: Set[str] = self.claims("needs")
        return needs

    def call(self, scores: Scores) -> Any:
        """The component's values for `scores`, whatever they are."""
        return self.component(scores)

    def values(self, ratios: Any = RATIOS, base: Base = ORDINARY) -> Any:
        """The values at given log-ratios; an exception fails the test."""
        try:
            return self.call(scores_at(ratios, self.needs, base))
        except Exception as error:
            raise AssertionError(
                f"it raised {type(error).__name__} ({error}) on scores that hold what its needs ask for "
                f"({listed(self.needs) or 'nothing'}): a run would end at its first step. "
                "Does `needs` leave something out?"
            ) from error

    def gradient(self, ratios: Any = RATIOS, base: Base = ORDINARY) -> mx.array:
        """The derivative of the sum over the pairs in the log-ratios, ``[2, B]``."""
        total = mx.grad(lambda at: self.call(scores_at(at, self.needs, base)).sum())
        gradient: mx.array = total(mx.array(ratios, mx.float32))
        return gradient

    def test_needs_are_known(self) -> None:
        known = set(get_args(Need))
        unknown = listed(self.needs - known)
        assert not unknown, (
            f"its needs name {unknown}, but scoring knows only {listed(known)}: a configuration with it "
            "would be refused."
        )

    def test_one_value_per_pair(self) -> None:
        values = self.values()
        assert isinstance(values, mx.array), f"it returned {type(values).__name__}, not an mx.array."
        wrong = f"its values have shape {values.shape}, not ({len(ORDINARY)},)"
        assert values.shape != (), f"{wrong}: it reduces, so pairs and ties would lose their weights."
        assert values.shape == (len(ORDINARY),), f"{wrong}: a run would end at its first step."
        alone = self.values(RATIOS[:, :1], ORDINARY.only(slice(1)))
        assert alone.shape == (1,), f"a single pair gives shape {alone.shape}, not (1,): small batches fail."

    def test_a_pair_alone_as_in_a_batch(self) -> None:
        together = self.values()
        for i, value in enumerate(together.tolist() if together.ndim == 1 else ()):
            two = slice(
                i - i % 2, i - i % 2 + 2
            )  # two, as samples of the reference stand in every other place
            alone = self.values(RATIOS[:, two], ORDINARY.only(two)).tolist()[i % 2]
            assert math.isclose(alone, value, rel_tol=1e-5, abs_tol=1e-9), (
                f"pair {i} is worth {value:.6g} among {len(ORDINARY)} pairs and {alone:.6g} in a smaller "
                "batch: the result would change with training.batch_size and gradient accumulation."
            )

    def test_finite_at_extreme_margins(self) -> None:
        ratios = np.array([(REACH, -REACH, 0.0, 0.0), (0.0, 0.0, REACH, -REACH)])
        margins = [int(margin) for margin in ratios[0] - ratios[1]]
        for margin, value in zip(margins, self.values(ratios, EXTREME).reshape(-1).tolist(), strict=False):
            assert math.isfinite(value), (
                f"at a margin of {margin} it is {value}: a step with such a pair would be skipped. Write it "
                "with mx.logaddexp, or clip it."
            )
        gradient = self.gradient(ratios, EXTREME)
        assert mx.isfinite(gradient).all().item(), (
            f"at margins of {margins} its gradient is {gradient.tolist()}: a step with such a pair would be "
            "skipped."
        )

    def test_same_compiled(self) -> None:
        function = mx.compile(lambda ratios: self.call(scores_at(ratios, self.needs)))
        for moved in (0.0, 0.25):  # the second call reuses what the first one compiled
            ratios = mx.array(RATIOS + np.array([[moved], [0.0]]), mx.float32)
            try:
                compiled = function(ratios)
                mx.eval(compiled)
            except Exception as error:
                raise AssertionError(
                    f"it cannot be compiled by mx.compile ({error}): it reads an array's value while it is "
                    "traced (`.item()`, `float(...)` or an `if` on an array). Use mx.where instead."
                ) from error
            plain = self.values(ratios)
            assert mx.allclose(compiled, plain, rtol=1e-4, atol=1e-6).item(), (
                f"compiled by mx.compile it gives {_rounded(compiled)}, otherwise {_rounded(plain)}: it "
                "depends on something besides its scores, which compiling freezes."
            )

    def test_gradient_is_that_of_its_values(self) -> None:
        gradient = self.gradient()
        for side, name in enumerate(("chosen", "rejected")):
            step = STEP * np.eye(2)[:, side : side + 1]
            up, down = self.values(RATIOS + step), self.values(RATIOS - step)
            expected = (up - down) / (2 * STEP)
            scale = max(_largest(expected), _largest(up) / 100, 1e-30)
            assert _largest(gradient[side] - expected) / scale < 0.02, (
                f"its gradient in the {name} log-probabilities is {_rounded(gradient[side])}, but finite "
                f"differences of its values say {_rounded(expected)}: training would not lower its values."
            )

    def test_reads_the_reference_that_it_asks_for(self) -> None:
        """Reported, not asserted: without the need, a forward pass per step is saved."""
        if self.needs != {"reference"}:
            return
        shift = np.array([[1.0], [-2.0]])  # moves the reference and leaves the policy where it is
        moved = self.values(RATIOS - shift, Base(ORDINARY.reference + shift, ORDINARY.tokens))
        if mx.allclose(moved, self.values(), rtol=1e-5).item():
            note("it never reads the reference: `needs = frozenset()` would save a forward pass per step.")


class LossSuite(ScoredSuite):
    """Tests of a loss. One whose ``needs`` leave out the reference gets scores without it."""

    kind: ClassVar[str] = "loss"

    def test_falls_as_the_margin_grows(self) -> None:
        halves = np.array([0.5, -0.5])[:, None] * np.ones(len(ORDINARY))
        values = [self.values(margin * halves).reshape(-1).tolist() for margin in MARGINS]
        for pair in zip(*values, strict=True):
            assert all(high > low for high, low in pairwise(pair)), (
                f"at margins of {', '.join(map(str, MARGINS))} it is {', '.join(f'{v:.6g}' for v in pair)}, "
                "which does not fall: the policy would not learn to prefer what the judge prefers. "
                "Are chosen and rejected swapped, or is the sign wrong?"
            )


class BonusSuite(ScoredSuite):
    """Tests of a bonus. Its class may claim two things, which are then tested:

    - ``sign = 1`` (a reward, never negative) or ``sign = -1`` (a penalty, never positive);
    - ``zero_at_reference = True``: zero where the policy equals the reference, and not elsewhere.
    """

    kind: ClassVar[str] = "bonus"

    def call(self, scores: Scores) -> Any:
        return self.component(scores, PROGRESS)

    def test_has_a_gradient(self) -> None:
        assert mx.any(self.gradient() != 0).item(), (
            "its gradient in the policy's log-probabilities is zero: it costs time and changes nothing."
        )

    def test_sign(self) -> None:
        """Asserted where the class claims a sign."""
        sign = self.claims("sign")
        if sign is None:
            return
        assert sign in (1, -1), f"its class says sign = {sign!r}, which is neither 1 nor -1."
        for value in self.values().reshape(-1).tolist():
            assert sign * value >= 0, (
                f"its class says sign = {sign}, but a pair is worth {value:.6g}. Bonuses are subtracted from "
                f"the loss, so the pair would be {'penalised' if sign > 0 else 'rewarded'}."
            )

    def test_zero_where_policy_equals_reference(self) -> None:
        """Asserted where the class claims it."""
        if not self.claims("zero_at_reference"):
            return
        for value in self.values(0 * RATIOS).reshape(-1).tolist():
            assert abs(value) < 1e-6, (
                f"its class says zero_at_reference, but a pair is worth {value:.6g} where the policy equals "
                "the reference: it would change the policy from the first step on, whatever the judge says."
            )
        assert mx.any(self.values() != 0).item(), (
            "it is zero even where the policy differs from the reference: it does nothing."
        )

    def test_what_it_learns_is_in_its_state(self) -> None:
        """A bonus that learns takes labels, ties and skips, and its state holds what it knows."""
        bonus = adapt(self.component, BaseBonus)
        if type(bonus).learn is BaseBonus.learn:
            skip("the bonus does not learn")
        bonus.learn([], [])
        bonus.learn(PAIRS, SAID)
        state, values = dict(bonus.state()), self.values().tolist()
        assert state, "the bonus learns, and its state holds nothing: a resumed run would give other values."
        check_restoring(bonus, state)
        assert self.values().tolist() == values, (
            "restore(state()) changes its values: a resumed run would give others."
        )


def _largest(values: mx.array) -> float:
    return float(cast("float", mx.abs(values).max().item()))


def _rounded(values: mx.array) -> list[float]:
    flat = cast("list[float]", values.reshape(-1).tolist())
    return [float(f"{value:.4g}") for value in flat]
