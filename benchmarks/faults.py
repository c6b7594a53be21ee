"""The fault campaign: what becomes of runs that are killed, of full disks and of damaged files.

``python benchmarks/faults.py --kills 100`` kills real training processes with SIGKILL and resumes them
until they are done; fills small disks while runs are saved (root only); cuts, changes and removes files of
interrupted runs. After every fault the files must be readable or, where the fault was to them, be refused
in one line; in the end the run must equal one that nothing interrupted: the same adapters, bit for bit,
every label once, the same metrics but for timings. Prints one table and exits with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fault_checks import SETTINGS, Outcome, Twin
from fault_files import can_mount, damage_files, fill_disks
from fault_kills import kill_runs

from prefloop.cpu import blas

LOSSES = (
    "unreadable",
    "labels lost",
    "labels repeated",
    "other adapters",
    "other metrics",
    "traceback",
    "not resumed",
)


def main() -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--damages", type=int, default=90, help="files to damage")
    parser.add_argument("--disks", type=int, default=10, help="disks to fill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="runs that are killed at once")
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        outcomes = _campaign(Path(name), arguments)
    print(table(outcomes))
    print(f"seed {arguments.seed}, {time.perf_counter() - started:.0f} s")
    return int(any(outcome.losses for outcome in outcomes))


def _campaign(folder: Path, arguments: argparse.Namespace) -> list[Outcome]:
    blas.use_fastest()  # before mlx is imported: another BLAS rounds in another way
    from prefloop import load_config, train

    twin = Twin.of(train(load_config({**SETTINGS, "output": str(folder / "twin")})).path)
    outcomes = kill_runs(folder, twin, arguments.kills, arguments.seed, arguments.workers)
    if can_mount():
        outcomes += fill_disks(folder, twin, [24 + 20 * i for i in range(arguments.disks)])
    elif arguments.disks:
        print("No disk was filled: that needs root and mount.")
    return outcomes + list(damage_files(folder, twin, arguments.damages, arguments.seed))


def table(outcomes: Iterable[Outcome]) -> str:
    """A line for each kind of fault, and one for all of them."""
    kinds: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(outcome.kind, []).append(outcome)
    heads = ("tried", "refused", "same end", *LOSSES)
    lines = [" ".join([f"{'fault':<40}", *heads])]
    kinds["all"] = [outcome for found in kinds.values() for outcome in found]
    for kind, found in kinds.items():
        lost = sum((o.losses for o in found), Counter[str]())
        ends = [len(found), sum(o.refused for o in found), sum(o.same_end for o in found)]
        numbers = [*ends, *(lost[loss] for loss in LOSSES)]
        cells = (f"{number:>{len(head)}}" for head, number in zip(heads, numbers, strict=True))
        lines.append(" ".join([f"{kind:<40}", *cells]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
