"""What a judge is worth: the numbers of `prefloop judge`, from its verdicts and the labels of a file."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from attrs import frozen

from prefloop.evaluation.stats import longer_wins, position_bias, share
from prefloop.types import Pair, Rate, Verdict
from prefloop_plugins.judging.pair_files import LabelledPair, Side, side_of
from prefloop_plugins.judging.verdicts import Judged

BINS = 10
_EDGES = [0.5 + i / (2 * BINS) for i in range(BINS + 1)]
_SHOWN_REASONS = 3
_FIRST: dict[Side | None, bool] = {"first": True, "second": False}


@frozen
class Position:
    """Whether verdicts follow the answer or the place, from pairs asked in both orders.

    Pairs of equal answers are left out: there is no answer to follow.
    """

    consistency: Rate
    """Share of pairs about which both orders say the same."""
    first_place: float | None
    """Share of single answers for whichever completion was shown first, ties aside; one half is fair."""
    gap: float
    """How far the two probabilities lie apart, on average (0 to 1)."""
    agreement: tuple[Rate | None, Rate | None]
    """Agreement with the labels in either order alone, as the pairs stand and swapped."""


@frozen
class Length:
    """How often the longer answer wins, by characters, among pairs with a winner and two lengths."""

    longer_wins: Rate
    longer_in_labels: Rate | None
    """The same for the file's labels: a judge that agrees with them is not biased."""


@frozen
class Bin:
    """The pairs on which the judge was about as sure: from `low` up to `high`."""

    low: float
    high: float
    pairs: int
    confidence: float
    accuracy: float


@frozen
class Calibration:
    """Whether the judge is right as often as its probabilities say, on pairs with a better side."""

    ece: float
    """Expected calibration error (Naeini et al. 2015): the bins' mean ``|accuracy - confidence|``,
    weighted by their pairs. Confidence is ``max(p, 1 - p)``, so it does not matter which side is first."""
    brier: float
    """Mean of ``(p - y)**2`` (Brier 1950): 0 is perfect, 0.25 is what one half everywhere gets."""
    pairs: int
    bins: tuple[Bin, ...]


@frozen
class Report:
    """One judge on one file of pairs. A part for which there were no pairs is None."""

    pairs: int
    labelled: int
    agreement: Rate | None
    """With the file's labels, where there is a label and a verdict; a tie agrees only with a tie."""
    agreement_decided: Rate | None
    """The same without the judge's ties, which would get no weight in training."""
    position: Position | None
    ties: float
    abstentions: float
    errors: float
    error_reasons: dict[str, int]
    length: Length | None
    calibration: Calibration | None
    seconds: float
    pairs_per_second: float | None
    """Of the pairs that were not in a ledger already; None where there were none."""
    stopped: str | None


@frozen
class Between:
    """Two judges on the same pairs, where both gave a verdict."""

    agreement: Rate | None
    kappa: float | None


def report(pairs: Sequence[LabelledPair], judged: Judged) -> Report:
    """The report on the pairs that were judged, which are the first of `pairs`."""
    pairs = pairs[: len(judged.verdicts)]
    labels = [labelled.label for labelled in pairs]
    verdicts = judged.verdicts
    sides = [side_of(verdict) for verdict in verdicts]
    outcomes = Counter(verdict.status for verdict in verdicts)
    fresh = len(verdicts) - judged.known
    shares = {name: count / len(verdicts) for name, count in outcomes.items()}
    return Report(
        pairs=len(pairs),
        labelled=sum(label is not None for label in labels),
        agreement=agreement(labels, sides),
        agreement_decided=agreement(labels, [None if side == "tie" else side for side in sides]),
        position=position(pairs, judged),
        ties=shares.get("tie", 0.0),
        abstentions=shares.get("abstained", 0.0),
        errors=shares.get("error", 0.0),
        error_reasons=_reasons(verdicts),
        length=length([labelled.pair for labelled in pairs], labels, sides),
        calibration=calibration(labels, verdicts),
        seconds=judged.seconds,
        pairs_per_second=fresh / judged.seconds if fresh and judged.seconds else None,
        stopped=judged.stopped,
    )


def agreement(one: Sequence[Side | None], other: Sequence[Side | None]) -> Rate | None:
    """How often two lists say the same, where both say something."""
    return share(a == b for a, b in zip(one, other, strict=True) if a is not None and b is not None)


def cohens_kappa(one: Sequence[Side | None], other: Sequence[Side | None]) -> float | None:
    """``(p_o - p_e) / (1 - p_e)`` over first, second and tie, where both say something (Cohen 1960).

    None where it is not defined: without pairs, or where both always say the same one thing.
    """
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    rows, columns = Counter(a for a, _ in both), Counter(b for _, b in both)
    chance = sum(count * columns[side] for side, count in rows.items())  # over n²
    pairs = len(both)
    if chance == pairs * pairs:
        return None
    return (pairs * sum(a == b for a, b in both) - chance) / (pairs * pairs - chance)


def between(one: Sequence[Verdict], other: Sequence[Verdict]) -> Between:
    """Two judges' verdicts on the same pairs; where one has stopped early, on those it judged."""
    both = list(zip(map(side_of, one), map(side_of, other), strict=False))
    first, second = [a for a, _ in both], [b for _, b in both]
    return Between(agreement(first, second), cohens_kappa(first, second))


def position(pairs: Sequence[LabelledPair], judged: Judged) -> Position | None:
    """From a verdict's own two orders, else from the second verdict; None where no pair has either."""
    asked = zip(pairs, map(_orders, judged.verdicts, judged.swapped), strict=True)
    rows = [(p.label, orders) for p, orders in asked if orders and p.pair.first.text != p.pair.second.text]
    bias = position_bias(orders for _, orders in rows)
    if bias is None:
        return None
    labels = [label for label, _ in rows]
    return Position(
        consistency=bias.consistency,
        first_place=bias.first_place.rate if bias.first_place else None,
        gap=bias.gap,
        agreement=(
            agreement(labels, [_side(given) for _, (given, _) in rows]),
            agreement(labels, [_side(swapped) for _, (_, swapped) in rows]),
        ),
    )


def _orders(verdict: Verdict, swapped: Verdict | None) -> tuple[float, float] | None:
    """The probability that the first completion is better, asked in each order."""
    if verdict.orders is not None:
        return verdict.orders
    if swapped is None or swapped.status not in ("ok", "tie"):
        return None
    return verdict.probability, swapped.probability


def _side(probability: float) -> Side | None:
    return side_of(Verdict(probability))


def length(
    pairs: Sequence[Pair], labels: Sequence[Side | None], sides: Sequence[Side | None]
) -> Length | None:
    """How often the longer one wins, for the judge and for the labels."""
    more = [len(pair.first.text) - len(pair.second.text) for pair in pairs]
    judge, file = (longer_wins(zip(more, map(_FIRST.get, by), strict=True)) for by in (sides, labels))
    return None if judge is None else Length(judge, file)


def calibration(labels: Sequence[Side | None], verdicts: Sequence[Verdict]) -> Calibration | None:
    """Of the pairs with a better side and a verdict; a tie is right half the time."""
    rows = [
        (verdict.probability, float(label == "first"))
        for label, verdict in zip(labels, verdicts, strict=True)
        if label in ("first", "second") and verdict.status in ("ok", "tie")
    ]
    if not rows:
        return None
    sure = [(max(p, 1.0 - p), 0.5 if p == 0.5 else float((p > 0.5) == (y == 1.0))) for p, y in rows]
    bins = [b for i in range(BINS) if (b := _bin(i, [row for row in sure if _bin_of(row[0]) == i]))]
    ece = sum(b.pairs * abs(b.accuracy - b.confidence) for b in bins) / len(rows)
    return Calibration(ece, fmean((p - y) ** 2 for p, y in rows), len(rows), tuple(bins))


def _bin_of(confidence: float) -> int:
    return min(bisect_right(_EDGES, confidence) - 1, BINS - 1)


def _bin(index: int, rows: Sequence[tuple[float, float]]) -> Bin | None:
    if not rows:
        return None
    confidence, accuracy = fmean(c for c, _ in rows), fmean(a for _, a in rows)
    return Bin(_EDGES[index], _EDGES[index + 1], len(rows), confidence, accuracy)


def _reasons(verdicts: Sequence[Verdict]) -> dict[str, int]:
    reasons = Counter(v.reason or "no reason given" for v in verdicts if v.status == "error")
    return dict(reasons.most_common(_SHOWN_REASONS))
