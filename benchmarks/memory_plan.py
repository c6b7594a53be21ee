"""The memory plan against the measured peak: ``python -m benchmarks.memory_plan``.

Each row takes a step or two of a loop in a process of its own, with policy and judge loaded and every
completion of full length, and compares the plan's total with the most that mlx held. Models and rows are
those of `benchmarks.speed`, and more shapes. ``--write`` keeps each row as it is measured; other rows stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from attrs import field, frozen
from benchmarks.harness import environments, records
from benchmarks.harness.internals import did_you_mean
from benchmarks.harness.pages import markdown
from benchmarks.harness.workers import BenchmarkError, run_worker
from benchmarks.speed.comparing import Bench
from benchmarks.speed.rows import Row, Size, real

RESULTS = records.RESULTS / "memory_plan.json"
SETTINGS: Mapping[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"adapter": {"type": "dora"}},
    "full": {"adapter": {"type": "full"}},
    "kl": {"bonuses": ["kl"]},
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "accumulation": {"training": {"gradient_accumulation": 2}},
    "rollout": {"training": {"rollout": 4}},
    "shared": {},
}
"""What is trained and how: LoRA of rank 8 unless it says otherwise. `shared` has policy and judge as one."""
HEADS = ("row", "planned, MB", "peak, MB", "planned / peak", "sampling", "judging", "scoring")


@frozen
class Shape(Row):
    """A row on a model of random weights that the speed table does not have."""

    size: Size = field(kw_only=True)


SHAPES = {
    "D": Size(192, 30, 512, 3, 1, 64, 16_384),
    "E": Size(384, 24, 1024, 6, 2, 64, 8192),
    "F": Size(256, 12, 768, 8, 4, 32, 65_536),
    "Q": Size(1024, 28, 3072, 16, 8, 128, 151_936),
}
"""D is deep and narrow (30 layers), E has 24 layers, F 12 and a vocabulary of 65,536. Q has the shape of
Qwen3-0.6B.
"""


@frozen
class Case:
    """A row and what is trained how; policy and judge are one model for M, as in the speed table."""

    row: Row
    setting: str = field(default="lora")

    @property
    def name(self) -> str:
        return self.row.name + ("" if self.setting == "lora" else f"-{self.setting}")

    @property
    def judge_is_policy(self) -> bool:
        return self.row.model == "M" or self.setting == "shared"

    def job(self) -> dict[str, Any]:
        """The work of the row's process.

        Where all weights are trained, the second step is the first that has those of the start besides.
        """
        settings = SETTINGS[self.setting]
        training = settings.get("training", {})
        steps = training.get("rollout", 2 if self.setting == "full" else 1)
        times = training.get("gradient_accumulation", 1)
        job = self.row.job(seed=0, steps=steps * times, warmup=0)
        return {**job, **settings, "steps": steps, "orders": "both"}


def shape(model: str, batch: int, completion: int, rubric: str = "short", bits: int | None = None) -> Row:
    return Shape(model, batch, completion, rubric, bits=bits, size=SHAPES[model])


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
        *(Case(Row("X", 4, 64), setting) for setting in ("kl", "full", "checkpointing")),
        Case(Row("M", 4, 64)),
        Case(Row("M", 4, 256)),
        Case(Row("M", 1, 16, "64", bits=4)),
        *(Case(shape("D", batch, 48)) for batch in (1, 4, 16)),
        Case(shape("D", 4, 256)),
        *(Case(shape("D", 4, 48), setting) for setting in ("dora", "full", "accumulation", "shared")),
        Case(shape("D", 4, 48, bits=4)),
        *(Case(shape("E", batch, 256)) for batch in (1, 4)),
        Case(shape("F", 8, 48)),
        *(Case(shape("F", 4, 48), setting) for setting in ("rollout", "full")),
        *(Case(real(batch, "rule")) for batch in (1, 4, 16)),
        Case(real(4, "rule"), "dora"),
        Case(real(4, "rule"), "full"),
        Case(real(4, "rule"), "rollout"),
        *(Case(real(1, "rule", length), "checkpointing") for length in (48, 256)),
        *(Case(real(4, "llm"), setting) for setting in ("lora", "shared", "checkpointing")),
        *(Case(shape("Q", 1, 48), setting) for setting in ("lora", "checkpointing")),
    )
}


def measure(case: Case, cache: Path, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Plan and peaks of one row, in bytes; a row from `before` keeps its peaks and is planned anew."""
    models = Bench(cache).models(case.row, judge_is_policy=case.judge_is_policy)
    job = {**case.job(), **models, "plan_only": before is not None}
    found = run_worker("benchmarks.speed.plan_worker", job)
    provenance = records.provenance(found["device"], found["versions"])
    planned = {name: found[name] for name in ("planned", "terms")}
    if before:
        return {**before, **planned, "plan_commit": provenance["commit"]}
    return {**planned, "peaks": found["peaks"], "provenance": provenance}


def table(results: Mapping[str, dict[str, Any]]) -> str:
    """The rows in Markdown, megabytes (10^6 bytes)."""
    lines = []
    for name, found in results.items():
        peaks, peak = found["peaks"], max(found["peaks"].values())
        phases = (f"{peaks[phase] / 1e6:.0f}" for phase in HEADS[-3:])
        total = (f"{found['planned'] / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{found['planned'] / peak:.2f}")
        lines.append((name, *total, *phases))
    return markdown(HEADS, lines)


def reach(results: Mapping[str, dict[str, Any]]) -> str:
    """How far the plan is off, in words."""
    ratios = [found["planned"] / max(found["peaks"].values()) for found in results.values()]
    return f"{min(ratios):.2f} to {max(ratios):.2f} times the measured peak in {len(ratios)} rows"


def block(name: str) -> str:
    """What a page shows of the recorded results: `plan`, `reach` or `origin`."""
    results = records.load(RESULTS)
    writers = {"plan": table, "reach": reach, "origin": lambda found: records.origin(found.values())}
    return writers[name](results)


@click.command(help="Compare the memory plan with the measured peak.")
@click.option("--rows", help="Rows, with commas between them; all by default.")
@click.option(
    "--plan", is_flag=True, help="Plan rows on record anew; their peaks stay as they were measured."
)
@click.option("--write", is_flag=True, help="Keep each row's result and write it into the pages.")
@click.option("--cache", type=click.Path(path_type=Path), default=environments.CACHE, show_default=True)
def main(rows: str | None, plan: bool, write: bool, cache: Path) -> None:
    from benchmarks import pages

    kept = records.load(RESULTS) if plan else {}
    names = [name.strip() for name in rows.split(",")] if rows else list(kept or CASES)
    if unknown := [name for name in names if name not in CASES]:
        raise BenchmarkError(f"there is no row '{unknown[0]}'.{did_you_mean(unknown[0], CASES)}")
    found = {}
    for name in names:
        found[name] = measure(CASES[name], cache, kept.get(name))
        if write:
            records.keep(RESULTS, name, found[name], CASES)
    click.echo(table(found))
    if write:
        pages.write()


if __name__ == "__main__":
    main()
