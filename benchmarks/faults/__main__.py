"""``python -m benchmarks.faults``: see the package."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click
from benchmarks.faults.checks import SETTINGS, Outcome, Twin
from benchmarks.faults.files import can_mount, damage_files, fill_disks
from benchmarks.faults.kills import kill_runs
from benchmarks.faults.ranks import RUN, Same, kill_ranks
from benchmarks.harness.internals import blas
from benchmarks.harness.pages import markdown

LOSSES = (
    "unreadable",
    "labels lost",
    "labels repeated",
    "other adapters",
    "other metrics",
    "traceback",
    "not resumed",
    "hung",
)


@click.command(help="Interrupt, kill, fill and damage; print what was lost.")
@click.option("--kills", default=100, show_default=True, help="Signals to send.")
@click.option("--damages", default=90, show_default=True, help="Files to damage.")
@click.option("--disks", default=10, show_default=True, help="Disks to fill.")
@click.option(
    "--ranks-kills", default=100, show_default=True, help="Ranks to kill of runs that several share."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Runs that are killed at once.")
def main(kills: int, damages: int, disks: int, ranks_kills: int, seed: int, workers: int) -> None:
    started = time.perf_counter()
    blas.use_fastest()  # before mlx is imported: another BLAS rounds in another way
    from prefloop import load_config, train

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        twin = Twin.of(train(load_config({**SETTINGS, "output": str(folder / "twin")})).path)
        outcomes = kill_runs(folder, twin, kills, seed, workers)
        if can_mount():
            outcomes += fill_disks(folder, twin, [24 + 20 * i for i in range(disks)])
        elif disks:
            click.echo("No disk was filled: that needs root and mount.")
        outcomes += damage_files(folder, twin, damages, seed)
        if ranks_kills:
            alone = Same.of(train(load_config({**RUN, "output": str(folder / "alone")})).path)
            outcomes += kill_ranks(folder, alone, ranks_kills, seed, click.echo)
    click.echo(table(outcomes))
    click.echo(f"seed {seed}, {time.perf_counter() - started:.0f} s")
    sys.exit(any(outcome.losses for outcome in outcomes))


def table(outcomes: Iterable[Outcome]) -> str:
    """A line for each kind of fault, and one for all of them."""
    kinds: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(outcome.kind, []).append(outcome)
    kinds["all"] = [outcome for found in kinds.values() for outcome in found]
    lines = []
    for kind, found in kinds.items():
        lost = sum((o.losses for o in found), Counter[str]())
        ends = [len(found), sum(o.refused for o in found), sum(o.same_end for o in found)]
        lines.append((kind, *map(str, ends), *(str(lost[loss]) for loss in LOSSES)))
    return markdown(("fault", "tried", "refused", "same end", *LOSSES), lines)


if __name__ == "__main__":
    main()
