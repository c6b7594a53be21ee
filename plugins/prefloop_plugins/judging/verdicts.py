"""Asks a judge about pairs outside a run, and about each once more with the answers swapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from prefloop.components import BaseJudge, Judge, adapt, check_verdicts
from prefloop.errors import StopRun
from prefloop.runs.asking import asked
from prefloop.types import Pair, Verdict

CHUNK = 32
"""Pairs per call: enough to fill a batch, few enough to show progress."""


@frozen
class Judged:
    """What a judge said of the first ``len(verdicts)`` pairs it was given."""

    verdicts: tuple[Verdict, ...]
    swapped: tuple[Verdict | None, ...]
    """Its verdicts with the answers swapped, turned back; None for a pair that was not asked again."""
    seconds: float
    """Spent on `verdicts`, not on `swapped`."""
    stopped: str | None = None
    """Why not all pairs were judged."""
    failed: bool = False
    """Whether that was a fault."""
    known: int = 0
    """How many of `verdicts` were in a ledger already."""


def judge_pairs(
    judge: Judge, pairs: Sequence[Pair], on_progress: Callable[[int], None] = lambda pairs: None
) -> Judged:
    """Every pair judged, and judged again with its answers swapped.

    A pair is not asked about again where its verdict already holds both orders, where there is no
    verdict, or where a person is asked. `on_progress` gets the number of pairs done. A judge that
    stops, or an interrupt from the keyboard, leaves the pairs that were judged until then. Raises `UserError`
    where the judge does not give one verdict for each pair.
    """
    verdicts: list[Verdict] = []
    swapped: list[Verdict | None] = []
    seconds, stopped = 0.0, None  # what stops it, a `StopRun`
    for chunk in _chunks(pairs, len(pairs) if _is_person(judge) else CHUNK):
        started = time.perf_counter()
        given, stopped = _ask(judge, chunk)
        seconds += time.perf_counter() - started
        verdicts += given
        if stopped is None:
            again, stopped = _ask_again(judge, chunk, given)
            swapped += again
        on_progress(len(verdicts))
        if stopped is not None:
            break
    swapped += [None] * (len(verdicts) - len(swapped))
    why, failed = (stopped.reason, stopped.failed) if stopped else (None, False)
    return Judged(tuple(verdicts), tuple(swapped), seconds, why, failed=failed)


def _chunks(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    return (pairs[i : i + size] for i in range(0, len(pairs), size))


def _is_person(judge: Judge) -> bool:
    return adapt(judge, BaseJudge).interactive


def _ask(judge: Judge, pairs: Sequence[Pair]) -> tuple[Sequence[Verdict], StopRun | None]:
    """The verdicts, and why they are not all there."""
    name = type(judge).__name__
    try:
        with asked(name):
            verdicts = judge.judge(pairs)
    except StopRun as stop:
        return stop.verdicts, stop
    check_verdicts(name, verdicts, len(pairs))
    return verdicts, None


def _ask_again(
    judge: Judge, pairs: Sequence[Pair], verdicts: Sequence[Verdict]
) -> tuple[list[Verdict | None], StopRun | None]:
    again: list[Verdict | None] = [None] * len(pairs)
    places = [i for i, v in enumerate(verdicts) if v.orders is None and v.status in ("ok", "tie")]
    if not places or _is_person(judge):
        return again, None
    given, stopped = _ask(judge, [pairs[i].swapped() for i in places])
    for i, verdict in zip(places, given, strict=False):
        again[i] = verdict.swapped()
    return again, stopped
