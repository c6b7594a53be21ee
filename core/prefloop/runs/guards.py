"""Watches the judge: a run stops where its verdicts have nothing to do with the answers.

A judge that fails, that always names the same position, or that never decides, teaches nothing or worse.
Its verdicts cannot be told from good ones one by one, but a window of them can.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefloop.components import BaseJudge, Observer, adapt
from prefloop.errors import StopRun
from prefloop.evaluation.stats import side
from prefloop.types import Pair, Progress, Verdict

if TYPE_CHECKING:
    from prefloop.config import Config
    from prefloop.settings import JudgingConfig

NEAR_ONE = 0.8
"""A gap between the two orders from which the place, and not the answers, made the verdict."""

ADVICE = (
    "Look at judgements.jsonl, and try the judge on pairs whose answer you know: a larger model, a clearer "
    "rubric or both orders may help."
)
SAYINGS = {
    "shown first": "went to whichever answer it was shown first",
    "shown second": "went to whichever answer it was shown second",
    "tie": "are ties although the answers differ, so there is next to nothing to learn from",
}


class JudgeGuard(Observer):
    """Stops the run as failed when too many of the last `settings.window` verdicts are of no use.

    It does so by `StopRun`, so that what was learnt is saved and can be resumed with another judge.

    Errors count against ``max_errors``. Ties count against ``max_same_outcome``, and so does what went by the
    place of the answers, first or second: see `kind_of`. Pairs of equal answers and abstentions fill the
    window and count as none of these. A window of zero watches nothing.
    """

    def __init__(self, settings: JudgingConfig) -> None:
        self.settings = settings
        self._kinds: deque[str | None] = deque(maxlen=settings.window or 1)
        self._error = ""

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        for pair, verdict in zip(pairs, verdicts, strict=True):
            self._kinds.append(kind_of(pair, verdict))
            if verdict.status == "error":
                self._error = verdict.reason or "no reason given"
        window, counts = self.settings.window, Counter(self._kinds)
        if not 0 < window == len(self._kinds):
            return
        if counts["error"] > self.settings.max_errors * window:
            raise StopRun(
                f"judge: {counts['error']} of its last {window} verdicts are errors, more than "
                f"judging.max_errors ({self.settings.max_errors:g}) allows. The last one: {self._error}",
                failed=True,
            )
        for kind, saying in SAYINGS.items():
            if counts[kind] > self.settings.max_same_outcome * window:
                raise StopRun(
                    f"judge: {counts[kind]} of its last {window} verdicts, more than judging.max_same_outcome"
                    f" ({self.settings.max_same_outcome:g}) allows, {saying}. {ADVICE}",
                    failed=True,
                )


def guards(config: Config) -> tuple[JudgeGuard, ...]:
    """What watches the judge of a run; nothing where a person judges, who knows what they are doing."""
    if adapt(config.judge, BaseJudge).interactive:
        return ()
    return (JudgeGuard(config.judging),)


def kind_of(pair: Pair, verdict: Verdict) -> str | None:
    """``error``, ``tie``, ``shown first``, ``shown second``, or None for a verdict that may mean something.

    Of a judge asked in both orders, a verdict went by place where the orders contradict each other and it
    is a tie, or their gap is near one. Of one asked once, every label names a place; that tells something
    only of two completions of the policy, either of which is as likely to come first.
    """
    if verdict.status == "error":
        return "error"
    if verdict.status == "abstained" or pair.first.text == pair.second.text:
        return None
    if verdict.orders is None:
        if verdict.status == "tie":
            return "tie"
        exchangeable = pair.first.source == pair.second.source == "policy"
        return ("shown first" if verdict.prefers_first else "shown second") if exchangeable else None
    as_given, swapped = verdict.orders  # of the first being better, shown first and shown second
    tie = verdict.status == "tie"
    if side(as_given) * side(swapped) < 0 and (tie or abs(as_given - swapped) >= NEAR_ONE):
        return "shown first" if as_given > swapped else "shown second"
    return "tie" if tie else None
