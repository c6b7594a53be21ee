"""From two sides' results to what compares them: medians, paired ratios, and whether work was equal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from statistics import fmean, median
from typing import Any

from attrs import frozen
from benchmarks.speed.measuring import SECONDS, Result


@frozen
class Ratio:
    """How many times less the second of two sides takes: of each round's pair, so that both met the same
    machine; the middle one and the range."""

    median: float
    low: float
    high: float


def paired(firsts: Sequence[float], seconds: Sequence[float]) -> Ratio:
    """Ratios of `firsts` to `seconds`, round by round. Raises `ValueError` where rounds are missing."""
    ratios = sorted(first / second for first, second in zip(firsts, seconds, strict=True))
    return Ratio(median(ratios), ratios[0], ratios[-1])


def geometric_mean(values: Iterable[float]) -> float:
    return exp(fmean(map(log, values)))


def summary(result: Result) -> dict[str, Any]:
    """Medians over the steps of one process."""
    steps = {**result, "update": updates(result)}
    return {
        "seconds": {phase: median(steps[phase]) for phase in SECONDS},
        "processor_seconds": median(result["processor"]),
        "held_mb": result["held_mb"],
        "peak_mb": result["peak_mb"],
        "working_mb": result["peak_mb"] - result["held_mb"],
        "rss_mb": result["rss_mb"],
        "load_before": result["load_before"],
    }


def updates(result: Result) -> list[float]:
    """What of each step is neither sampling, judging nor scoring: the update and what lies between."""
    phases = zip(*(result[phase] for phase in SECONDS[:4]), strict=True)
    return [step - sampling - judging - scoring for step, sampling, judging, scoring in phases]


def unequal(row: dict[str, Any], first: Result, second: Result, *, replies: bool = True) -> list[str]:
    """In what the two sides' work differs, a line each; nothing where it is the same.

    `row` has ``batch`` and ``completion``. `replies` is whether a judge that decodes has to have said a
    label each time.
    """
    found = []
    tokens = 2 * row["batch"] * row["completion"]
    if first["prompts"] != second["prompts"]:
        found.append("the prompts or their order differ")
    for side, result in (("first", first), ("second", second)):
        for what in ("sampled", "scored"):
            if any(count != tokens for count in result[what]):
                found.append(
                    f"{what} tokens of the {side} side are {result[what]}, not {tokens} in each step"
                )
        if replies and not set(result.get("replies", ())) <= {"0", "1"}:
            found.append(f"the judge of the {side} side replied {result['replies']}")
    for what in ("questions", "trained"):
        if first[what] != second[what]:
            found.append(f"{what}: {first[what]} tokens or parameters against {second[what]}")
    return found


def compared(firsts: Sequence[Result], seconds: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Paired ratios, first to second, of the step, its phases and its memory."""
    sides = [[summary(result) for result in side] for side in (firsts, seconds)]

    def of(*keys: str) -> dict[str, float]:
        values = [[_at(side, keys) for side in results] for results in sides]
        ratio = paired(*values)
        return {"median": ratio.median, "low": ratio.low, "high": ratio.high}

    phases = {phase: of("seconds", phase) for phase in SECONDS if phase != "update"}
    memory = {name: of(name) for name in ("processor_seconds", "held_mb", "peak_mb", "working_mb")}
    return {**phases, **memory}


def _at(tree: Any, keys: Sequence[str]) -> float:
    for key in keys:
        tree = tree[key]
    return float(tree)


def middle(results: Sequence[Result]) -> dict[str, Any]:
    """The summary of several processes: the median of each number."""
    summaries = [summary(result) for result in results]
    numbers = {
        name: median(values) if None not in values else None
        for name in summaries[0]
        if name != "seconds"
        for values in [[s[name] for s in summaries]]
    }
    return {
        "seconds": {phase: median(s["seconds"][phase] for s in summaries) for phase in SECONDS},
        **numbers,
    }
