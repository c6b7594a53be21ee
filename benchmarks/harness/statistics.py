"""Means over seeds with the interval that they leave open, and ratios of two sides round by round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median, stdev

from attrs import frozen

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom."""
MOST_SEEDS = len(STUDENT) + 1
MINUS = "\N{MINUS SIGN}"


@frozen
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def text(self, *, sign: bool = False) -> str:
        """Two decimals, or one from 10 on: ``0.91 (0.89 to 0.93)``; with `sign`, plus signs as well."""
        digits = 1 if abs(self.mean) >= 10 else 2
        rounded = (round(x, digits) + 0.0 for x in (self.mean, self.low, self.high))  # no minus zero
        shown = (f"{x:{'+' if sign else ''}.{digits}f}" for x in rounded)
        mean, low, high = (text.replace("-", MINUS) for text in shown)
        return f"{mean} ({low} to {high})"


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of 2 to 10 values, by Student's t."""
    return STUDENT[len(values) - 2] * stdev(values) / math.sqrt(len(values))


def interval(values: Sequence[float], *, share: bool = False) -> Interval:
    """The mean of 2 to 10 values and Student's interval, which takes them for normally distributed.

    Shares are not, where most seeds are near 0 or 1; their interval ends there.
    """
    mean = fmean(values)
    half = half_width(values)
    low, high = mean - half, mean + half
    return Interval(mean, max(low, 0.0), min(high, 1.0)) if share else Interval(mean, low, high)


def win_rate(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Prompt by prompt, over all pairs of an answer's worth with one of the others'; a tie is half a win."""
    pairs = [(a, b) for own, other in zip(ours, theirs, strict=True) for a in own for b in other]
    return fmean((a > b) + (a == b) / 2 for a, b in pairs)


@frozen
class Ratio:
    """How many times less the second of two sides takes.

    The ratio is taken within each round, so that both sides met the same machine: the middle one, and the
    range.
    """

    median: float
    low: float
    high: float


def paired(firsts: Sequence[float], seconds: Sequence[float]) -> Ratio:
    """Ratios of `firsts` to `seconds`, round by round. Raises `ValueError` where rounds are missing."""
    ratios = sorted(first / second for first, second in zip(firsts, seconds, strict=True))
    return Ratio(median(ratios), ratios[0], ratios[-1])


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(fmean(map(math.log, values)))
