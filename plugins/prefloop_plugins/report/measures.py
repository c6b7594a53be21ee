"""What a run's files say in numbers: pure functions of the records that were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean

from attrs import frozen

from prefloop.evaluation import stats
from prefloop.evaluation.stats import PositionBias
from prefloop.runs.records import Judgement
from prefloop.types import Evaluation, Pair, Rate
from prefloop_plugins.report.records import RunFiles

PHASE = "seconds_"
"""What the names of metrics begin with that say how long a phase of a step took."""
FORMER_NAMES = {"reward_accuracy": "accuracy"}
"""What metrics of a step were called in runs of an earlier version."""
POINTS = 240
"""How many points of a curve are drawn at most; more become means of equal stretches."""
SMOOTHED = 20
"""The moving mean is over this part of the points, to either side a half."""


@frozen
class Curve:
    """A metric over steps. `each` is as measured, or thinned to means; `mean` its moving mean."""

    steps: tuple[float, ...]
    each: tuple[float, ...]
    mean: tuple[float, ...]
    first: float
    last: float
    low: float
    high: float


def curve(steps: Sequence[Mapping[str, float]], metric: str) -> Curve | None:
    """The curve of a metric; None where no step has it. First and last are of the moving mean."""
    former = FORMER_NAMES.get(metric, metric)
    rows = [(s["step"], s[metric if metric in s else former]) for s in steps if metric in s or former in s]
    if not rows:
        return None
    thin = thinned(rows)
    each = [value for _, value in thin]
    mean = moving_mean(each)
    values = [value for _, value in rows]
    places = tuple(step for step, _ in thin)
    return Curve(places, tuple(each), tuple(mean), mean[0], mean[-1], min(values), max(values))


def thinned(rows: Sequence[tuple[float, float]], points: int = POINTS) -> list[tuple[float, float]]:
    """Means of equal stretches of rows, at most `points` of them."""
    size = -(-len(rows) // points)
    stretches = [rows[i : i + size] for i in range(0, len(rows), size or 1)]
    return [(fmean(step for step, _ in s), fmean(value for _, value in s)) for s in stretches]


def moving_mean(values: Sequence[float], part: int = SMOOTHED) -> list[float]:
    """The centred moving mean over a `part`-th of the values to each side's half; shorter at the ends."""
    half = max(1, len(values) // part) if len(values) >= 10 else 0
    return [fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def longer_wins(judged: Iterable[Judgement]) -> Rate | None:
    """How often the longer answer wins, in tokens, of the pairs with a label and two lengths."""
    return stats.longer_wins((_longer_by(j.pair), j.verdict.prefers_first) for j in judged)


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


def position_bias(judged: Iterable[Judgement]) -> PositionBias | None:
    """Of the pairs whose answers differ and that were asked about in both orders."""
    return stats.position_bias(
        j.verdict.orders
        for j in judged
        if j.verdict.orders and _differ(j.pair) and j.verdict.status in ("ok", "tie")
    )


def first_place_once(judged: Iterable[Judgement]) -> Rate | None:
    """How often the answer shown first wins, of the pairs that were asked about in one order.

    That shows a bias only where either answer was as likely to come first.
    """
    once = [j for j in judged if not j.verdict.orders and _differ(j.pair) and _exchangeable(j.pair)]
    return stats.share(first for j in once if (first := j.verdict.prefers_first) is not None)


def _differ(pair: Pair) -> bool:
    return pair.first.text != pair.second.text


def _exchangeable(pair: Pair) -> bool:
    """Whether both are the policy's, so that either was as likely to come first."""
    return pair.first.source == pair.second.source == "policy"


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
