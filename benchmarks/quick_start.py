"""The quick start as a newcomer runs it, over seeds: ``python -m benchmarks.quick_start``.

Each seed is ``prefloop train --set training.seed=N`` in a process of its own, with the judge that the quick
start has. ``--write`` keeps the results and puts them into docs/experiments/quick-start.md.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.pages import markdown
from benchmarks.harness.statistics import MOST_SEEDS, interval
from benchmarks.harness.worker import device
from benchmarks.harness.workers import prefloop

RESULTS = records.RESULTS / "quick-start.json"
ALGORITHMS = ("online_dpo", "xpo")
HEADS = ("algorithm", "seed", "before", "after", "95 % interval", "length-controlled", "right answers")
KEPT = ("win_rate", "length_controlled_win_rate", "accuracy", "completion_length", "kl")


def run(seed: int, algorithm: str) -> dict[str, Any]:
    """The summary of one quick start."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"training.seed={seed}", f"algorithm={algorithm}", f"output.path={folder}/run"]
        arguments = ["train"]
        for setting in [*settings, "output.report=false"]:
            arguments += ["--set", setting]
        prefloop(arguments, Path(folder), share_blas=False)
        summary = json.loads(Path(folder, "run", "run.json").read_text(encoding="utf-8"))["summary"]
    return {"seed": seed, "algorithm": algorithm, **{name: summary.get(name) for name in KEPT}}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A line for each run, and the mean of each algorithm with Student's interval over its seeds."""
    lines = []
    for found in runs:
        before, after = found["win_rate"]["before"], found["win_rate"]["after"]
        controlled = found["length_controlled_win_rate"]["after"]
        cells = [
            found["algorithm"],
            str(found["seed"]),
            f"{before['rate']:.2f}",
            f"{after['rate']:.2f}",
            f"{after['low']:.2f} to {after['high']:.2f}",
            "not defined" if controlled is None else f"{controlled:.2f}",
            f"{found['accuracy']['after']:.2f}",
        ]
        lines.append(cells)
    for algorithm in dict.fromkeys(found["algorithm"] for found in runs):
        rates = [f["win_rate"]["after"]["rate"] for f in runs if f["algorithm"] == algorithm]
        over = interval(rates, share=True)
        reach = f"{over.low:.3f} to {over.high:.3f}"
        lines.append([f"**{algorithm}**", f"all {len(rates)}", "", f"**{over.mean:.3f}**", reach, "", ""])
    return markdown(HEADS, lines)


def block(name: str) -> str:
    """What the page shows: `runs`, or `origin`, what they were measured with."""
    return records.shown(RESULTS, name, table)


@click.command(help="Run the quick start with several seeds.")
@click.option("--seeds", default=5, type=click.IntRange(2, MOST_SEEDS), show_default=True)
@click.option("--write", is_flag=True, help="Keep the results and write them into the page.")
def main(seeds: int, write: bool) -> None:
    import mlx.core  # noqa: F401 (what `device` asks)
    from benchmarks import pages

    runs = [run(seed, algorithm) for algorithm in ALGORITHMS for seed in range(seeds)]
    click.echo(table(runs))
    if write:
        versions = installed(("prefloop", "mlx", "mlx-lm"))
        results = {"provenance": records.provenance(device(), versions), "runs": runs}
        records.save(RESULTS, results)
        pages.write()


if __name__ == "__main__":
    main()
