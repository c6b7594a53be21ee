"""What an audit says of the judge that a person did not check: how often the person would reverse its labels.

The frame of the audit are the labels that the person would not have seen. A coin of one chance draws some of
them, so however many it draws, any set of that size is equally likely. The estimate is the mean over what was
drawn, the Hájek estimator, in which the chance cancels (Hájek, in: Foundations of Statistical Inference,
1971); the Horvitz-Thompson one divides by the expected number instead. The interval is that of a simple
random sample without replacement: it inverts the tails of the hypergeometric distribution (Wright, Exact
Confidence Bounds when Sampling from Small Finite Universes, 1991), which takes no approximation and so holds
for few audits and for none that was reversed.

A person's tie reverses nothing. A skip says nothing: the pair counts as not drawn, and stays in the frame.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import frozen

from prefloop.types import PERSON, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prefloop.runs.records import Judgement

TAIL = 0.025
"""Of a 95 % interval, on either side."""


@frozen
class Audit:
    """What a person's time was spent on, and what it says of the labels that it was not spent on."""

    asked: int
    """Pairs that the person has answered, skips included."""
    audited: int
    """Of these, how many the coin has drawn."""
    spent: int | None
    """The step in which the budget was spent, if it was; of what was judged later only `later` says."""
    right: Rate | None
    """How often the person decides as the judge did, of the labels in the frame; `Rate.pairs` were drawn and
    decided. None where there were none."""
    wrong: Rate | None
    """The share of the labels that were used which the person would reverse. The person's own count as right;
    of the others, the audit tells. `Rate.pairs` is the number of labels that were used."""
    later: int
    """Labels that were used after the budget was spent, and that no audit covers."""


def audit_of(judged: Sequence[Judgement], budget: int | None = None) -> Audit | None:
    """The audit of the judgements of a run, each pair once; None where no person was asked among others."""
    rows = [row for row in judged if not row.evaluation]
    asked = [row for row in rows if row.verdict.cost_a_label]
    if not asked:
        return None
    spent = _spent_in(asked, budget)
    covered = [row for row in rows if spent is None or row.step <= spent]
    audits = [row for row in asked if row.verdict.audit is not None]
    said = [row.verdict for row in audits if row.verdict.status in ("ok", "tie")]
    reversed_ = sum(row.verdict.reverses for row in audits)
    trusted = sum(row.verdict.by != PERSON and _may_be_drawn(row) for row in covered)
    frame = trusted + len(audits)
    labels = sum(row.verdict.status == "ok" for row in covered)
    decided = sum(verdict.status == "ok" for verdict in said)
    return Audit(
        asked=len(asked),
        audited=len(audits),
        spent=spent,
        right=_right(reversed_, decided, frame - len(audits) + decided),
        wrong=_wrong(reversed_, len(said), frame, trusted, labels),
        later=sum(row.verdict.status == "ok" for row in rows) - labels,
    )


def bounds(found: int, drawn: int, of: int) -> tuple[int, int]:
    """The 95 % interval of how many of `of` have a mark, of which `found` are among `drawn`, drawn at random.

    The smallest and the largest number at which neither `found` or more nor `found` or fewer has a chance of
    less than 2.5 %.
    """
    least, most = found, of - (drawn - found)
    low = _first(least, most, lambda marked: 1 - _at_most(found - 1, drawn, marked, of) > TAIL)
    too_high = _first(least, most + 1, lambda marked: _at_most(found, drawn, marked, of) <= TAIL)
    return low, too_high - 1


def _right(reversed_: int, decided: int, frame: int) -> Rate | None:
    """Of the whole frame, where each pair that was not drawn may be one that the person decides."""
    if not decided:
        return None
    low, high = bounds(reversed_, decided, frame)
    return Rate(1 - reversed_ / decided, 1 - high / frame, 1 - low / frame, decided)


def _wrong(reversed_: int, said: int, frame: int, trusted: int, labels: int) -> Rate | None:
    """Of what was drawn, the person's word is used; what is wrong is among the labels that were trusted."""
    if not labels or (trusted and not said):
        return None
    if not trusted:
        return Rate(0.0, 0.0, 0.0, labels)
    low, high = (min(marked - reversed_, trusted) for marked in bounds(reversed_, said, frame))
    return Rate(reversed_ / said * trusted / labels, low / labels, high / labels, labels)


def _spent_in(asked: Sequence[Judgement], budget: int | None) -> int | None:
    steps = sorted(row.step for row in asked)
    return None if budget is None or len(steps) < budget else steps[budget - 1]


def _may_be_drawn(row: Judgement) -> bool:
    return row.verdict.status == "ok" and row.pair.first.text != row.pair.second.text


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first number for which something holds that holds for all above it; `high` where it never does."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _at_most(found: int, drawn: int, marked: int, of: int) -> float:
    """The chance that at most `found` of `drawn` from `of` are among the `marked` ones."""
    least = max(0, drawn - (of - marked))
    terms: Iterable[float] = (
        math.exp(_log_choose(marked, k) + _log_choose(of - marked, drawn - k) - _log_choose(of, drawn))
        for k in range(least, min(found, marked, drawn) + 1)
    )
    return math.fsum(terms)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
