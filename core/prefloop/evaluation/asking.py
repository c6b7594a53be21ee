"""Asks a judge so that the order in which it sees two answers does not decide who wins."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from prefloop.components import Judge
from prefloop.errors import StopRun
from prefloop.types import Pair, Verdict

ROUNDING = 1e-6
"""Below this distance from one half, rounding could have made the difference: a tie."""


def ask(judge: Judge, pairs: Sequence[Pair]) -> list[Verdict]:
    """One verdict per pair, free of the judge's liking for a place.

    Where a verdict holds both orders, the judge has asked in both itself. One that says it is `symmetric`
    does not care. A person is asked once, about every other pair with its answers swapped. Of any other
    judge each pair is asked a second time with its answers swapped, and the two are averaged.
    """
    if getattr(judge, "symmetric", False):
        return judge.judge(pairs)
    if getattr(judge, "interactive", False):
        return _ask_in_turn(judge, pairs)
    verdicts = judge.judge(pairs)
    again = [i for i, v in enumerate(verdicts) if v.orders is None and v.status in ("ok", "tie")]
    swapped = judge.judge([pairs[i].swapped() for i in again]) if again else []
    both = {i: averaged(verdicts[i], _turned(v)) for i, v in zip(again, swapped, strict=True)}
    return [both.get(i, v) for i, v in enumerate(verdicts)]


def averaged(given: Verdict, swapped: Verdict) -> Verdict:
    """Two readings of one pair as one verdict. An error or abstention in either order is one of both."""
    if swapped.status not in ("ok", "tie"):
        return swapped
    first, second = (v.probability if v.status == "ok" else 0.5 for v in (given, swapped))
    probability = (first + second) / 2
    if abs(probability - 0.5) <= ROUNDING:
        return Verdict.tie(given.reason, (first, second))
    return Verdict(probability, reason=given.reason, orders=(first, second))


def _ask_in_turn(judge: Judge, pairs: Sequence[Pair]) -> list[Verdict]:
    shown = [pair.swapped() if i % 2 else pair for i, pair in enumerate(pairs)]
    try:
        verdicts: Sequence[Verdict] = judge.judge(shown)
    except StopRun as stop:
        raise StopRun(stop.reason, _turned_back(stop.verdicts), failed=stop.failed) from stop
    return _turned_back(verdicts)


def _turned_back(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [_turned(v) if i % 2 else v for i, v in enumerate(verdicts)]


def _turned(verdict: Verdict) -> Verdict:
    orders = verdict.orders and (1 - verdict.orders[0], 1 - verdict.orders[1])
    return evolve(verdict, probability=1 - verdict.probability, orders=orders)
