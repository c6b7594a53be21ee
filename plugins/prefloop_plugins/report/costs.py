"""The chart of where the time of a run went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefloop_plugins.report import svg
from prefloop_plugins.report.charts import Chart, Key
from prefloop_plugins.report.curves import curve
from prefloop_plugins.report.formats import duration
from prefloop_plugins.report.measures import PHASE, phases
from prefloop_plugins.report.records import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BETWEEN = 0.25


def time_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """Seconds of each phase: stacked over the steps of one run, or one bar for each of several."""
    names = list(dict.fromkeys(name for run in runs for name in phases(run.steps)))
    if not names:
        return None
    plot = svg.axes(400, 220 if len(runs) == 1 else 70 + 34 * len(runs))
    if len(runs) == 1:
        _stacked_steps(plot, runs[0], names)
    else:
        _stacked_bars(plot, runs, names)
    told = ". ".join(
        f"{run.name}: " + ", ".join(f"{name} {duration(s)}" for name, s in phases(run.steps).items())
        for run in runs
    )
    caption = "Seconds per step, by phase." + (" Mean over the steps." if len(runs) > 1 else "")
    keys = tuple(Key(name, number + 1) for number, name in enumerate(names))
    return Chart("time", "Where the time went", caption, f"{told}.", svg.drawn(plot, "time"), keys)


def _stacked_steps(plot: Axes, run: RunFiles, names: Sequence[str]) -> None:
    rows = [{"step": s["step"], **{name: s.get(PHASE + name, 0.0) for name in names}} for s in run.steps]
    curves = [found for name in names if (found := curve(rows, name)) is not None]
    colours = [svg.colour(number) for number in range(len(names))]
    steps = [step + side for step in curves[0].steps for side in (-0.5, 0.5)]
    layers = [[value for value in found.each for _ in range(2)] for found in curves]
    plot.stackplot(steps, layers, colors=colours, linewidth=0)
    plot.set_xlabel("step")
    plot.set_ylim(bottom=0)


def _stacked_bars(plot: Axes, runs: Sequence[RunFiles], names: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    places = list(range(len(runs)))[::-1]
    left = [0.0] * len(runs)
    for number, name in enumerate(names):
        widths = [phases(run.steps).get(name, 0.0) / max(1, len(run.steps)) for run in runs]
        plot.barh(places, widths, 1 - _BETWEEN, left, color=svg.colour(number))
        left = [a + b for a, b in zip(left, widths, strict=True)]
    plot.xaxis.set_major_locator(MaxNLocator(6))
    plot.set_yticks(places, [_short(run.name) for run in runs])
    plot.grid(axis="y", visible=False)
    plot.grid(axis="x", visible=True)
    plot.set_xlabel("seconds per step")


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:11] + "…" + name[-12:]
