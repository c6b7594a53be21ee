"""``python -m benchmarks.experiments NAME|all``: see the package."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path

import click
from attrs import evolve
from benchmarks.experiments import arms
from benchmarks.experiments.pages import render, table
from benchmarks.experiments.records import FILE, PAGES, SEEDS, Records, train_missing

EXPERIMENTS = {
    f.__name__: f for f in (arms.freshness, arms.losses, arms.exploration, arms.labels, arms.faults)
}


@click.command(help="Train what is not on record, then draw the figures and fill in docs/experiments.")
@click.argument("name", type=click.Choice([*EXPERIMENTS, "all"]))
@click.option(
    "--seeds", default=5, type=click.IntRange(2, SEEDS), show_default=True, help="Runs of each arm."
)
@click.option("--jobs", default=2, show_default=True, help="Runs side by side, one thread each.")
@click.option("--seconds", default=math.inf, help="Begin no run after so long; the next call goes on.")
@click.option("--quick", is_flag=True, help="Try everything with a few steps; write nothing that stays.")
def main(name: str, seeds: int, jobs: int, seconds: float, quick: bool) -> None:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for the processes that train, side by side
    names = [*EXPERIMENTS] if name == "all" else [name]
    if quick:
        try_out(names, jobs)
        return
    records = Records()
    wanted = [arm for n in names for arm in EXPERIMENTS[n]()]
    if missing := train_missing(records, wanted, seeds, jobs, seconds):
        sys.exit(f"{missing} runs are missing; the same command goes on.")
    records.tidy([arm for make in EXPERIMENTS.values() for arm in make()])
    write(names, records)


def write(names: list[str], records: Records) -> None:
    """The figures of some experiments, and the pages of all."""
    from benchmarks.experiments.figures import draw

    for name in names:
        draw(name, records, PAGES)
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(render(path.read_text(encoding="utf-8"), records, EXPERIMENTS), encoding="utf-8")


def try_out(names: list[str], jobs: int) -> None:
    """Two arms of each experiment, two seeds, two steps, beside the records."""
    with tempfile.TemporaryDirectory() as folder:
        records = Records(Path(folder) / FILE.name)
        for name in names:
            found = [evolve(arm, steps=2, evaluations=1) for arm in EXPERIMENTS[name]()[:2]]
            train_missing(records, found, 2, jobs, math.inf)
            print(table(name, found, records))


if __name__ == "__main__":
    main()
