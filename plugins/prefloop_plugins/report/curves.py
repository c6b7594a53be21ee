"""Series of a run's metrics, made ready to be drawn: thinned, smoothed, told in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from attrs import frozen

from prefloop_plugins.report.formats import number, percent

POINTS = 240
"""How many points of a curve are drawn at most; more become means of equal stretches."""
SMOOTHED = 20
"""The moving mean is over this part of the points, to either side a half."""


@frozen
class Curve:
    """A metric over steps. `each` is as measured, or thinned to means; `mean` its moving mean."""

    steps: tuple[float, ...]
    each: tuple[float, ...]
    mean: tuple[float, ...]
    first: float
    last: float
    low: float
    high: float

    def told(self, share: bool = False) -> str:
        """What the curve does, for those who do not see it."""
        form = percent if share else number
        return (
            f"from {form(self.first)} at step {self.steps[0]:.0f} to {form(self.last)} at step "
            f"{self.steps[-1]:.0f}, between {form(self.low)} and {form(self.high)}"
        )


def curve(steps: Sequence[Mapping[str, float]], metric: str) -> Curve | None:
    """The curve of a metric; None where no step has it. First and last are of the moving mean."""
    rows = [(s["step"], s[metric]) for s in steps if metric in s]
    if not rows:
        return None
    thin = thinned(rows)
    each = [value for _, value in thin]
    mean = moving_mean(each)
    values = [value for _, value in rows]
    places = tuple(step for step, _ in thin)
    return Curve(places, tuple(each), tuple(mean), mean[0], mean[-1], min(values), max(values))


def thinned(rows: Sequence[tuple[float, float]], points: int = POINTS) -> list[tuple[float, float]]:
    """Means of equal stretches of rows, at most `points` of them."""
    size = -(-len(rows) // points)
    stretches = [rows[i : i + size] for i in range(0, len(rows), size or 1)]
    return [(fmean(step for step, _ in s), fmean(value for _, value in s)) for s in stretches]


def moving_mean(values: Sequence[float], part: int = SMOOTHED) -> list[float]:
    """The centred moving mean over a `part`-th of the values to each side's half; shorter at the ends."""
    half = max(1, len(values) // part) if len(values) >= 10 else 0
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
