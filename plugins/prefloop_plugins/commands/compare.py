"""`prefloop runs compare`: several runs in a table, those that differ in the seed alone taken together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefloop.cli.common import PathOnDisk, json_option, print_json

if TYPE_CHECKING:
    from prefloop_plugins.report.compared import Comparison

_WIDEST = 1000


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PathOnDisk(), metavar="QUEUE|RUN...")
@json_option
def compare(runs: tuple[Path, ...], as_json: bool) -> None:
    """Compare the runs of QUEUE, or each RUN, in a table: win rates over seeds, with intervals.

    The comparison of a queue is written to comparison.md and comparison.html in its folder, too.
    """
    from prefloop.runs.queue import is_queue, open_queue
    from prefloop_plugins.report import disambiguate_names
    from prefloop_plugins.report.compared import as_data, compare_queue, compare_runs, write_comparison
    from prefloop_plugins.report.reading import read_run

    queue = open_queue(runs[0]) if len(runs) == 1 and is_queue(runs[0]) else None
    if queue:
        compared = compare_queue(queue)
    else:
        compared = compare_runs(disambiguate_names(runs, [read_run(run) for run in runs]))
    files = write_comparison(queue, compared) if queue else ()
    if as_json:
        print_json({**as_data(compared), "files": [str(file) for file in files]})
        return
    _print(compared)
    if files:
        click.echo(f"Wrote {' and '.join(map(str, files))}.")


def _print(compared: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from prefloop.text import printable
    from prefloop_plugins.report.compared import tables

    console = Console(highlight=False, width=_WIDEST)  # a cell is never cut: the terminal wraps
    for title, (head, rows) in tables(compared).items():
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for cell in head:
            table.add_column(Text(cell, style="bold"), no_wrap=True)
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        console.print(title)
        console.print(table)
        console.print()
    for note in compared.notes:
        console.print(printable(note), markup=False)
