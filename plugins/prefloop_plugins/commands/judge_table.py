"""The table that `prefloop judge` prints: a row for each number, a column for each judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefloop.text import one_line
from prefloop_plugins.judging.report import Between, Position, Report
from prefloop_plugins.rates import formatted, interval_of_pairs


@frozen
class Column:
    """One judge: who it is, and its report."""

    about: dict[str, Any]
    report: Report


def show(path: str, columns: Sequence[Column], both: Between | None) -> None:
    """Print the table and, below it, what stands out."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(Text(path, style="bold"), no_wrap=True)
    for column in columns:
        table.add_column(Text(str(column.about["config"]), style="bold"))
    cells = [_cells(column) for column in columns]
    for title in cells[0]:
        table.add_row(title, *(Text(one[title]) for one in cells))
    console.print(table)
    if both is not None:
        kappa = formatted(both.kappa, ".2f")
        console.print(
            f"\nThe two judges agree in {interval_of_pairs(both.agreement)}; Cohen's kappa {kappa}.",
            markup=False,
        )
    for column in columns:
        for note in notes(column.report):
            console.print(f"\n{column.about['config']}: {note}", markup=False)


def _cells(column: Column) -> dict[str, str]:
    """What stands in each row of a judge's column, by the row's title."""
    about, report = column.about, column.report
    size, sure = report.length, report.calibration
    return {
        "judge": f"{about['judge']} {about['version'] or ''}".rstrip(),
        "pairs judged": f"{report.pairs} ({report.labelled} labelled)",
        "agreement with the labels": interval_of_pairs(report.agreement),
        "  without the judge's ties": interval_of_pairs(report.agreement_decided),
        **_position(report.position),
        "ties, abstentions, errors": f"{report.ties:.1%}, {report.abstentions:.1%}, {report.errors:.1%}",
        "the longer answer wins": interval_of_pairs(size.longer_wins if size else None),
        "  in the labels": interval_of_pairs(size.longer_in_labels if size else None),
        "calibration error (ECE)": formatted(sure.ece if sure else None, ".3f"),
        "Brier score": formatted(sure.brier if sure else None, ".3f"),
        "pairs per second": formatted(report.pairs_per_second, ".1f"),
    }


def _position(place: Position | None) -> dict[str, str]:
    return {
        "  as the pairs stand": interval_of_pairs(place.agreement[0] if place else None),
        "  with answers swapped": interval_of_pairs(place.agreement[1] if place else None),
        "same verdict in both orders": interval_of_pairs(place.consistency if place else None),
        "  for the one shown first": formatted(place.first_place if place else None, ".1%"),
        "  gap between the orders": formatted(place.gap if place else None, ".3f"),
    }


def notes(report: Report) -> Iterator[str]:
    """What a reader of the table should not miss, in a sentence each."""
    if report.stopped is not None:
        yield f"stopped after {report.pairs} pairs: {report.stopped}."
    place = report.position
    if place is not None and place.consistency.high < 0.8:
        leaning = "the first" if (place.first_place or 0.0) >= 0.5 else "the second"
        yield (
            f"it goes by the place and not by the answer: only {place.consistency.rate:.0%} of the pairs "
            f"get the same verdict in both orders, and it leans to {leaning} place."
        )
    if report.agreement_decided is not None and report.agreement_decided.low <= 0.5:
        yield "its agreement with the labels cannot be told from a coin's, or is worse."
    for reason, count in report.error_reasons.items():
        yield f"{count} errors: {one_line(reason)}"
    yield from _length_note(report)


def _length_note(report: Report) -> Iterator[str]:
    if report.length is None:
        return
    wins, labels = report.length.longer_wins, report.length.longer_in_labels
    if labels is not None and (wins.low > labels.high or wins.high < labels.low):
        liked = "longer" if wins.rate > labels.rate else "shorter"
        yield f"it likes {liked} answers more than the labels do."
