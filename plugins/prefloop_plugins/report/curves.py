"""The charts of metrics over steps: which ones there are, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, frozen

from prefloop.types import SOURCE
from prefloop_plugins.report import svg
from prefloop_plugins.report.charts import Chart, Key, scale
from prefloop_plugins.report.measures import Curve, curve
from prefloop_plugins.report.records import RunFiles
from prefloop_plugins.report.words import number, percent

_DASHES = ("solid", (0, (3, 1.6)), (0, (1, 1.4)))


@frozen
class Metrics:
    """What one chart shows: which metrics, under which labels."""

    name: str
    title: str
    caption: str
    metrics: Mapping[str, str]
    share: bool = False
    zero: bool = False


TRAINING = (
    Metrics("loss", "Loss", "What is minimised.", {"loss": "loss"}),
    Metrics(
        "margin",
        "Margin",
        "Reward of the chosen minus that of the rejected answer, in nats.",
        {"margin": "margin"},
        zero=True,
    ),
    Metrics(
        "reward-accuracy",
        "Reward accuracy",
        "Share of pairs in which the policy's reward agrees with the judge.",
        {"reward_accuracy": "reward accuracy"},
        share=True,
    ),
    Metrics(
        "rewards",
        "Rewards",
        "β times the log-ratio to the reference, in nats. Both may fall while the margin grows.",
        {"chosen_reward": "chosen", "rejected_reward": "rejected"},
        zero=True,
    ),
    Metrics(
        "log-ratio",
        "Log-ratio to the reference",
        "Log-probability under the policy minus that under the reference, in nats.",
        {"log_ratio_chosen": "chosen", "log_ratio_rejected": "rejected"},
        zero=True,
    ),
    Metrics(
        "kl",
        "Divergence from the reference",
        "KL on the sampled answers, in nats.",
        {"kl_chosen": "chosen", "kl_rejected": "rejected"},
        zero=True,
    ),
    Metrics(
        "lengths",
        "Answer lengths",
        "Tokens, stop token included.",
        {"chosen_length": "chosen", "rejected_length": "rejected"},
    ),
    Metrics("bonus", "Exploration bonus", "Subtracted from the loss.", {"exploration_bonus": "bonus"}),
    Metrics("learning-rate", "Learning rate", "Of the latest update.", {"learning_rate": "learning rate"}),
    Metrics("gradient", "Gradient norm", "Before clipping.", {"grad_norm": "norm"}),
    Metrics(
        "stopping",
        "Answers that end by themselves",
        "The others were cut at the length limit.",
        {"stop_rate": "stopped"},
        share=True,
    ),
)
JUDGE = (
    Metrics(
        "gap",
        "Position gap",
        "How far the judge's probabilities lie apart when the answers swap places.",
        {"position_gap": "gap"},
        zero=True,
    ),
    Metrics(
        "verdicts",
        "Pairs without a label",
        "Share of the pairs of a step.",
        {"ties": "ties", "abstentions": "abstentions", "errors": "errors"},
        share=True,
        zero=True,
    ),
)
COST = (
    Metrics(
        "memory",
        "Peak memory",
        "Gigabytes that mlx held at most so far.",
        {"peak_memory_gb": "GB"},
        zero=True,
    ),
    Metrics(
        "speed",
        "Tokens per second",
        "Of all answers, over the whole step.",
        {"tokens_per_second": "tokens/s"},
        zero=True,
    ),
)


SOURCES = (
    Metrics(
        "source-margin",
        "Margin of each source",
        "Reward of the chosen minus that of the rejected answer, in nats.",
        {"margin": "margin"},
        zero=True,
    ),
    Metrics(
        "source-accuracy",
        "Reward accuracy of each source",
        "Share of its pairs in which the policy's reward agrees with its judge.",
        {"reward_accuracy": "reward accuracy"},
        share=True,
    ),
    Metrics(
        "source-labels",
        "Labels of each source",
        "Share of its pairs that have one.",
        {"label_rate": "labels"},
        share=True,
    ),
)
"""Charts with a line for each source of a mixture, of one metric."""


def source_charts(runs: Sequence[RunFiles]) -> list[Chart]:
    """How the sources of a mixture did."""
    steps = (step for run in runs for step in run.steps)
    names = dict.fromkeys(n.split("/")[1] for step in steps for n in step if n.startswith(SOURCE))
    specs = (
        evolve(spec, metrics={f"{SOURCE}{name}/{metric}": name for name in names for metric in spec.metrics})
        for spec in SOURCES
    )
    return metric_charts(runs, list(specs))


def metric_charts(runs: Sequence[RunFiles], specs: Sequence[Metrics]) -> list[Chart]:
    """One chart for each of `specs` that has data."""
    return [chart for spec in specs if (chart := _metric_chart(runs, spec)) is not None]


def _metric_chart(runs: Sequence[RunFiles], spec: Metrics) -> Chart | None:
    lines = list(_lines(runs, spec))
    if not lines:
        return None
    plot = svg.axes()
    for key, found in lines:
        colour = svg.colour(key.series - 1)
        if len(runs) == 1 and found.each != found.mean:
            plot.plot(found.steps, found.each, color=colour, linewidth=0.9, alpha=0.35)
        marker = "o" if len(found.steps) == 1 else None
        plot.plot(
            found.steps, found.mean, color=colour, linestyle=_DASHES[key.dash % len(_DASHES)], marker=marker
        )
    scale(plot, share=spec.share, zero=spec.zero)
    plot.set_xlabel("step")
    texts = ". ".join(f"{key.label}: {_description(found, spec.share)}" for key, found in lines)
    keys = tuple(key for key, _ in lines) if len(lines) > 1 or len(runs) > 1 else ()
    return Chart(spec.name, spec.title, spec.caption, f"{texts}.", svg.drawn(plot, spec.name), keys)


def _lines(runs: Sequence[RunFiles], spec: Metrics) -> Iterator[tuple[Key, Curve]]:
    """A colour for each metric of a single run; of several runs a colour each, a dash for each metric."""
    for place, run in enumerate(runs):
        for dash, (metric, label) in enumerate(spec.metrics.items()):
            found = curve(run.steps, metric)
            if found is None:
                continue
            if len(runs) == 1:
                yield Key(label, dash + 1), found
            else:
                name = f"{run.name}, {label}" if len(spec.metrics) > 1 else run.name
                yield Key(name, place + 1, dash), found


def _description(found: Curve, share: bool) -> str:
    """What the curve does, for those who do not see it."""
    form = percent if share else number
    return (
        f"from {form(found.first)} at step {found.steps[0]:.0f} to {form(found.last)} at step "
        f"{found.steps[-1]:.0f}, between {form(found.low)} and {form(found.high)}"
    )
