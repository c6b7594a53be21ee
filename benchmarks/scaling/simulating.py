"""From 1 to 64 machines, played through from the phases on record; and the wire alone, by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve
from benchmarks.harness.internals import (
    Kind,
    Line,
    Link,
    Phases,
    Work,
    play_ranks,
    play_workers,
    ranks_bytes,
    ranks_seconds,
    ways,
)

MACHINES = (2, 4, 8, 16, 32, 64)
LINKS: Sequence[Kind] = ("1gbe", "10gbe")
PAIRS = (16, 128)
"""Of a step: of each size, times lie on the lines through those that were measured."""
DEFAULT_STALENESS = 8
STEPS = 300
GRADIENTS = {
    "embedded model, LoRA 8": 29_184,
    "SmolLM2-135M, LoRA 8 on 30 layers": 30 * 8 * (2 * 1152 + 2 * 768 + 3 * 2112),
    "a 4B model, LoRA 8 on 16 layers": 16 * 8 * (2 * 6656 + 2 * 3584 + 3 * 12_288),
    "a 0.6B model, all weights": 596_049_920,
}
"""Trained parameters. The 4B model has the shape of Qwen3-4B, the last one is Qwen3-0.6B."""


def read(found: Mapping[str, Any]) -> tuple[Work, Phases]:
    """A body's work and phases as they are on record."""
    phases = dict(found["phases"])
    lines = {name: Line(**phases.pop(name)) for name in ("sampling", "judging", "scoring")}
    spread, sizes = tuple(phases.pop("spread")), tuple(phases.pop("sizes"))
    work = {name: value for name, value in found["work"].items() if name != "gradient_bytes"}
    return Work(**work), Phases(**lines, **phases, spread=spread, sizes=sizes)


def simulate(
    found: Mapping[str, Any],
    sizes: Sequence[int] = PAIRS,
    links: Sequence[Kind] = LINKS,
    machines: Sequence[int] = MACHINES,
) -> list[dict[str, Any]]:
    """Every link, size of a step and number of machines, each way."""
    measured, phases = read(found)
    rows = []
    for pairs in sizes:
        work = evolve(measured, pairs=pairs)
        alone = ways.one(work, phases).seconds
        rows.append({"pairs": pairs, "machines": 1, "way": "one", "seconds": alone, "times": 1.0})
        for link in links:
            for count in machines:
                for row in _rows(work, phases, Link(kind=link), count):
                    times = (alone or 0.0) / row["seconds"]
                    rows.append({"pairs": pairs, "link": link, "machines": count, **row, "times": times})
    return rows


def _rows(work: Work, phases: Phases, link: Link, machines: int) -> Iterator[dict[str, Any]]:
    each = [phases] * machines
    steps = max(60, min(STEPS, 8000 // machines))
    played = play_ranks(work, each, link, steps)
    said = ways.ranks(work, each, machines, link)
    yield {"way": "ranks", "seconds": played.seconds, "arithmetic": said.seconds, "busy": played.learner_busy}
    said = ways.workers(work, each, machines, link)
    for staleness in (0, DEFAULT_STALENESS):
        played = play_workers(work, each, link, staleness, steps)
        yield {
            "way": f"workers, {staleness}",
            "seconds": played.seconds,
            "arithmetic": said.seconds if staleness else said.synchronous,
            "needed": said.staleness,
            "age": played.age,
            "busy": played.learner_busy,
        }


def wires() -> list[dict[str, Any]]:
    """What a step's sum over a ring moves and takes, by what is trained."""
    rows = []
    for name, parameters in GRADIENTS.items():
        work = Work(parameters, 4 * parameters, 16, 100, 7, 100)
        for machines in (2, 8, 64):
            seconds = {link: ranks_seconds(work, machines, Link(kind=link)) for link in LINKS}
            rows.append(
                {"name": name, "machines": machines, "bytes": ranks_bytes(work, machines), "seconds": seconds}
            )
    return rows
