"""The charts of a report, but for those of metrics (`curves`): what the judge prefers, where the time went.

A chart takes all its runs; one for which there are no data is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from prefloop.text import duration
from prefloop_plugins.rates import interval
from prefloop_plugins.report import svg
from prefloop_plugins.report.measures import PHASE, curve, length_differences, longer_wins, phases, stretches
from prefloop_plugins.report.records import RunFiles
from prefloop_plugins.report.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from prefloop.types import Rate

BINS = 31
"""How many bars a histogram has at most."""
_BETWEEN_BARS = 0.25


@frozen
class Key:
    """An entry of a chart's key: a line of the page's colour `series` (from 1), drawn as `dash`."""

    label: str
    series: int
    dash: int = 0


@frozen
class Chart:
    name: str
    title: str
    caption: str
    alt_text: str
    """What it shows, for those who do not see it."""
    picture: str
    """An ``<svg>`` element."""
    key: tuple[Key, ...] = ()


def win_rate_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """Win rate against the start over steps, with its interval."""
    shown = [(place, run) for place, run in enumerate(runs) if run.evaluations]
    if not shown:
        return None
    lines = {place: (run.name, [(e.step, e.win_rate) for e in run.evaluations]) for place, run in shown}
    plot, text = _over_steps(lines, len(runs))
    return Chart(
        "win-rate",
        "Win rate against the start, over steps",
        "With 95 % intervals; the dashed line is one half, where neither is preferred.",
        text,
        svg.drawn(plot, "win-rate"),
        run_keys(runs),
    )


def judges_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """The win rate of one run by each of its judges; None where one is asked, and of several runs."""
    names = list(dict.fromkeys(o.judge for run in runs for e in run.evaluations for o in e.others))
    if len(runs) != 1 or not names:
        return None
    made = runs[0].evaluations
    first = next(e.judge for e in made if e.others) or "the first judge"
    rows = {first: [(e.step, e.win_rate) for e in made]}
    rows |= {n: [(e.step, o.win_rate) for e in made for o in e.others if o.judge == n] for n in names}
    plot, text = _over_steps(dict(enumerate(rows.items())), len(rows))
    teacher = made[-1].teacher
    return Chart(
        "judges",
        "Win rate by each judge, over steps",
        "Of the same answers. Where the judge that taught rises and another falls, it is over-optimised.",
        text,
        svg.drawn(plot, "judges"),
        tuple(Key(f"{n} (taught)" if n == teacher else n, place + 1) for place, n in enumerate(rows)),
    )


def sources_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """The win rate of one run on the prompts of each source; None of several runs, and without a mixture."""
    made = runs[0].evaluations
    rows: dict[str, list[tuple[int, Rate]]] = {}
    for step, source, rate in ((e.step, *row) for e in made for row in e.source_rates.items()):
        rows.setdefault(source, []).append((step, rate))
    if len(runs) != 1 or not rows:
        return None
    plot, text = _over_steps(dict(enumerate(rows.items())), len(rows))
    return Chart(
        "sources",
        "Win rate on each source, over steps",
        "Against the start, each by the judge of its prompts.",
        text,
        svg.drawn(plot, "sources"),
        tuple(Key(name, place + 1) for place, name in enumerate(rows)),
    )


def _over_steps(lines: Mapping[int, tuple[str, Sequence[tuple[int, Rate]]]], places: int) -> tuple[Axes, str]:
    """Rates over steps, each line in the colour of its place of so many and a little apart; and in words."""
    plot = svg.axes(400, 220)
    span = max(rates[-1][0] for _, rates in lines.values()) or 1
    for place, (_, rates) in lines.items():
        shift = (place - (places - 1) / 2) * span * 0.008
        _draw(plot, place, [(step + shift, rate) for step, rate in rates])
    _frame(plot)
    told = (f"{n}: " + "; ".join(f"step {s}: {interval(r)}" for s, r in rates) for n, rates in lines.values())
    return plot, ". ".join(told) + "."


def length_chart(runs: Sequence[RunFiles]) -> Chart | None:
    """How the lengths of chosen and rejected answers differ."""
    found = [length_differences(run.judged) for run in runs]
    everything = [difference for differences in found for difference in differences]
    if not everything:
        return None
    edges = _edges(min(everything), max(everything))
    plot, texts = svg.axes(), []
    for place, (run, differences) in enumerate(zip(runs, found, strict=True)):
        if not differences:
            continue
        weights = [1 / len(differences)] * len(differences)
        kind = "stepfilled" if len(runs) == 1 else "step"
        style = {"alpha": 0.75} if len(runs) == 1 else {"linewidth": 1.8}
        plot.hist(differences, edges, weights=weights, histtype=kind, color=svg.colour(place), **style)  # type: ignore[arg-type]
        above, below = (sum(sign * d > 0 for d in differences) / len(differences) for sign in (1, -1))
        texts.append(
            f"{run.name}: the chosen answer is longer in {percent(above)}, shorter in {percent(below)}"
        )
    plot.axvline(0, color=svg.MUTED, linewidth=1)
    percents(plot)
    plot.set_xlabel("chosen - rejected, tokens")
    return Chart(
        "length-difference",
        "Chosen minus rejected length",
        "Labelled training pairs. To the right of zero the longer answer was chosen.",
        ". ".join(texts) + ".",
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
    plot, texts = svg.axes(), []
    last = max((j.step for run in runs for j in run.judged), default=0)
    for place, run in enumerate(runs):
        rates = [(step, rate) for step, part in stretches(run.judged, last) if (rate := longer_wins(part))]
        if not rates:
            continue
        _draw(plot, place, rates)
        stretched = "; ".join(f"around step {step:.0f} {interval(rate)}" for step, rate in rates)
        texts.append(f"{run.name}: {stretched}")
    if not texts:
        return None
    _frame(plot)
    return Chart(
        "longer-wins",
        "How often the longer answer wins",
        "In stretches of the run, with 95 % intervals, of pairs with a label and two lengths.",
        ". ".join(texts) + ".",
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
    texts = ". ".join(
        f"{run.name}: " + ", ".join(f"{name} {duration(s)}" for name, s in phases(run.steps).items())
        for run in runs
    )
    caption = "Seconds per step, by phase." + (" Mean over the steps." if len(runs) > 1 else "")
    keys = tuple(Key(name, number + 1) for number, name in enumerate(names))
    return Chart("time", "Where the time went", caption, f"{texts}.", svg.drawn(plot, "time"), keys)


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
        plot.barh(places, widths, 1 - _BETWEEN_BARS, left, color=svg.colour(number))
        left = [a + b for a, b in zip(left, widths, strict=True)]
    plot.xaxis.set_major_locator(MaxNLocator(6))
    plot.set_yticks(places, [_short(run.name) for run in runs])
    plot.grid(axis="y", visible=False)
    plot.grid(axis="x", visible=True)
    plot.set_xlabel("seconds per step")


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:11] + "…" + name[-12:]


def scale(plot: Axes, *, share: bool = False, zero: bool = False) -> None:
    """Set the range and the marks of the values: shares of one, or numbers around zero."""
    if share:
        percents(plot)
        plot.set_ylim(-0.03, 1.03)
    elif zero:
        plot.axhline(0, color=svg.MUTED, linewidth=0.8)


def percents(plot: Axes) -> None:
    """Show the values as percent."""
    from matplotlib.ticker import PercentFormatter

    plot.yaxis.set_major_formatter(PercentFormatter(1.0))


def run_keys(runs: Sequence[RunFiles]) -> tuple[Key, ...]:
    """The colours of several runs; a single run needs no key."""
    return tuple(Key(run.name, place + 1) for place, run in enumerate(runs)) if len(runs) > 1 else ()
