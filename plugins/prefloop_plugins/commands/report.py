"""`prefloop report`: a page about a run, or one that compares several."""

from __future__ import annotations

from pathlib import Path

import click

from prefloop.cli.common import PathOnDisk, json_option, print_json


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PathOnDisk(), metavar="RUN...")
@click.option(
    "--output",
    type=PathOnDisk(),
    help="The file to write [default: report.html in RUN, or in the current folder for several].",
)
@json_option
def report(runs: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """Write report.html about RUN, or one report that compares several runs.

    It is made from the run's files alone, is one file that opens offline, and may be made while the run is
    still going on. A report that is there is replaced; any other file is not.
    """
    from prefloop_plugins.report import FILE, write_report

    file = output or (runs[0] / FILE if len(runs) == 1 else Path(FILE))
    write_report(runs, file)
    if as_json:
        print_json({"file": str(file)})
    else:
        click.echo(f"Wrote {file}.")
