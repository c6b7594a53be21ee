"""The memory plan against the measured peak: ``python -m benchmarks.memory_plan --work FOLDER``.

Each row takes two steps of a loop in a process of its own, with policy and judge loaded and every completion
of full length, and compares the plan's total with the most that mlx held. Models and rows are those of
`benchmarks.speed`; they are made in FOLDER. Writes ``results/memory_plan.json`` and prints a table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from attrs import asdict
from benchmarks.speed.rows import SIZES, Row

RESULT = Path(__file__).parent / "results" / "memory_plan.json"
ROWS = (
    ("S", 4, 64, None),
    ("S", 16, 64, None),
    ("S", 4, 256, None),
    ("S", 16, 256, None),
    ("X", 4, 64, None),
    ("X", 16, 64, None),
    ("X", 4, 256, None),
    ("M", 4, 64, None),
    ("M", 4, 256, None),
    ("M", 1, 16, 4),
)
"""Model, batch, tokens in a completion, bits. Policy and judge are one model for M, as in the speed table."""


def measure(name: str, batch: int, completion: int, bits: int | None, work: Path) -> dict[str, Any]:
    """Plan and peak of one row, in bytes."""
    from prefloop import blas

    blas.use_fastest()
    import mlx.core as mx
    from benchmarks.speed.models import make
    from benchmarks.speed.ours import make_loop

    from prefloop.generation.generator import POOL_BYTES
    from prefloop.runs.memory import Estimator

    size = SIZES[name]
    policy = work / f"{size.name}{f'-{bits}bit' if bits else ''}"
    judge = policy if name == "M" else work / f"{size.name}-judge"
    make(policy, size, bits=bits)
    make(judge, size, judge=name != "M", bits=bits)
    job = Row(name, batch, completion, "64" if bits else "short").job(seed=0, steps=2, warmup=0)
    loop = make_loop({**job, "policy": str(policy), "judge": str(judge), "orders": "both"})
    longest = max(len(prompt.tokens) for prompt in loop.prompts)
    mx.eval(loop.policy.model.parameters())
    plan = Estimator(loop, longest, completion)(batch, POOL_BYTES)
    own = plan.weights + plan.optimizer  # what the judge holds, as `Prepared.with_components` finds it
    judge_bytes = max(0, mx.get_active_memory() - own)
    plan = Estimator(loop, longest, completion, judge_bytes)(batch, POOL_BYTES)
    mx.clear_cache()
    mx.reset_peak_memory()
    list(loop)
    about = {"model": name, "batch": batch, "completion": completion, "bits": bits}
    return {**about, "peak": mx.get_peak_memory(), "planned": plan.total, "terms": asdict(plan)}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, megabytes."""
    lines = ["| model | batch | completion | planned | measured peak | ratio |", "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        name = row["model"] + (f", {row['bits']} bit" if row["bits"] else "")
        planned, peak = row["planned"] / 1e6, row["peak"] / 1e6
        cells = (name, row["batch"], row["completion"], f"{planned:.0f}", f"{peak:.0f}")
        lines.append(f"| {' | '.join(map(str, cells))} | {planned / peak:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The memory plan against the measured peak.")
    parser.add_argument("--work", type=Path, required=True, help="where the models are made")
    parser.add_argument("--row", type=json.loads, help="measure this row alone and print it as JSON")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(*options.row, options.work)))
        return
    rows = []
    for row in ROWS:
        command = [sys.executable, "-m", "benchmarks.memory_plan", "--work", str(options.work)]
        done = subprocess.run([*command, "--row", json.dumps(row)], check=True, stdout=subprocess.PIPE)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1]["model"], *row[1:], f"{rows[-1]['planned'] / rows[-1]['peak']:.2f}", file=sys.stderr)
    RESULT.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
