"""The charts of what the judge prefers: the trained policy, and longer answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefloop_plugins.report import svg
from prefloop_plugins.report.charts import Chart, percents, run_keys, scale
from prefloop_plugins.report.formats import interval, percent
from prefloop_plugins.report.measures import length_differences, longer_wins, stretches
from prefloop_plugins.report.records import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from prefloop.types import Rate

BINS = 31
"""How many bars a histogram has at most."""


def win_rate_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """Win rate against the start over steps, with its interval."""
    shown = [(place, run) for place, run in enumerate(runs) if run.evaluations]
    if not shown:
        return None
    plot, told = svg.axes(400, 220), []
    span = max(run.evaluations[-1].step for _, run in shown) or 1
    for place, run in shown:
        shift = (place - (len(runs) - 1) / 2) * span * 0.008
        _draw(plot, place, [(e.step + shift, e.win_rate) for e in run.evaluations])
        said = "; ".join(f"step {e.step}: {interval(e.win_rate)}" for e in run.evaluations)
        told.append(f"{run.name}: {said}")
    _frame(plot)
    return Chart(
        "win-rate",
        "Win rate against the start, over steps",
        "With 95 % intervals; the dashed line is one half, where neither is preferred.",
        ". ".join(told) + ".",
        svg.drawn(plot, "win-rate"),
        run_keys(runs),
    )


def length_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """How the lengths of chosen and rejected answers differ."""
    found = [length_differences(run.judged) for run in runs]
    everything = [difference for differences in found for difference in differences]
    if not everything:
        return None
    edges = _edges(min(everything), max(everything))
    plot, told = svg.axes(), []
    for place, (run, differences) in enumerate(zip(runs, found, strict=True)):
        if not differences:
            continue
        weights = [1 / len(differences)] * len(differences)
        kind = "stepfilled" if len(runs) == 1 else "step"
        style = {"alpha": 0.75} if len(runs) == 1 else {"linewidth": 1.8}
        plot.hist(differences, edges, weights=weights, histtype=kind, color=svg.colour(place), **style)  # type: ignore[arg-type]
        above, below = (sum(sign * d > 0 for d in differences) / len(differences) for sign in (1, -1))
        told.append(
            f"{run.name}: the chosen answer is longer in {percent(above)}, shorter in {percent(below)}"
        )
    plot.axvline(0, color=svg.MUTED, linewidth=1)
    percents(plot)
    plot.set_xlabel("chosen - rejected, tokens")
    return Chart(
        "length-difference",
        "Chosen minus rejected length",
        "Labelled training pairs. To the right of zero the longer answer was chosen.",
        ". ".join(told) + ".",
        svg.drawn(plot, "length-difference"),
        run_keys(runs),
    )


def _edges(low: int, high: int) -> list[float]:
    """Edges of whole numbers of tokens, with zero in the middle of a bar."""
    width = max(1, -(-(high - low + 1) // BINS))
    width += 1 - width % 2  # an odd number of tokens has a middle
    first = -(-(-low - width // 2) // width) if low < -(width // 2) else 0
    last = -(-(high - width // 2) // width) if high > width // 2 else 0
    return [(i - 0.5) * width for i in range(-first, last + 2)]


def longer_wins_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """How often the longer answer won, over stretches of the run."""
    plot, told = svg.axes(), []
    last = max((j.step for run in runs for j in run.judged), default=0)
    for place, run in enumerate(runs):
        rates = [(step, rate) for step, part in stretches(run.judged, last) if (rate := longer_wins(part))]
        if not rates:
            continue
        _draw(plot, place, rates)
        said = "; ".join(f"around step {step:.0f} {interval(rate)}" for step, rate in rates)
        told.append(f"{run.name}: {said}")
    if not told:
        return None
    _frame(plot)
    return Chart(
        "longer-wins",
        "How often the longer answer wins",
        "In stretches of the run, with 95 % intervals, of pairs with a label and two lengths.",
        ". ".join(told) + ".",
        svg.drawn(plot, "longer-wins"),
        run_keys(runs),
    )


def _draw(plot: Axes, place: int, rates: Sequence[tuple[float, Rate]]) -> None:
    """The rates of one run by step, with their intervals."""
    steps, shares = [step for step, _ in rates], [rate.rate for _, rate in rates]
    below = [rate.rate - rate.low for _, rate in rates]
    above = [rate.high - rate.rate for _, rate in rates]
    plot.errorbar(steps, shares, [below, above], color=svg.colour(place), marker="o", capsize=3)


def _frame(plot: Axes) -> None:
    """Rates over steps, with a line at one half."""
    plot.axhline(0.5, color=svg.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    scale(plot, share=True)
    plot.set_xlabel("step")
