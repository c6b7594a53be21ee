"""The curves of a run as one picture for its card: win rates, and the margin that was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from prefloop_plugins.rates import interval
from prefloop_plugins.report.measures import curve
from prefloop_plugins.report.reading import read_run
from prefloop_plugins.report.records import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "curves.png"
_INK = "#0072b2"


@frozen
class Picture:
    """A file beside the card, and in words what it shows."""

    file: str
    text: str


def draw_curves(run: Path, folder: Path) -> Picture | None:
    """Write the picture into `folder`; None where the run has nothing to draw."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    files = read_run(run)
    drawn = [draw for draw in (_win_rates, _margin) if draw(files, None)]
    if not drawn:
        return None
    with rc_context(
        {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
    ):
        figure = Figure(figsize=(4.5 * len(drawn), 3), layout="tight", dpi=150)
        plots = figure.subplots(1, len(drawn), squeeze=False)[0]
        texts = [draw(files, plot) for draw, plot in zip(drawn, plots, strict=True)]
        figure.savefig(folder / FILE, metadata={"Software": None})
    return Picture(FILE, " ".join(filter(None, texts)))


def _win_rates(files: RunFiles, plot: Axes | None) -> str | None:
    if not files.evaluations:
        return None
    rates = [(e.step, e.win_rate) for e in files.evaluations]
    if plot is not None:
        below = [rate.rate - rate.low for _, rate in rates]
        above = [rate.high - rate.rate for _, rate in rates]
        shares = [rate.rate for _, rate in rates]
        plot.errorbar([step for step, _ in rates], shares, [below, above], color=_INK, marker="o", capsize=3)
        plot.axhline(0.5, color="grey", linestyle="--", linewidth=1)
        plot.set(ylim=(0, 1), xlabel="step", title="Win rate against the start (95 %)")
    return "Win rate: " + "; ".join(f"step {step}: {interval(rate)}" for step, rate in rates) + "."


def _margin(files: RunFiles, plot: Axes | None) -> str | None:
    found = curve(files.steps, "margin")
    if found is None:
        return None
    if plot is not None:
        plot.plot(found.steps, found.mean, color=_INK)
        plot.set(xlabel="step", title="Reward margin")
    return "Reward margin over steps."
