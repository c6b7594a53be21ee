"""Two commands: one at the top, one in a group of prefloop's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from prefloop import UserError, open_run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def tally(run: Path) -> None:
    """Count the verdicts of RUN by their status."""
    counts = Counter(judgement.verdict.status for judgement in open_run(run).judgements().records)
    for status, count in sorted(counts.items()):
        click.echo(f"{status}: {count}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
def newest(folder: Path) -> None:
    """Name the newest run in FOLDER."""
    runs = sorted(folder.glob("*/run.json"), key=lambda file: file.stat().st_mtime)
    if not runs:
        raise UserError(f"there are no runs in '{folder}'.")
    click.echo(open_run(runs[-1].parent).name)
