"""What `prefloop eval` prints: both sides in a table, and what a reader should not miss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefloop.evaluation.stats import completion_metrics
from prefloop.text import one_line
from prefloop.types import Evaluation, Rate
from prefloop_plugins.rates import formatted, interval_of_pairs
from prefloop_plugins.report.findings import collapse, finished, judge_consistency, judge_decided, warnings
from prefloop_plugins.report.reading import read_run

if TYPE_CHECKING:
    from prefloop_plugins.commands.evaluating import LoadedEvaluation

FEW = 50
"""Below so many pairs, a 95 % interval is wider than ±13 points."""


def show(run: Path, loaded: LoadedEvaluation, evaluation: Evaluation) -> None:
    """Print the table and, below it, what stands out."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(Text(str(run), style="bold"), no_wrap=True)
    for title in (loaded.snapshot.label, f"against {one_line(evaluation.against)}"):
        table.add_column(Text(title, style="bold"))
    for row in _rows(loaded, evaluation):
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    for note in (*notes(loaded, evaluation), *checks(run, evaluation)):
        console.print(f"\n{note}", markup=False)


def _rows(loaded: LoadedEvaluation, evaluation: Evaluation) -> Iterator[tuple[str, ...]]:
    found, theirs = evaluation.metrics, completion_metrics([pair.second for pair in evaluation.pairs])
    yield "judge", evaluation.judge
    yield "prompts", f"{len(evaluation.pairs)} {one_line(loaded.source)}"
    yield "win rate", interval_of_pairs(evaluation.win_rate)
    yield "  at equal lengths", interval_of_pairs(controlled(evaluation))
    for source, rate in evaluation.source_rates.items():
        yield f"  of {source}", interval_of_pairs(rate)
    for other in evaluation.others:
        yield f"  by {other.judge}", interval_of_pairs(other.win_rate)
    if "accuracy" in found:
        yield "right answers", _share(found["accuracy"])
    yield "tokens of an answer", *(formatted(side["completion_length"], ".1f") for side in (found, theirs))
    yield "  10 % to 90 %", *(_spread(side) for side in (found, theirs))
    yield "cut at the limit", _share(1 - found["stop_rate"]), _share(1 - theirs["stop_rate"])
    for n in (1, 2):
        yield (
            f"distinct-{n}",
            formatted(found[f"distinct_{n}"], ".3f"),
            formatted(theirs[f"distinct_{n}"], ".3f"),
        )
    yield (
        "KL from the reference",
        f"{formatted(found['kl'], '.2f')} ± {formatted(found['kl_se'], '.2f')} nats",
    )
    judged = (_share(found[name]) for name in ("ties", "abstentions", "errors"))
    yield "ties, abstentions, errors", ", ".join(judged)
    yield "gap between the orders", formatted(found["position_gap"], ".3f")
    yield "for the one shown first", _share(found["first_place"])


def notes(loaded: LoadedEvaluation, evaluation: Evaluation) -> Iterator[str]:
    """What the numbers do and do not say, in a sentence each."""
    rate, found = evaluation.win_rate, evaluation.metrics
    label = one_line(evaluation.against)
    other = {"start": "the start of the run", "base": "the base model"}.get(label, f"'{label}'")
    if rate.low <= 0.5 <= rate.high:
        yield f"The interval holds 50%: on these prompts the policy cannot be told from {other}."
    elif rate.low > 0.5:
        yield f"The judge prefers the policy to {other}: in {rate.low:.0%} to {rate.high:.0%} of prompts."
    else:
        low, high = 1 - rate.high, 1 - rate.low
        yield f"The judge prefers {other} to the policy: in {low:.0%} to {high:.0%} of prompts."
    if 0 < rate.pairs < FEW:
        yield f"{rate.pairs} pairs are few: only a large difference shows."
    yield from _lengths(evaluation)
    if found["first_place"] >= 0.7 or found["first_place"] <= 0.3:
        place = "first" if found["first_place"] > 0.5 else "second"
        yield f"The judge leans to the answer shown {place}; asked in both orders, it favours no side."
    reasons = [v.reason or "no reason given" for v in evaluation.verdicts if v.status == "error"]
    if reasons:
        yield f"{len(reasons)} errors do not count. The first: {one_line(reasons[0])}"
    if loaded.dropped:
        yield f"{loaded.dropped} prompts are too long for the tokenizer of {other}, and left out."


def checks(run: Path, evaluation: Evaluation) -> list[str]:
    """What the report's validity checks warn of: of the run, and of this evaluation beside the other side.

    The win rate and lengths are in `notes`. Beside a model that the run did not start from, nothing can have
    collapsed.
    """
    theirs = completion_metrics([pair.second for pair in evaluation.pairs])
    sides = (Evaluation(0, evaluation.win_rate, theirs), evolve(evaluation, step=max(1, evaluation.step)))
    own = evaluation.against in ("start", "base")
    found = evolve(read_run(run), evaluations=sides if own else ())
    return warnings(found, finished, judge_consistency, judge_decided, collapse)


def _lengths(evaluation: Evaluation) -> Iterator[str]:
    rate, level = evaluation.win_rate.rate, controlled(evaluation)
    if math.isnan(level.rate):
        yield "The win rate at equal lengths cannot be told: lengths alone tell wins from losses."
    elif (rate > 0.5) != (level.rate > 0.5) or abs(rate - level.rate) > 0.1:
        yield f"Length matters: at equal lengths the win rate would be {level.rate:.0%}, not {rate:.0%}."


def controlled(evaluation: Evaluation) -> Rate:
    """The length-controlled win rate of an evaluation; NaN where it is not identified."""
    found = evaluation.metrics
    rate = found["length_controlled_win_rate"]
    interval = found["length_controlled_low"], found["length_controlled_high"]
    return Rate(rate, *interval, evaluation.win_rate.pairs)


def _spread(side: Mapping[str, float]) -> str:
    return f"{side['completion_length_p10']:.0f} to {side['completion_length_p90']:.0f}"


def _share(value: float) -> str:
    return formatted(value, ".1%")
