"""``python -m benchmarks.speed``: see the package."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from benchmarks import pages
from benchmarks.harness import environments, records
from benchmarks.harness.workers import BenchmarkError, check_out
from benchmarks.speed import tables
from benchmarks.speed.comparing import Bench
from benchmarks.speed.rows import LARGE, TABLE, Row, named


@click.command(help="Measure a step of prefloop against mlx-lm-lora's, or against an earlier commit's.")
@click.option("--rows", "names", help="Rows, with commas between them; all of the table by default.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each row, instead of its own number.")
@click.option("--steps", type=click.IntRange(1), help="Steps that each process is timed for.")
@click.option("--quick", is_flag=True, help="Only try: one row, one round, one step.")
@click.option("--large", is_flag=True, help="More rows on the pretrained model, which take an hour.")
@click.option("--against-version", metavar="GIT_REF", help="prefloop against itself at an earlier commit.")
@click.option("--write", is_flag=True, help="Keep each row's result and write it into the pages.")
@click.option("--cache", type=click.Path(path_type=Path), default=environments.CACHE, show_default=True)
def main(
    names: str | None,
    rounds: int | None,
    steps: int | None,
    quick: bool,
    large: bool,
    against_version: str | None,
    write: bool,
    cache: Path,
) -> None:
    if write and (quick or against_version):
        raise BenchmarkError(
            "--write: only the table against mlx-lm-lora is kept, and not a quick try of it."
        )
    wanted = [*_rows(names, alone=against_version is not None), *(LARGE if large else ())]
    if quick:
        wanted, rounds, steps = wanted[:1], rounds or 1, steps or 1
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        earlier = check_out(against_version, Path(scratch, "checkout")) if against_version else None
        bench = Bench(cache, earlier, steps, rounds)
        for row in wanted:
            found.append(bench.measure(row))
            if write:
                records.keep(tables.RESULTS, row.name, found[-1], [row.name for row in (*TABLE, *LARGE)])
    if against_version:
        click.echo(tables.against_version(found, against_version))
    else:
        shown = (table(found) for table in tables.TABLES.values())
        click.echo("\n\n".join(text for text in shown if text))
    for result in found:
        for line in result["unequal"]:
            click.echo(f"{result['row']['name']}: {line}", err=True)
    if write:
        pages.write()


def _rows(names: str | None, *, alone: bool) -> list[Row]:
    """The rows that are asked for; the row `newcomer` is for Linux and left out elsewhere."""
    try:
        found = [named(name.strip()) for name in names.split(",")] if names else list(TABLE)
    except ValueError as error:
        raise BenchmarkError(f"--rows: {error}") from error
    if alone and not names:
        found = [row for row in found if row.kind == "same"]
    return [row for row in found if sys.platform == "linux" or row.kind != "newcomer"]


if __name__ == "__main__":
    main()
