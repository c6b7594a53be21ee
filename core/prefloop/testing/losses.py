"""What every loss must do."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from prefloop.testing.samples import ORDINARY
from prefloop.testing.scored import ScoredSuite

MARGINS = (-2.0, -1.0, 0.0)
"""Nats by which the chosen completion gained on the rejected one. Losses with a target have it above zero."""


class LossSuite(ScoredSuite):
    """Tests of a loss. One whose ``needs`` leave out the reference gets scores without it."""

    kind: ClassVar[str] = "loss"

    def test_falls_as_the_margin_grows(self) -> None:
        count = len(ORDINARY)
        values = [self.values([m / 2] * count, [-m / 2] * count).reshape(-1).tolist() for m in MARGINS]
        for i in range(len(values[0])):
            here = [row[i] for row in values]
            assert all(high > low for high, low in pairwise(here)), (
                f"at margins of {', '.join(map(str, MARGINS))} it is {', '.join(f'{v:.6g}' for v in here)}, "
                "which does not fall: training would not teach the policy to prefer what the judge prefers. "
                "Are chosen and rejected, or the sign, the wrong way round?"
            )
