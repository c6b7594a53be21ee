"""``python -m benchmarks.speed``: see the package."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import click
from benchmarks import pages
from benchmarks.harness import environments, records
from benchmarks.harness.workers import BenchmarkError, check_out
from benchmarks.speed import sharing, tables
from benchmarks.speed.comparing import Bench, is_installed
from benchmarks.speed.rows import EVERY, GROUPS, OTHERS, SHARED, TABLE, Row, named


@click.command(help="Measure a step of prefloop beside other tools, or beside an earlier commit of its own.")
@click.option("--rows", "names", help=f"Rows, or {', '.join(GROUPS)}, with commas; the table by default.")
@click.option("--others", help=f"Other tools that take part, or none; {', '.join(OTHERS)} by default.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each row, instead of its own number.")
@click.option("--steps", type=click.IntRange(1), help="Steps that each process is timed for.")
@click.option("--quick", is_flag=True, help="Only try: one row, one round, one step.")
@click.option("--against-version", metavar="GIT_REF", help="prefloop against itself at an earlier commit.")
@click.option("--share", is_flag=True, help="A few rows as a block for an issue; other tools if installed.")
@click.option("--write", is_flag=True, help="Keep each row's result and write it into the pages.")
@click.option("--cache", type=click.Path(path_type=Path), default=environments.CACHE, show_default=True)
def main(
    names: str | None,
    others: str | None,
    rounds: int | None,
    steps: int | None,
    quick: bool,
    against_version: str | None,
    share: bool,
    write: bool,
    cache: Path,
) -> None:
    beside = _others(others)
    if write and (quick or against_version or share or beside != OTHERS):
        raise BenchmarkError("--write: only whole rows with every other tool are kept, and not a quick try.")
    if share and against_version:
        raise BenchmarkError("--share: shows the table's rows, not a comparison with --against-version.")
    wanted = _rows(names, default=SHARED if share else TABLE, alone=against_version is not None)
    if quick:
        wanted, rounds, steps = wanted[:1], rounds or 1, steps or 1
    absent = _absent(beside, cache, install=others is not None) if share else {}
    with tempfile.TemporaryDirectory() as scratch:
        earlier = check_out(against_version, Path(scratch, "checkout")) if against_version else None
        bench = Bench(cache, earlier, steps, rounds, [name for name in beside if name not in absent])
        found = []
        for row in wanted:
            try:
                found.append(bench.measure(row))
            except BenchmarkError as error:
                if not share:
                    raise
                click.echo(f"{row.name}: {error.message}", err=True)
                absent[row.name] = "it failed"  # the message may have paths in it
                continue
            if write:
                records.keep(tables.RESULTS, row.name, found[-1], [row.name for row in EVERY])
    if share:
        click.echo(sharing.block(found, absent))
    elif against_version:
        click.echo(tables.against_version(found, against_version))
    else:
        shown = (table(found) for table in tables.TABLES.values())
        click.echo("\n\n".join(text for text in shown if text))
    for result in found:
        for line in result["unequal"]:
            click.echo(f"{result['row']['name']}: {line}", err=True)
    if write:
        pages.write()


def _rows(names: str | None, *, default: Sequence[Row], alone: bool) -> list[Row]:
    """The rows that are asked for; the row `newcomer` is for Linux and left out elsewhere."""
    asked = [name.strip() for name in names.split(",")] if names else []
    try:
        found = [row for name in asked for row in GROUPS.get(name) or (named(name),)] or list(default)
    except ValueError as error:
        raise BenchmarkError(f"--rows: {error}") from error
    if alone and not names:
        found = [row for row in found if row.kind == "same"]
    return [row for row in found if sys.platform == "linux" or row.kind != "newcomer"]


def _others(names: str | None) -> tuple[str, ...]:
    """The other tools that are asked for, in their order."""
    asked = [] if names == "none" else [name.strip() for name in names.split(",")] if names else [*OTHERS]
    for name in asked:
        if name not in OTHERS:
            raise BenchmarkError(f"--others: there is no '{name}', only {', '.join(OTHERS)} and none.")
    return tuple(name for name in OTHERS if name in asked)


def _absent(beside: Collection[str], cache: Path, *, install: bool) -> dict[str, str]:
    """Why other tools take no part, where they do not."""
    found = dict.fromkeys((name for name in OTHERS if name not in beside), "it was not asked for")
    if not install:
        missing = (name for name in beside if not is_installed(name, cache))
        found |= dict.fromkeys(missing, "it is not installed (--others installs it)")
    return found


if __name__ == "__main__":
    main()
