"""Win rates and their intervals, in plain float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

from prefloop.types import Pair, Rate, Verdict

Z = 1.959963984540054
"""Of a 95 % interval."""
_ITERATIONS = 100
_TOLERANCE = 1e-12


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
    rows = [
        (float(len(p.first.text) - len(p.second.text)), won)
        for p, v in zip(pairs, verdicts, strict=True)
        if (won := _won(v)) is not None
    ]
    if rows and not any(difference for difference, _ in rows):
        return win_rate(verdicts)
    spread = stdev(d for d, _ in rows) if len(rows) > 1 else 0.0
    fit = _logistic([(math.tanh(d / spread), won) for d, won in rows]) if spread else None
    if fit is None:
        return Rate(math.nan, math.nan, math.nan, len(rows))
    a, error = fit
    return Rate(_sigmoid(a), _sigmoid(a - Z * error), _sigmoid(a + Z * error), len(rows))


def _won(verdict: Verdict) -> float | None:
    if verdict.status not in ("ok", "tie"):
        return None
    return 0.5 if verdict.prefers_first is None else float(verdict.prefers_first)


def _logistic(rows: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Intercept of the logistic regression of ``(x, y)`` and its standard error, by Newton's method.

    None where the likelihood has no maximum.
    """
    if _separated(rows):
        return None
    a = b = 0.0
    for _ in range(_ITERATIONS):
        slope, (h0, h1, h2) = _derivatives(rows, a, b)
        determinant = h0 * h2 - h1 * h1
        if determinant <= 0:
            return None
        da = (h2 * slope[0] - h1 * slope[1]) / determinant
        db = (h0 * slope[1] - h1 * slope[0]) / determinant
        size = 1.0
        while size > _TOLERANCE and _likelihood(rows, a + size * da, b + size * db) < _likelihood(rows, a, b):
            size /= 2
        a, b = a + size * da, b + size * db
        if abs(da) + abs(db) < _TOLERANCE * (1 + abs(a) + abs(b)) or size <= _TOLERANCE:
            return a, math.sqrt(h2 / determinant)
    return None


def _separated(rows: Sequence[tuple[float, float]]) -> bool:
    """Whether a threshold on x separates wins from losses, but for those on it: then there is no maximum
    (Albert and Anderson 1984). A tie is on both sides.
    """
    wins = [x for x, y in rows if y > 0]
    losses = [x for x, y in rows if y < 1]
    return not (wins and losses) or max(losses) <= min(wins) or max(wins) <= min(losses)


def _derivatives(
    rows: Sequence[tuple[float, float]], a: float, b: float
) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """The gradient of the log-likelihood in a and b, and the entries of minus its Hessian."""
    p = [_sigmoid(a + b * x) for x, _ in rows]
    rest = [(y - q, x) for (x, y), q in zip(rows, p, strict=True)]
    weights = [(q * (1 - q), x) for (x, _), q in zip(rows, p, strict=True)]
    gradient = math.fsum(r for r, _ in rest), math.fsum(r * x for r, x in rest)
    hessian = (
        math.fsum(w for w, _ in weights),
        math.fsum(w * x for w, x in weights),
        math.fsum(w * x * x for w, x in weights),
    )
    return gradient, hessian


def _likelihood(rows: Sequence[tuple[float, float]], a: float, b: float) -> float:
    logits = ((a + b * x, y) for x, y in rows)
    return math.fsum(y * t - max(t, 0.0) - math.log1p(math.exp(-abs(t))) for t, y in logits)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
