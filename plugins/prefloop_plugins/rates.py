"""How rates and numbers are written for people, in one way wherever they are shown."""

from __future__ import annotations

import math

from prefloop import Rate

NOTHING = "-"
"""Stands for a number that there is not."""


def interval(rate: Rate) -> str:
    """A rate with its 95 % interval: ``64% (55% to 73%)``."""
    return f"{rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def interval_of_pairs(rate: Rate | None) -> str:
    """The same for a narrow column, with the number of pairs: ``64.5% (55-73) of 107``."""
    if rate is None or math.isnan(rate.rate):
        return NOTHING
    return f"{rate.rate:.1%} ({100 * rate.low:.0f}-{100 * rate.high:.0f}) of {rate.pairs}"


def formatted(value: float | None, form: str) -> str:
    """A number in a format; None and NaN are `NOTHING`."""
    return NOTHING if value is None or math.isnan(value) else f"{value:{form}}"
