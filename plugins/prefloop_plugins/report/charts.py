"""The curves of a report. A chart takes all its runs; one for which there are no data is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from prefloop_plugins.report import svg
from prefloop_plugins.report.curves import Curve, curve
from prefloop_plugins.report.records import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("solid", (0, (3, 1.6)), (0, (1, 1.4)))


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
    told: str
    """What it shows, for those who do not see it."""
    picture: str
    """An ``<svg>`` element."""
    key: tuple[Key, ...] = ()


@frozen
class Curves:
    """A chart of metrics over steps: which ones, under which labels."""

    name: str
    title: str
    caption: str
    metrics: Mapping[str, str]
    share: bool = False
    zero: bool = False


TRAINING = (
    Curves("loss", "Loss", "What is minimised.", {"loss": "loss"}),
    Curves(
        "margin",
        "Margin",
        "Reward of the chosen minus that of the rejected answer, in nats.",
        {"margin": "margin"},
        zero=True,
    ),
    Curves(
        "accuracy",
        "Accuracy",
        "Share of pairs in which the policy's reward agrees with the judge.",
        {"accuracy": "accuracy"},
        share=True,
    ),
    Curves(
        "rewards",
        "Rewards",
        "β times the log-ratio to the reference, in nats. Both may fall while the margin grows.",
        {"chosen_reward": "chosen", "rejected_reward": "rejected"},
        zero=True,
    ),
    Curves(
        "kl",
        "Divergence from the reference",
        "KL on the sampled answers, in nats.",
        {"kl_chosen": "chosen", "kl_rejected": "rejected"},
        zero=True,
    ),
    Curves(
        "lengths",
        "Answer lengths",
        "Tokens, stop token included.",
        {"chosen_length": "chosen", "rejected_length": "rejected"},
    ),
    Curves("bonus", "Exploration bonus", "Subtracted from the loss.", {"exploration_bonus": "bonus"}),
    Curves("learning-rate", "Learning rate", "Of the latest update.", {"learning_rate": "learning rate"}),
    Curves("gradient", "Gradient norm", "Before clipping.", {"grad_norm": "norm"}),
    Curves(
        "stopping",
        "Answers that end by themselves",
        "The others were cut at the length limit.",
        {"stop_rate": "stopped"},
        share=True,
    ),
)
JUDGE = (
    Curves(
        "gap",
        "Position gap",
        "How far the judge's probabilities lie apart when the answers swap places.",
        {"position_gap": "gap"},
        zero=True,
    ),
    Curves(
        "verdicts",
        "Pairs without a label",
        "Share of the pairs of a step.",
        {"ties": "ties", "abstentions": "abstentions", "errors": "errors"},
        share=True,
        zero=True,
    ),
)
COST = (
    Curves(
        "memory",
        "Peak memory",
        "Gigabytes that mlx held at most so far.",
        {"peak_memory_gb": "GB"},
        zero=True,
    ),
    Curves(
        "speed",
        "Tokens per second",
        "Of all answers, over the whole step.",
        {"tokens_per_second": "tokens/s"},
        zero=True,
    ),
)


def metric_charts(runs: Sequence[RunFiles], specs: Sequence[Curves]) -> list[Chart]:
    """One chart for each of `specs` that has data."""
    return [chart for spec in specs if (chart := _metric_chart(runs, spec)) is not None]


def _metric_chart(runs: Sequence[RunFiles], spec: Curves) -> Chart | None:
    lines = list(_lines(runs, spec))
    if not lines:
        return None
    plot = svg.axes()
    for key, found in lines:
        colour = svg.colour(key.series - 1)
        if len(runs) == 1 and found.each != found.mean:
            plot.plot(found.steps, found.each, color=colour, linewidth=0.9, alpha=0.35)
        marker = "o" if len(found.steps) == 1 else None
        plot.plot(found.steps, found.mean, color=colour, linestyle=_DASHES[key.dash], marker=marker)
    scale(plot, share=spec.share, zero=spec.zero)
    plot.set_xlabel("step")
    told = ". ".join(f"{key.label}: {found.told(spec.share)}" for key, found in lines)
    keys = tuple(key for key, _ in lines) if len(lines) > 1 or len(runs) > 1 else ()
    return Chart(spec.name, spec.title, spec.caption, f"{told}.", svg.drawn(plot, spec.name), keys)


def _lines(runs: Sequence[RunFiles], spec: Curves) -> Iterator[tuple[Key, Curve]]:
    """A colour for each metric of a single run; of several runs a colour each, a dash for each metric."""
    for place, run in enumerate(runs):
        for number, (metric, label) in enumerate(spec.metrics.items()):
            found = curve(run.steps, metric)
            if found is None:
                continue
            if len(runs) == 1:
                yield Key(label, number + 1), found
            else:
                name = f"{run.name}, {label}" if len(spec.metrics) > 1 else run.name
                yield Key(name, place + 1, number), found


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
