"""The numbers of an evaluation: win rates and their intervals, biases of the judge, how answers are.

Functions of records or of plain numbers, in float64. A metric that is not defined is NaN; a rate of nothing
is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, quantiles

import numpy as np
from attrs import frozen

from prefloop.metrics import distinct, source_metrics, verdict_metrics
from prefloop.types import SOURCE, Completion, Pair, Prompt, Rate, Verdict

Z = 1.959963984540054
"""Of a 95 % interval."""
COLLAPSED = 0.5
"""A policy that keeps less than this share of the distinct n-grams of its start has collapsed."""
_ITERATIONS = 100
_TOLERANCE = 1e-9


# Rates


def win_rate(verdicts: Sequence[Verdict]) -> Rate:
    """Share of pairs whose first completion won; ties are half, errors and abstentions do not count."""
    wins = [won for v in verdicts if (won := _won(v)) is not None]
    return wilson(sum(wins), len(wins))


def wilson(wins: float, pairs: int, z: float = Z) -> Rate:
    """A proportion and its Wilson score interval (Wilson 1927), 95 % by default; all of [0, 1] for none."""
    if pairs == 0:
        return Rate(0.5, 0.0, 1.0, 0)
    p = wins / pairs
    centre = (p + z * z / (2 * pairs)) / (1 + z * z / pairs)
    half = z * math.sqrt(p * (1 - p) / pairs + z * z / (4 * pairs * pairs)) / (1 + z * z / pairs)
    return Rate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), pairs)


def share(hits: Iterable[bool]) -> Rate | None:
    """The share of hits with its 95 % Wilson interval; None of nothing."""
    found = list(hits)
    return wilson(sum(found), len(found)) if found else None


def _won(verdict: Verdict) -> float | None:
    if verdict.status not in ("ok", "tie"):
        return None
    return 0.5 if verdict.prefers_first is None else float(verdict.prefers_first)


# Whether the judge goes by the place of an answer


@frozen
class PositionBias:
    """Whether verdicts follow the answer or its place, from pairs that were asked about in both orders."""

    pairs: int
    first_place: Rate | None
    """Share of single readings for whichever answer was shown first, without ties; one half is fair."""
    consistency: Rate
    """Share of pairs on which both orders say the same."""
    gap: float
    """How far the probabilities of the two orders lie apart, on average (0 to 1)."""


def position_bias(orders: Iterable[tuple[float, float]]) -> PositionBias | None:
    """The position bias in `Verdict.orders` of pairs whose answers differ; None without such a pair.

    Pairs of equal answers are to be left out: there is no answer to follow.
    """
    found = list(orders)
    if not found:
        return None
    # In the swapped order, the first completion was shown second.
    sides = [side(given) for given, _ in found] + [-side(swapped) for _, swapped in found]
    return PositionBias(
        pairs=len(found),
        first_place=share(shown > 0 for shown in sides if shown),
        consistency=wilson(sum(side(a) == side(b) for a, b in found), len(found)),
        gap=fmean(abs(given - swapped) for given, swapped in found),
    )


def side(probability: float) -> int:
    """Which completion a probability prefers: 1 the first, -1 the second, 0 neither."""
    return (probability > 0.5) - (probability < 0.5)


# Whether it goes by length


def longer_wins(rows: Iterable[tuple[int, bool | None]]) -> Rate | None:
    """How often the longer answer wins, of the pairs with a label and two lengths.

    A row is the length of the first answer minus that of the second, and whether the first one won, None
    for a pair without a label.
    """
    return share((more > 0) == first for more, first in rows if more and first is not None)


def length_controlled(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Rate:
    """The win rate that is left at equal lengths, with its 95 % interval.

    The logistic regression of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475) without its term for the
    difficulty of a prompt, which takes many models to fit: ``P(win) = sigmoid(a + b tanh(d / sd(d)))``
    with ``d`` the first completion's characters minus the second's, not centred, and ties half a win. The
    rate is ``sigmoid(a)``, and ``a ± 1.96 se(a)`` is its interval.

    NaN where that is not identified: without pairs, where a difference in length (or none) separates wins
    from losses, as where all are wins, or where all differences are the same. Where all are zero, lengths
    need no control: it is the win rate.
    """
    judged = zip(pairs, verdicts, strict=True)
    rows = [(len(p.first.text) - len(p.second.text), won) for p, v in judged if (won := _won(v)) is not None]
    differences, wins = np.array(rows, dtype=float).reshape(-1, 2).T
    if rows and not differences.any():
        return win_rate(verdicts)
    spread = differences.std(ddof=1) if len(rows) > 1 else 0.0
    fit = _logistic(np.tanh(differences / spread), wins) if spread else None
    if fit is None:
        return Rate(math.nan, math.nan, math.nan, len(rows))
    a, error = fit
    return Rate(_sigmoid(a), _sigmoid(a - Z * error), _sigmoid(a + Z * error), len(rows))


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Intercept of the logistic regression of `y` on `x` and its standard error, by Newton's method.

    None where the likelihood has no maximum.
    """
    if _separated(x, y):
        return None
    design = np.stack([np.ones_like(x), x])
    fit = np.zeros(2)
    for _ in range(_ITERATIONS):
        p = np.exp(-np.logaddexp(0.0, -(fit @ design)))
        hessian = (design * (p * (1 - p))) @ design.T
        if np.linalg.det(hessian) <= 0:
            return None
        step = np.linalg.solve(hessian, design @ (y - p))
        least = _likelihood(fit, design, y)
        least -= _TOLERANCE * (1 + abs(least))  # near the maximum, rounding alone may lower it
        while _likelihood(fit + step, design, y) < least:
            step /= 2
        fit += step
        if abs(step).sum() < _TOLERANCE * (1 + abs(fit).sum()):
            return float(fit[0]), math.sqrt(np.linalg.inv(hessian)[0, 0])
    return None


def _separated(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a threshold on x separates wins from losses, but for those on it: then there is no maximum
    (Albert and Anderson 1984). A tie is on both sides.
    """
    wins, losses = x[y > 0], x[y < 1]
    return not (wins.size and losses.size) or losses.max() <= wins.min() or wins.max() <= losses.min()


def _likelihood(fit: np.ndarray, design: np.ndarray, y: np.ndarray) -> float:
    logits = fit @ design
    return float((y * logits - np.logaddexp(0.0, logits)).sum())


def _sigmoid(x: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -x)))


# What an evaluation reports besides


def judge_metrics(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Whether the judge answered, and whether it went by the answers or by their place.

    The last two are NaN where no pair was asked about in both orders. `position_gap` counts all pairs,
    `first_place` those whose answers differ.
    """
    rates = verdict_metrics(verdicts)
    judged = zip(pairs, verdicts, strict=True)
    bias = position_bias(v.orders for p, v in judged if v.orders and p.first.text != p.second.text)
    return {
        **rates,
        "position_gap": rates.get("position_gap", math.nan),
        "first_place": bias.first_place.rate if bias and bias.first_place else math.nan,
    }


def completion_metrics(completions: Sequence[Completion]) -> dict[str, float]:
    """Lengths in tokens, how many ended by themselves, and how varied they are."""
    lengths = [len(c.tokens) for c in completions]
    tenths = quantiles(lengths, n=10, method="inclusive") if len(lengths) > 1 else lengths * 9
    return {
        "completion_length": fmean(lengths),
        "completion_length_p10": float(tenths[0]),
        "completion_length_p90": float(tenths[-1]),
        "stop_rate": fmean(c.stopped for c in completions),
        "distinct_1": distinct(completions, 1),
        "distinct_2": distinct(completions, 2),
    }


def by_source(pairs: Sequence[Pair], verdicts: Sequence[Verdict], answer: str | None) -> dict[str, float]:
    """Of each source of a mixture the win rate with its interval, the share of labels and the accuracy."""
    found = source_metrics(pairs, verdicts)
    for source in sorted({pair.prompt.source for pair in pairs} - {""}):
        own = [(p, v) for p, v in zip(pairs, verdicts, strict=True) if p.prompt.source == source]
        rate = win_rate([verdict for _, verdict in own])
        rates = {"win_rate": rate.rate, "win_rate_low": rate.low, "win_rate_high": rate.high}
        rates = rates if rate.pairs else dict.fromkeys(rates, math.nan)
        if answer:
            rates["accuracy"] = accuracy([p.prompt for p, _ in own], [p.first for p, _ in own], answer)
        found |= {f"{SOURCE}{source}/{name}": value for name, value in rates.items()}
    return found


def accuracy(prompts: Sequence[Prompt], completions: Sequence[Completion], column: str) -> float:
    """Share of completions that contain the text in a column of their prompt's row, whatever its case.

    Of those that have one: a source of a mixture may be without. NaN for none.
    """
    answers = [(prompt.fields.get(column), c) for prompt, c in zip(prompts, completions, strict=True)]
    right = [str(a).casefold() in c.text.casefold() for a, c in answers if a is not None]
    return fmean(right) if right else math.nan
