"""Writes what is on record into the pages that show it: ``python -m benchmarks.pages``.

What stands between ``<!-- TAG: NAME -->`` and ``<!-- end -->`` is replaced; each tag belongs to one
benchmark.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import (
    frequencies,
    independent,
    itself,
    learned_judge,
    memory_plan,
    meters,
    quick_start,
    staleness,
    studio,
)
from benchmarks.experiments import tables as experiments
from benchmarks.harness.pages import fill
from benchmarks.harness.workers import ROOT
from benchmarks.others import tables as others
from benchmarks.scaling import tables as scaling
from benchmarks.speed import tables as speed

WRITERS = {
    "speed": speed.block,
    "memory": memory_plan.block,
    "others": others.block,
    "quick start": quick_start.block,
    "meters": meters.block,
    "studio": studio.block,
    "frequencies": frequencies.block,
    "independent": independent.block,
    "itself": itself.block,
    "learned": learned_judge.block,
    "staleness": staleness.block,
    "scaling": scaling.block,
    "table": experiments.table,
    "number": experiments.number,
}
PAGES = [
    ROOT / "benchmarks" / "NOTES.md",
    ROOT / "docs" / "evaluation.md",
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "scaling.md",
    ROOT / "docs" / "studio.md",
    *sorted((ROOT / "docs" / "experiments").glob("*.md")),
    ROOT / "contrib" / "prefloop-sampler-remote" / "README.md",
]


def render(page: Path) -> str:
    """A page with all that is on record."""
    return fill(page.read_text(encoding="utf-8"), WRITERS)


def write() -> None:
    for page in PAGES:
        page.write_text(render(page), encoding="utf-8")


if __name__ == "__main__":
    write()
