"""The memory plan against the measured peak: ``python -m benchmarks.memory_plan --work FOLDER``.

Each row takes two steps of a loop in a process of its own, with policy and judge loaded and every completion
of full length, and compares the plan's total with the most that mlx held. Models and rows are those of
`benchmarks.speed`; models are made in FOLDER. Each row goes into ``results/memory_plan.json`` as it is
measured, and other rows stay there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen
from benchmarks import pages
from benchmarks.speed.rows import Row

from prefloop.errors import did_you_mean

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "memory_plan.json"
PAGE = ROOT / "docs" / "performance.md"
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {},
    "kl": {"bonuses": ["kl"]},
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "full": {"adapter": {"type": "full"}},
}
"""LoRA of rank 8, alone, with the exact-KL bonus, with gradient checkpointing; and full fine-tuning."""
HEADS = ("row", "planned, MB", "peak, MB", "planned / peak", "sampling", "judging", "scoring")
STEPS = 2


@frozen
class Case:
    """A row and what is trained how; policy and judge are one model for M, as in the speed table."""

    row: Row
    setting: str = field(default="lora")

    @property
    def name(self) -> str:
        return self.row.name + ("" if self.setting == "lora" else f"-{self.setting}")


CASES = {
    case.name: case
    for case in (
        *(Case(Row("S", batch, length)) for length in (64, 256) for batch in (4, 16)),
        Case(Row("S", 4, 64, "long")),
        Case(Row("S", 16, 64, "long")),
        *(Case(Row("S", 4, 64), setting) for setting in ("kl", "checkpointing", "full")),
        Case(Row("S", 16, 256), "checkpointing"),
        Case(Row("X", 4, 64)),
        Case(Row("X", 16, 64)),
        Case(Row("X", 4, 256)),
        *(Case(Row("X", 4, 64), setting) for setting in ("kl", "full")),
        Case(Row("M", 4, 64)),
        Case(Row("M", 4, 256)),
        Case(Row("M", 1, 16, "64", bits=4)),
    )
}


class Peaks:
    """Stands before a judge and watches the loop: the most bytes that mlx held in each phase."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        self.bytes: dict[str, int] = {}

    def judge(self, pairs: Sequence[Any]) -> Any:
        self._take("sampling")
        verdicts = self._judge.judge(pairs)
        self._take("judging")
        return verdicts

    def step_finished(self, _: Any) -> None:
        self._take("scoring")

    def _take(self, phase: str) -> None:
        import mlx.core as mx

        self.bytes[phase] = max(self.bytes.get(phase, 0), mx.get_peak_memory())
        mx.reset_peak_memory()


def measure(case: Case, work: Path) -> dict[str, Any]:
    """Plan and peaks of one row, in bytes."""
    from prefloop.cpu import blas

    blas.use_fastest()
    import mlx.core as mx
    from benchmarks.speed.models import make
    from benchmarks.speed.ours import make_loop

    from prefloop.components import BaseJudge, Observer, adapt
    from prefloop.runs.planning import Estimator
    from prefloop.sampling.generator import POOL_BYTES

    row, shared = case.row, case.row.model == "M"
    policy = work / f"{row.size.name}{f'-{row.bits}bit' if row.bits else ''}"
    judge = policy if shared else work / f"{row.size.name}-judge"
    make(policy, row.size, bits=row.bits)
    make(judge, row.size, judge=not shared, bits=row.bits)
    job = {**row.job(seed=0, steps=STEPS, warmup=0), **SETTINGS[case.setting]}
    loop = make_loop({**job, "policy": str(policy), "judge": str(judge), "orders": "both"})
    longest = max(len(prompt.tokens) for prompt in loop.prompts)
    mx.eval(loop.policy.model.parameters(), loop.optimizer.state)
    plan = Estimator(loop, longest, row.completion)(row.batch, POOL_BYTES)
    own = plan.weights + plan.optimizer  # what the judge holds, as `Prepared.with_components` finds it
    judge_bytes = max(0, mx.get_active_memory() - own)
    plan = Estimator(loop, longest, row.completion, judge_bytes)(row.batch, POOL_BYTES)
    peaks = Peaks(loop.judge)
    loop.judge, loop.observers = adapt(peaks, BaseJudge), (adapt(peaks, Observer),)
    mx.clear_cache()
    mx.reset_peak_memory()
    list(loop)
    return {"planned": plan.total, "terms": asdict(plan), "peaks": peaks.bytes}


def keep(name: str, found: dict[str, Any]) -> None:
    """Put one row among those measured before."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    measured = {**results, name: found}
    in_order = {name: measured[name] for name in CASES if name in measured}
    RESULTS.write_text(json.dumps(in_order, indent=1) + "\n")


def table(results: dict[str, Any]) -> str:
    """The rows in Markdown, megabytes (10^6 bytes)."""
    lines = []
    for name, found in results.items():
        peaks, peak = found["peaks"], max(found["peaks"].values())
        phases = (f"{peaks[phase] / 1e6:.0f}" for phase in HEADS[-3:])
        total = (f"{found['planned'] / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{found['planned'] / peak:.2f}")
        lines.append((name, *total, *phases))
    return pages.markdown(HEADS, lines)


def filled(page: str, results: dict[str, Any]) -> str:
    """`page` with the table where it has ``<!-- memory: plan -->``, up to ``<!-- end -->``."""
    return pages.filled(page, "memory", {"plan": lambda: table(results)})


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.memory_plan", description=__doc__)
    parser.add_argument("--work", type=Path, help="where the models are made")
    parser.add_argument("--rows", help="names of rows, with commas between them; all by default")
    parser.add_argument("--here", help="measure this row in this process and print it")
    parser.add_argument("--write-docs", action="store_true", help="put the results into docs/performance.md")
    options = parser.parse_args()
    if options.write_docs:
        page = filled(PAGE.read_text(encoding="utf-8"), json.loads(RESULTS.read_text()))
        PAGE.write_text(page, encoding="utf-8")
        return
    if options.work is None:
        parser.error("--work is missing: the folder where the models are made")
    names = [name.strip() for name in options.rows.split(",")] if options.rows else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"there is no row '{unknown[0]}'.{did_you_mean(unknown[0], CASES)}")
    if options.here:
        print(json.dumps(measure(CASES[options.here], options.work)))
        return
    for name in names:
        command = [sys.executable, "-m", "benchmarks.memory_plan", "--work", str(options.work)]
        done = subprocess.run([*command, "--here", name], check=True, stdout=subprocess.PIPE)
        keep(name, json.loads(done.stdout.splitlines()[-1]))
    print(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
