"""The figures: means over seeds with 95 % intervals, as SVG that is the same for the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from benchmarks.experiments import arms, real
from benchmarks.experiments.arm import Arm
from benchmarks.experiments.records import Records
from benchmarks.experiments.tables import SHARES, judged, measured
from benchmarks.harness.statistics import interval

plt.rcParams |= {
    "svg.hashsalt": "prefloop",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
TITLES = {
    "win_rate": "win rate against the start, by the truth",
    "accuracy": "right answers",
    "length": "length in characters",
    "jackpots": "share of jackpots",
    "chains": "share of jackpots",
    "worth": "mean worth",
    "variety": "distinct-2",
    "nats": "nats from the start",
    "facts": "facts known",
    "shouts": "share with an exclamation mark",
}
MARKS = "osD^vPX*"

Series = Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]]
"""By the name in the legend: places on the x axis, and for each the values of all seeds."""


def lines(axes: Any, series: Series, measure: str, x: str) -> None:
    """Means, with bars for their intervals, a little apart so that bars do not hide each other."""
    width = max(max(places) for places, _ in series.values())
    for i, (name, (places, values)) in enumerate(series.items()):
        found = [interval(v, share=measure in SHARES) for v in values]
        axes.errorbar(
            [p + (i - len(series) / 2) * width / 200 for p in places],
            [f.mean for f in found],
            yerr=[[f.mean - f.low for f in found], [f.high - f.mean for f in found]],
            marker=MARKS[i % len(MARKS)],
            markersize=4,
            capsize=2,
            linewidth=1.2,
            elinewidth=0.8,
            label=name,
        )
    axes.set(xlabel=x, ylabel=TITLES[measure])
    if measure in SHARES:
        axes.set_ylim(0, 1.02)


def dots(axes: Any, found: Sequence[Arm], records: Records, measure: str) -> None:
    """One row for each arm: its interval, and its seeds as points."""
    for row, arm in enumerate(found):
        values = records.last(arm, measure)
        at = interval(values, share=measure in SHARES)
        axes.plot([at.low, at.high], [row, row], color="C0", linewidth=2, alpha=0.5)
        axes.plot(at.mean, row, "o", color="C0", markersize=5)
        axes.plot(values, [row] * len(values), "|", color="black", markersize=7, alpha=0.6)
    axes.set(yticks=range(len(found)), yticklabels=[arm.name for arm in found], xlabel=TITLES[measure])
    axes.set_xlim(-0.03, 1.03)
    axes.invert_yaxis()


def losses(records: Records, panels: Any) -> None:
    for axes, measure in zip(panels, ("win_rate", "accuracy"), strict=True):
        lines(axes, _by(records, arms.losses(), arms.RATES, measure), measure, "share of flipped labels")
    panels[0].legend(loc="lower left")


def exploration(records: Records, panels: Any) -> None:
    _sought(arms.exploration(), records, "jackpots", panels)


def chain(records: Records, panels: Any) -> None:
    _sought(arms.chain(), records, "chains", panels)


def labels(records: Records, panels: Any) -> None:
    for axes, measure in zip(panels, ("win_rate", "accuracy"), strict=True):
        lines(
            axes, _by(records, arms.labels(), arms.BIASES, measure), measure, "bias of the judge, in logits"
        )
    panels[0].legend(loc="lower left")


def faults(records: Records, panels: Any) -> None:
    for axes, measure in zip(panels, ("win_rate", "length"), strict=True):
        lines(axes, _by(records, arms.faults(), arms.RATES, measure), measure, "share of faulty verdicts")
    panels[0].legend(loc="lower left")


def people(records: Records, panels: Any) -> None:
    """The person alone as a curve over its labels; beside it what each cascade ends with."""
    for axes, task in zip(panels, arms.PEOPLES_TASKS, strict=True):
        found = [arm for arm in arms.people() if arm.task == task]
        alone, cascades = found[0], found[1:]
        series = {"the person alone": _curve(records, alone, "win_rate")}
        by_name = _by(records, cascades, arms.LABELS, "win_rate")
        series |= {name.removeprefix(f"{task}: "): line for name, line in by_name.items()}
        lines(axes, series, "win_rate", f"labels of the person, task {task}")
    panels[0].legend(fontsize=7, loc="lower right")


def adapters(records: Records, panels: Any) -> None:
    _against_nats(real.adapters(), records, panels)


def steps(records: Records, panels: Any) -> None:
    _against_nats(real.steps(), records, panels)


CURVES = {
    "freshness": ("win_rate", "accuracy", "length"),
    "pretrained": ("win_rate", "variety", "length"),
    "towards": ("win_rate", "nats", "facts"),
    "rates": ("win_rate", "nats", "facts"),
    "singles": ("win_rate", "accuracy", "length"),
    "rare": ("shouts", "worth", "nats"),
}
"""Experiments whose arms are curves over judgements, and what is drawn of them."""
LEGENDS = {"rare": "upper left"}
"""Where the lower left is taken."""
PLOTS = {
    plot.__name__: plot for plot in (losses, exploration, chain, labels, faults, people, adapters, steps)
}
"""The others have two panels and a function of their own."""


def draw(name: str, records: Records, folder: Path) -> None:
    """Write ``NAME.svg``, of an experiment that has a figure."""
    if name not in CURVES and name not in PLOTS:
        return
    count, height = len(CURVES.get(name, "ab")), 8.2 if name == "exploration" else 3.2
    figure, panels = plt.subplots(1, count, figsize=(4 * count, height), layout="constrained")
    if name in CURVES:
        _over_judgements(name, records, panels)
    else:
        PLOTS[name](records, panels)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def _sought(found: Sequence[Arm], records: Records, measure: str, panels: Any) -> None:
    """What each arm found, and beside it how many of its answers are right."""
    for axes, shown in zip(panels, (measure, "accuracy"), strict=True):
        dots(axes, found, records, shown)
    panels[1].set_yticklabels([])


def _against_nats(found: Sequence[Arm], records: Records, panels: Any) -> None:
    """What each seed of each arm had gained and lost after `real.MIDDLE` judgements, and how far it was."""
    for axes, measure in zip(panels, ("win_rate", "facts"), strict=True):
        for mark, arm in zip(cycle(MARKS), found, strict=False):
            rows = measured(arm, real.MIDDLE, records)
            axes.plot([row["nats"] for row in rows], [row[measure] for row in rows], mark, label=arm.name)
        axes.set(xlabel=TITLES["nats"], ylabel=TITLES[measure], xscale="log")
    panels[0].legend(fontsize=7)


def _over_judgements(name: str, records: Records, panels: Any) -> None:
    """A panel for each measure with the curves of all arms."""
    for axes, measure in zip(panels, CURVES[name], strict=True):
        series = {arm.name: _curve(records, arm, measure) for arm in arms.EXPERIMENTS[name]()}
        lines(axes, series, measure, "judgements")
    panels[0].legend(fontsize=7, loc=LEGENDS.get(name, "lower left"))


def _curve(records: Records, arm: Arm, measure: str) -> tuple[list[float], list[list[float]]]:
    curves = list(records.curves(arm).values())
    places = [judged(arm, row) for row in curves[0]]
    return places, [[curve[i][measure] for curve in curves] for i in range(len(places))]


def _by(records: Records, found: Sequence[Arm], places: Sequence[float], measure: str) -> Series:
    """Arms named "this, that, place" as lines named "this, that"; they come place by place."""
    count = len(found) // len(places)
    series = {}
    for i in range(count):
        values = [records.last(arm, measure) for arm in found[i::count]]
        series[found[i].name.rpartition(", ")[0]] = (places, values)
    return series
