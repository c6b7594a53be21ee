"""What losses and bonuses have in common: one value per pair, right gradients, and true needs."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, cast, get_args

import mlx.core as mx

from prefloop.testing.running import note
from prefloop.testing.samples import EXTREME, ORDINARY, Base, scores_at
from prefloop.testing.suite import ComponentSuite
from prefloop.types import Need, Scores

CHOSEN, REJECTED = (-1.5, 0.5, 1.25, -0.75, 0.4), (0.7, -0.4, 1.5, -1.25, -0.5)
"""Log-ratios of policy to reference, away from zero, where some terms have a kink."""
REACH = 1e4
STEP = 1 / 16
"""Of finite differences: a float32 sum near 100 resolves about 1e-5."""


class ScoredSuite(ComponentSuite):
    """Tests of a component that turns `Scores` into one value per pair."""

    @property
    def needs(self) -> Set[str]:
        needs: Set[str] = getattr(self.component, "needs", frozenset({"reference"}))
        return needs

    def call(self, scores: Scores) -> Any:
        """The component's values for `scores`, whatever they are."""
        return self.component(scores)

    def values(self, chosen: Any, rejected: Any, base: Base = ORDINARY) -> Any:
        """The values at log-ratios `chosen` and `rejected`; an exception fails the test."""
        scores = scores_at(mx.array(chosen), mx.array(rejected), self.needs, base)
        try:
            return self.call(scores)
        except Exception as error:
            raise AssertionError(
                f"{type(error).__name__} ({error}) on scores that hold what its needs ask for "
                f"({_listed(self.needs)}): a run ends at its first step. Does `needs` leave something out?"
            ) from error

    def total(self, chosen: mx.array, rejected: mx.array) -> mx.array:
        """The sum over the pairs, for gradients."""
        total: mx.array = self.call(scores_at(chosen, rejected, self.needs)).sum()
        return total

    def test_needs_are_known(self) -> None:
        unknown = self.needs - set(get_args(Need))
        assert not unknown, (
            f"its needs name {_listed(unknown)}, which scoring does not know (it knows "
            f"{_listed(set(get_args(Need)))}): a configuration with it would be refused."
        )

    def test_one_value_per_pair(self) -> None:
        values = self.values(CHOSEN, REJECTED)
        shape = getattr(values, "shape", None)
        wrong = f"its values have shape {shape}, not ({len(ORDINARY)},)"
        assert isinstance(values, mx.array), f"it returned {type(values).__name__}, not an mx.array."
        assert shape != (), f"{wrong}: it reduces, so the weight of a pair and a tie's half would be lost."
        assert shape == (len(ORDINARY),), f"{wrong}: the run ends at its first step, or weighs wrong pairs."
        alone = self.values(CHOSEN[:1], REJECTED[:1], ORDINARY.only(slice(1)))
        assert alone.shape == (1,), f"a single pair gives shape {alone.shape}, not (1,): small batches fail."

    def test_a_pair_alone_as_in_a_batch(self) -> None:
        together = self.values(CHOSEN, REJECTED)
        for i, value in enumerate(together.tolist() if together.ndim == 1 else ()):
            parts = slice(2 * (i // 2), 2 * (i // 2) + 2)  # two by two: who is even drew from the reference
            base = ORDINARY.only(parts)
            alone = self.values(CHOSEN[parts], REJECTED[parts], base).tolist()[i % 2]
            assert _near(alone, value), (
                f"pair {i} is worth {value:.6g} among {len(ORDINARY)} pairs and {alone:.6g} in a smaller "
                "batch: the result would change with training.batch_size and gradient accumulation."
            )

    def test_finite_at_extreme_margins(self) -> None:
        chosen, rejected = [REACH, -REACH, 0.0, 0.0], [0.0, 0.0, REACH, -REACH]
        values = self.values(chosen, rejected, EXTREME)
        margins = [int(c - r) for c, r in zip(chosen, rejected, strict=True)]
        for margin, value in zip(margins, values.reshape(-1).tolist(), strict=False):
            assert abs(value) < float("inf"), (
                f"at a margin of {margin} it is {value}: one such pair and the step's gradient is undefined, "
                "so the step is lost; write it with mx.logaddexp or clip it."
            )
        sums = mx.grad(lambda c, r: self.call(scores_at(c, r, self.needs, EXTREME)).sum(), argnums=(0, 1))
        for gradient in sums(mx.array(chosen), mx.array(rejected)):
            assert mx.isfinite(gradient).all().item(), (
                f"at margins of {margins} its gradient is {gradient.tolist()}: the step that meets such a "
                "pair is lost."
            )

    def test_same_compiled(self) -> None:
        function = mx.compile(lambda c, r: self.call(scores_at(c, r, self.needs)))
        for moved in (0.0, 0.25):  # the second call takes what the first one compiled
            chosen, rejected = mx.array(CHOSEN) + moved, mx.array(REJECTED)
            try:
                compiled = function(chosen, rejected)
                mx.eval(compiled)
            except Exception as error:
                raise AssertionError(
                    f"it cannot be compiled by mx.compile ({error}): it reads an array's value while it is "
                    "traced (`.item()`, `float(...)` or an `if` on an array); use mx.where and its like."
                ) from error
            plain = self.values(chosen, rejected)
            assert mx.allclose(compiled, plain, rtol=1e-4, atol=1e-6).item(), (
                f"compiled by mx.compile it gives {_rounded(compiled)}, otherwise {_rounded(plain)}: it "
                "depends on something besides its scores that compiling freezes, and would train on that."
            )

    def test_gradient_is_that_of_its_values(self) -> None:
        at = [mx.array(CHOSEN), mx.array(REJECTED)]
        gradients = mx.grad(self.total, argnums=(0, 1))(*at)
        for side, name in enumerate(("chosen", "rejected")):
            up, down = (
                self.values(at[0] + sign * STEP * (side == 0), at[1] + sign * STEP * (side == 1))
                for sign in (1, -1)
            )
            expected = (up - down) / (2 * STEP)
            scale = max(_largest(expected), _largest(up) / 100, 1e-30)
            apart = _largest(gradients[side] - expected) / scale
            assert apart < 0.02, (
                f"its gradient in the {name} log-probabilities is {_rounded(gradients[side])}, but finite "
                f"differences of its values say {_rounded(expected)}: the policy would be moved elsewhere "
                "than to lower values of the loss."
            )

    def test_reads_the_reference_that_it_asks_for(self) -> None:
        """Reported, not asserted: without the need, a forward pass per step is saved."""
        if self.needs != {"reference"}:
            return
        moved = self.values(
            [x - 1 for x in CHOSEN], [x + 2 for x in REJECTED], ORDINARY.shifted(chosen=1, rejected=-2)
        )
        if mx.allclose(moved, self.values(CHOSEN, REJECTED), rtol=1e-5).item():
            note("it never reads the reference: `needs = frozenset()` would save a forward pass per step.")


def _largest(values: mx.array) -> float:
    return float(cast("float", mx.abs(values).max().item()))


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * max(abs(a), abs(b)) + 1e-9


def _listed(names: Set[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "nothing"


def _rounded(values: mx.array) -> list[float]:
    flat = cast("list[float]", values.reshape(-1).tolist())
    return [float(f"{value:.4g}") for value in flat]
