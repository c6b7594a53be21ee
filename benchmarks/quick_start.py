"""The quick start as a newcomer runs it, over seeds: ``python -m benchmarks.quick_start``.

Each seed is ``prefloop train --set training.seed=N`` in a process of its own, with the judge that the quick
start has. Prints a table for docs/experiments/quick-start.md; ``--write`` puts it and the record in place.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.experiments.intervals import STUDENT, interval
from benchmarks.pages import markdown

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "experiments" / "quick-start.md"
RECORD = ROOT / "benchmarks" / "results" / "quick-start.json"
HEADS = ("algorithm", "seed", "before", "after", "95 % interval", "length-controlled", "right answers")
MARKS = re.compile(r"(<!-- table -->\n).*?(\n<!-- end -->)", re.DOTALL)


def run(seed: int, algorithm: str) -> dict[str, Any]:
    """The summary of one quick start."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"training.seed={seed}", f"algorithm={algorithm}", f"output.path={folder}/run"]
        command = [sys.executable, "-m", "prefloop", "train"]
        for setting in [*settings, "output.report=false"]:
            command += ["--set", setting]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        summary = json.loads(Path(folder, "run", "run.json").read_text())["summary"]
    kept = ("win_rate", "length_controlled_win_rate", "accuracy", "completion_length", "kl")
    return {"seed": seed, "algorithm": algorithm, **{name: summary.get(name) for name in kept}}


def table(runs: list[dict[str, Any]]) -> str:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, choices=range(2, len(STUDENT) + 2), default=5)
    parser.add_argument("--write", action="store_true", help="put the table and the record in place")
    arguments = parser.parse_args()
    runs = [run(seed, a) for a in ("online_dpo", "xpo") for seed in range(arguments.seeds)]
    print(table(runs))
    if arguments.write:
        RECORD.write_text(json.dumps(runs, indent=1) + "\n")
        PAGE.write_text(MARKS.sub(lambda m: m[1] + "\n" + table(runs) + "\n" + m[2], PAGE.read_text()))


if __name__ == "__main__":
    main()
