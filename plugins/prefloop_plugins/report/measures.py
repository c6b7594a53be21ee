"""What a run's files say in numbers: pure functions of the records that were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from attrs import frozen

from prefloop.evaluation import wilson
from prefloop.runs.records import Judgement
from prefloop.types import Evaluation, Pair, Rate
from prefloop_plugins.report.records import RunFiles

PHASE = "seconds_"
"""What the names of metrics begin with that say how long a phase of a step took."""


@frozen
class Position:
    """Whether verdicts go by the answers or by their place, on pairs whose answers differ."""

    pairs: int
    first_place: Rate | None
    """Share of single answers for whichever completion was shown first, ties aside; one half is fair."""
    consistency: Rate | None = None
    """Share of pairs about which both orders say the same, where both were asked."""
    gap: float | None = None
    """How far the probabilities of the two orders lie apart, on average (0 to 1)."""


def rate(hits: Iterable[bool]) -> Rate | None:
    """The share of hits with its 95 % Wilson interval; None of nothing."""
    found = list(hits)
    return wilson(sum(found), len(found)) if found else None


def longer_wins(judged: Iterable[Judgement]) -> Rate | None:
    """How often the longer answer wins, of the pairs with a label and two lengths."""
    return rate(
        (difference > 0) == j.verdict.prefers_first
        for j in judged
        if j.verdict.prefers_first is not None and (difference := _longer_by(j.pair))
    )


def length_differences(judged: Iterable[Judgement]) -> list[int]:
    """Chosen minus rejected length, in tokens, of the pairs with a label."""
    labelled = [j for j in judged if j.verdict.prefers_first is not None]
    return [_longer_by(j.pair) * (1 if j.verdict.prefers_first else -1) for j in labelled]


def _longer_by(pair: Pair) -> int:
    """How many more tokens the first completion has than the second."""
    return len(pair.first.tokens) - len(pair.second.tokens)


def stretches(judged: Sequence[Judgement], steps: int, parts: int = 6) -> list[tuple[float, list[Judgement]]]:
    """The pairs of each of `parts` equal stretches of the run, with the step in its middle."""
    width = max(1, -(-steps // parts))
    found: dict[int, list[Judgement]] = {}
    for judgement in judged:
        found.setdefault(max(0, judgement.step - 1) // width, []).append(judgement)
    return [(part * width + (width + 1) / 2, found[part]) for part in sorted(found)]


def position(judged: Iterable[Judgement]) -> Position | None:
    """From both orders where the judge was asked twice, else from what it said of exchangeable pairs."""
    differing = [
        j for j in judged if j.pair.first.text != j.pair.second.text and j.verdict.status in ("ok", "tie")
    ]
    orders = [j.verdict.orders for j in differing if j.verdict.orders is not None]
    if orders:
        singles = [(p > 0.5, p != 0.5) for p, _ in orders] + [(p < 0.5, p != 0.5) for _, p in orders]
        return Position(
            pairs=len(orders),
            first_place=rate(first for first, told in singles if told),
            consistency=rate(_side(given) == _side(swapped) for given, swapped in orders),
            gap=fmean(abs(given - swapped) for given, swapped in orders),
        )
    exchangeable = [j for j in differing if j.pair.first.source == j.pair.second.source == "policy"]
    once = [first for j in exchangeable if (first := j.verdict.prefers_first) is not None]
    return Position(len(once), rate(once)) if once else None


def _side(probability: float) -> int:
    return (probability > 0.5) - (probability < 0.5)


def overall(steps: Iterable[Mapping[str, float]], metric: str) -> float | None:
    """The mean of a share over all pairs of a run."""
    rows = [(s[metric], s.get("pairs", 1.0)) for s in steps if metric in s]
    pairs = sum(weight for _, weight in rows)
    return sum(value * weight for value, weight in rows) / pairs if pairs else None


def phases(steps: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Seconds that each phase took in all, in the order in which the phases come."""
    found: dict[str, float] = {}
    for step in steps:
        for name, value in step.items():
            if name.startswith(PHASE):
                found[name.removeprefix(PHASE)] = found.get(name.removeprefix(PHASE), 0.0) + value
    return found


def most_common_answer(evaluation: Evaluation, of: Callable[[Pair], str]) -> tuple[str, float]:
    """The answer that the most prompts got, and the share of the prompts."""
    answers = Counter(of(pair).strip() for pair in evaluation.pairs)
    answer, count = answers.most_common(1)[0]
    return answer, count / answers.total()


def steps_taken(run: RunFiles) -> int:
    """As the summary has it, or the last line of the metrics."""
    counted = run.count("summary", "steps")
    return int(run.steps[-1]["step"]) if counted is None and run.steps else counted or 0


def pairs_needed(win_rate: float) -> int | None:
    """About how many pairs show that a win rate is not one half: ``z² / (4 (rate - 1/2)²)``, z = 1.96.

    The half width of the normal interval of a proportion, at its widest, set equal to the distance.
    """
    distance = abs(win_rate - 0.5)
    return round(1.96**2 / (4 * distance**2)) if distance >= 0.005 else None
