"""A plan for several machines as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from prefloop.runs.plan import size_words
from prefloop_plugins.scaling.planned import Needs, ScalingPlan
from prefloop_plugins.scaling.ways import Way

HEADS = (
    "machines",
    "way",
    "sent a step",
    "memory",
    "of each other",
    "s a step",
    "with spread",
    "times",
    "staleness",
)


def described(plan: ScalingPlan) -> list[tuple[str, str]]:
    """What the numbers start from, as titles and texts."""
    work = plan.work
    said, gradient = amount(work.answer_bytes(work.pairs)), amount(work.gradient_bytes)
    lines = [
        ("link", plan.machines.link.words()),
        ("gradient", f"{work.parameters:,} trained parameters and metrics as float32: {gradient}"),
        ("adapters", amount(work.adapter_bytes)),
        ("pairs", f"{work.pairs} a step, completions of {work.tokens:.0f} tokens: {said} with their text"),
    ]
    for one in dict.fromkeys(plan.phases or ()):
        lines.append(("phases", one.words(work.pairs)))
    return lines


def table(plan: ScalingPlan) -> list[str]:
    """The ways as lines of aligned cells."""
    alone = plan.ways[0].seconds
    rows = [
        _cells(way, needs, fits, alone)
        for way, needs, fits in zip(plan.ways, plan.needs, plan.fits, strict=True)
    ]
    return _aligned([HEADS, *rows])


def _cells(way: Way, needs: Needs, fits: bool, alone: float | None) -> Sequence[str]:
    timed = ("-", "-", "-", "-")
    if way.seconds and way.simulated and alone:
        stale = str(way.staleness) if way.name == "workers" else "-"
        timed = (f"{way.seconds:.3g}", f"{way.simulated:.3g}", f"{alone / way.simulated:.2f}", stale)
    return (
        str(way.machines),
        way.name,
        amount(way.sent_bytes) if way.sent_bytes else "-",
        size_words(needs.first) + ("" if fits else " (too much)"),
        size_words(needs.others) if needs.others else "-",
        *timed,
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


def amount(count: float) -> str:
    """Bytes on a wire for people, from single ones on."""
    return size_words(int(count)) if count >= 1e6 else f"{count / 1e3:.3g} kB"
