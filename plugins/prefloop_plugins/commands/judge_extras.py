"""What `prefloop judge` prints below its table: the probes of style, and what was fitted to the labels."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefloop.config import yaml_nodes
from prefloop.types import Rate
from prefloop_plugins.commands.judge_table import Column
from prefloop_plugins.judging.fit import Fit, Gain
from prefloop_plugins.judging.probes import Probe, Probed
from prefloop_plugins.rates import interval_of_pairs


def show_probes(column: Column, probed: Probed) -> None:
    """How often each decoration turned the verdict, and below it what the judge is shown to like."""
    console, name = Console(highlight=False, soft_wrap=True), str(column.about["config"])
    table = _table(f"{name}: verdicts turned by", ("towards it", "away from it"))
    for probe in probed.probes:
        table.add_row(probe.name, interval_of_pairs(probe.towards), interval_of_pairs(probe.away))
    place = column.report.position
    table.add_row("the other place", interval_of_pairs(_others(place.consistency) if place else None))
    console.print()
    console.print(table)
    console.print(f"\nThe probes asked about {probed.questions} more pairs.", markup=False)
    for probe in probed.probes:
        if probe.leaning:
            console.print(f"\n{name}: {_note(probe)}", markup=False)


def _note(probe: Probe) -> str:
    verb = "likes" if probe.leaning > 0 else "dislikes"
    return (
        f"it {verb} {probe.name}: put on the answer that had lost, it turned {probe.towards.rate:.0%} of the "
        f"verdicts towards that; on the one that had won, {probe.away.rate:.0%} away."
    )


def _others(rate: Rate) -> Rate:
    """The share of all others."""
    return Rate(1 - rate.rate, 1 - rate.high, 1 - rate.low, rate.pairs)


def show_fit(column: Column, fit: Fit) -> None:
    """How far the terms help on labels kept out, and the options to paste."""
    console, name = Console(highlight=False, soft_wrap=True), str(column.about["config"])
    table = _table("on labels kept out", ("as it is", "fitted", "change (95 %)"))
    for title, gain, form in (
        ("agreement", fit.agreement, ".1%"),
        ("log loss (nats)", fit.log_loss, ".3f"),
        ("calibration error (ECE)", fit.ece, ".3f"),
    ):
        table.add_row(title, *_cells(gain, form))
    console.print()
    console.print(table)
    if not fit.terms:
        console.print(
            f"\n{name}: nothing is worth setting: no term is shown to help on labels kept out.",
            markup=False,
        )
        return
    options = " ".join(f"--set judge.{term}={value:g}" for term, value in fit.terms.items())
    written = yaml_nodes.dump({"judge": fit.terms})
    console.print(
        f"\n{name}, fitted to {fit.labels} labels; worth setting:\n\n{written}\nor {options}", markup=False
    )


def _cells(gain: Gain, form: str) -> tuple[str, str, str]:
    signed = f"+{form}"
    change = f"{gain.after - gain.before:{signed}} ({gain.low:{signed}} to {gain.high:{signed}})"
    return f"{gain.before:{form}}", f"{gain.after:{form}}", change


def _table(title: str, heads: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for head in (title, *heads):
        table.add_column(Text(head, style="bold"), no_wrap=True)
    return table
