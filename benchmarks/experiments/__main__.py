"""``python -m benchmarks.experiments NAME|all``: see the package."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path

import click
from attrs import evolve
from benchmarks import pages
from benchmarks.experiments.arms import EXPERIMENTS
from benchmarks.experiments.records import FILE, Records, settings_of, train_missing
from benchmarks.experiments.tables import table_of
from benchmarks.harness.statistics import MOST_SEEDS
from benchmarks.harness.workers import ROOT


@click.command(help="Train what is not on record, then draw the figures and fill in docs/experiments.")
@click.argument("name", type=click.Choice([*EXPERIMENTS, "all"]))
@click.option(
    "--seeds", default=5, type=click.IntRange(2, MOST_SEEDS), show_default=True, help="Of each arm."
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
    arms = [arm for make in EXPERIMENTS.values() for arm in make()]
    records.tidy((settings_of(arm), seed) for arm in arms for seed in range(MOST_SEEDS))
    from benchmarks.experiments.figures import draw

    for n in names:
        draw(n, records, ROOT / "docs" / "experiments")
    pages.write()


def try_out(names: list[str], jobs: int) -> None:
    """Two arms of each experiment, two seeds, two steps, beside the records."""
    with tempfile.TemporaryDirectory() as folder:
        records = Records(Path(folder) / FILE.name)
        for name in names:
            found = [evolve(arm, steps=2, evaluations=1) for arm in EXPERIMENTS[name]()[:2]]
            train_missing(records, found, 2, jobs, math.inf)
            print(table_of(name, found, records))


if __name__ == "__main__":
    main()
