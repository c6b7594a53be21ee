"""What every bonus must do."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from prefloop.testing.samples import ORDINARY
from prefloop.testing.scored import CHOSEN, REJECTED, ScoredSuite
from prefloop.types import Progress, Scores

PROGRESS = Progress(step=1, steps=10, epoch=0.0, epochs=1.0)


class BonusSuite(ScoredSuite):
    """Tests of a bonus. Its class may claim, and then has to keep:

    - ``sign = 1`` (a reward: never negative) or ``sign = -1`` (a penalty: never positive);
    - ``zero_at_reference = True``: nothing where the policy equals the reference, something elsewhere.
    """

    kind: ClassVar[str] = "bonus"

    def call(self, scores: Scores) -> Any:
        return self.component(scores, PROGRESS)

    def test_has_a_gradient(self) -> None:
        gradients = mx.grad(self.total, argnums=(0, 1))(mx.array(CHOSEN), mx.array(REJECTED))
        assert any(mx.any(g != 0).item() for g in gradients), (
            "it does not depend on the policy's log-probabilities: its gradient is zero, so it costs time "
            "and changes nothing."
        )

    def test_sign(self) -> None:
        """Asserted where the class claims a sign."""
        sign = self.claims("sign")
        if sign is None:
            return
        assert sign in (1, -1), f"its class says sign = {sign!r}, which is neither 1 nor -1."
        for value in self.values(CHOSEN, REJECTED).reshape(-1).tolist():
            assert sign * value >= 0, (
                f"its class says sign = {sign}, but a pair is worth {value:.6g}: bonuses are subtracted from "
                f"the loss, so the policy would be {'kept from' if sign > 0 else 'drawn to'} what the bonus "
                f"is to {'reward' if sign > 0 else 'penalise'}."
            )

    def test_zero_where_policy_equals_reference(self) -> None:
        """Asserted where the class claims it."""
        if not self.claims("zero_at_reference"):
            return
        zeros = [0.0] * len(ORDINARY)
        for value in self.values(zeros, zeros).reshape(-1).tolist():
            assert abs(value) < 1e-6, (
                f"its class says zero_at_reference, but a pair is worth {value:.6g} where the policy equals "
                "the reference: it would pull the policy from its very first step, whatever the judge says."
            )
        assert mx.any(self.values(CHOSEN, REJECTED) != 0).item(), (
            "it is zero also where the policy differs from the reference: it does nothing at all."
        )
