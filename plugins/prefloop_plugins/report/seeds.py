"""Runs that differ in the seed alone, taken together: means over seeds, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from attrs import frozen

from prefloop_plugins.report.records import RunFiles

SEED = "training.seed"
_ITERATIONS = 200


@frozen
class Mean:
    """A mean and its 95 % interval, which one value does not have."""

    mean: float
    low: float | None
    high: float | None
    count: int


@frozen
class Setting:
    """The finished runs with the same settings but for the seed, of so many that there are."""

    name: str
    runs: tuple[RunFiles, ...]
    count: int


def mean_of(values: Sequence[float], *, share: bool = False) -> Mean | None:
    """The mean with Student's t interval (Student 1908): ``mean ± t(n - 1) s / sqrt(n)``. None of nothing.

    That of a `share` ends at 0 and 1.
    """
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Mean(mean, None, None, 1)
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    low, high = mean - half, mean + half
    if share:
        low, high = max(0.0, low), min(1.0, high)
    return Mean(mean, low, high, len(values))


def t_quantile(freedom: int, within: float = 0.95) -> float:
    """The t between whose two signs Student's distribution with so many degrees of freedom has this share."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < within:
        high *= 2
    for _ in range(_ITERATIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < within else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """The share between -t and t: the finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for i in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * i / (i + 1)
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def win_rates(setting: Setting) -> Mapping[str, float]:
    """The win rate after training of each run that has one, by its seed."""
    return {
        run.settings.get(SEED, run.name): run.after.win_rate.rate
        for run in setting.runs
        if run.after and run.after.win_rate.pairs
    }


def difference(one: Setting, other: Setting) -> Mean | None:
    """How much higher the win rate of `one` is, over the seeds that both have: their runs go in pairs."""
    first, second = win_rates(one), win_rates(other)
    return mean_of([first[seed] - second[seed] for seed in first if seed in second])


def grouped(runs: Iterable[RunFiles]) -> list[Setting]:
    """Runs by what they have in common, each setting named by what it has of its own."""
    found: dict[tuple[tuple[str, str], ...], list[RunFiles]] = {}
    for run in runs:
        kept = {k: v for k, v in run.settings.items() if k != SEED and not k.startswith("output.")}
        found.setdefault(tuple(sorted(kept.items())), []).append(run)
    keys = dict.fromkeys(key for settings in found for key, _ in settings)
    differing = [key for key in keys if len({dict(settings).get(key) for settings in found}) > 1]
    return [
        Setting(
            ", ".join(f"{key}={dict(settings).get(key, '-')}" for key in differing) or members[0].name,
            tuple(run for run in members if run.status == "finished"),
            len(members),
        )
        for settings, members in found.items()
    ]
