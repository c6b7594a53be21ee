"""Numbers as a report writes them."""

from __future__ import annotations

from prefloop.types import Rate


def percent(share: float) -> str:
    return f"{share:.0%}"


def interval(rate: Rate) -> str:
    """A rate with its 95 % interval."""
    return f"{rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}"


def change(values: tuple[float, float], form: str = ".0%") -> str:
    """``20% to 35%``."""
    return f"{values[0]:{form}} to {values[1]:{form}}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")
