"""From two sides' results to what compares them: medians, paired ratios, and whether work was equal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isclose
from statistics import median
from typing import Any

from attrs import asdict
from benchmarks.harness.statistics import paired
from benchmarks.speed import measuring
from benchmarks.speed.measuring import SAME, Result

MEMORY = ("held_mb", "peak_mb", "working_mb", "rss_mb")
PHASES = tuple(f"{phase}_seconds" for phase in measuring.PHASES)
COMPARED = ("step_seconds", *PHASES, "processor_seconds", *MEMORY)


def summary(result: Result) -> dict[str, float | None]:
    """Medians over the steps of one process, and its memory."""
    return {
        "step_seconds": median(result["step"]),
        **{f"{phase}_seconds": median(result[phase]) for phase in measuring.PHASES},
        "processor_seconds": median(result["processor"]),
        "held_mb": result["held_mb"],
        "peak_mb": result["peak_mb"],
        "working_mb": None if result["peak_mb"] is None else result["peak_mb"] - result["held_mb"],
        "rss_mb": result["rss_mb"],
        "load_before": result["load_before"],
    }


def middle(results: Sequence[Result]) -> dict[str, float | None]:
    """The summary of several processes: the median of each number."""
    summaries = [summary(result) for result in results]
    values = {name: [found[name] for found in summaries] for name in summaries[0]}
    return {name: None if None in found else median(found) for name, found in values.items()}


def compared(firsts: Sequence[Result], seconds: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Paired ratios, first to second, of a step's time and of memory, where they are known."""
    sides = [[summary(result) for result in side] for side in (firsts, seconds)]
    values = {name: [[found[name] for found in side] for side in sides] for name in COMPARED}
    known = {name: both for name, both in values.items() if not any(None in side for side in both)}
    return {name: asdict(paired(*both)) for name, both in known.items()}


def unequal(row: dict[str, Any], first: Result, second: Result, *, replies: bool = True) -> list[str]:
    """In what the two sides' work differs, a line each; nothing where it is the same.

    `row` has ``batch``, ``completion``, and as ``tolerance`` by what share counts of tokens may differ.
    `replies` is whether a judge that decodes has to have said a label each time.
    """
    found = []
    tokens = 2 * row["batch"] * row["completion"]
    alike = partial(isclose, rel_tol=row["tolerance"])
    if first["prompts"] != second["prompts"][: len(first["prompts"])]:  # whole rollouts may be more steps
        found.append("the prompts or their order differ")
    for side, result in (("first", first), ("second", second)):
        for what in ("sampled", "scored"):
            if not all(alike(count, tokens) for count in result[what]):
                found.append(
                    f"{what} tokens of the {side} side are {result[what]}, not {tokens} in each step"
                )
        if replies and not set(result.get("replies", ())) <= {"0", "1"}:
            found.append(f"the judge of the {side} side replied {result['replies']}")
    if not all(map(alike, first["questions"], second["questions"])):
        found.append(f"questions: {first['questions']} tokens against {second['questions']}")
    if first["trained"] != second["trained"]:
        found.append(f"trained: {first['trained']} parameters against {second['trained']}")
    for name in SAME:
        sides = (result.get("versions", {}) for result in (first, second))  # PyTorch's side has no mlx
        versions = {side[name] for side in sides if name in side}
        if len(versions) > 1:
            found.append(f"{name} has different versions: {' and '.join(sorted(versions))}")
    return found
