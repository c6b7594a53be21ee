"""Watch a run, and stop it where going on makes no sense.

A judge that fails, that goes by place, or that never decides, teaches nothing or worse. Its verdicts cannot
be told from good ones one by one, but some of them together can.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from prefloop.components import BaseJudge, Observer, adapt
from prefloop.errors import StopRun
from prefloop.evaluation.stats import side
from prefloop.types import Evaluation, Pair, Progress, Step, Verdict

if TYPE_CHECKING:
    from prefloop.config import Config

ENOUGH = 16
"""Verdicts that are enough where all of them are of one kind: a fair judge goes by one place so often in one
run of 32,768."""
EARLY = ("error", "shown first", "shown second", "contradiction")
"""What is not waited for until the window is full; ties and equal answers may be the prompts' fault."""
KL_STEPS = 10
ADVICE = (
    "Look at judgements.jsonl, and try the judge on pairs whose answer you know (prefloop judge): a larger "
    "model, a clearer rubric or both orders may help. That is a new run."
)
SAYINGS = {
    "shown first": "went to whichever answer it was shown first",
    "shown second": "went to whichever answer it was shown second",
    "contradiction": "were about whichever answer stood in one place: asked with the answers exchanged, it "
    "contradicted itself",
    "tie": "are ties although the answers differ, so there is next to nothing to learn from",
    "equal": "are about two equal answers, so there is next to nothing to learn from",
}


class Guard(Observer):
    """Stops a run as failed, by `StopRun`, so that what was learnt until then is saved.

    Of the last ``judging.window`` verdicts, errors count against ``max_errors``, and each kind of `SAYINGS`
    against ``max_same_outcome``. That is looked at once the window is full and at the end of a run, from
    `ENOUGH` verdicts on; of `EARLY` kinds also as soon as so many verdicts are all of one. A person's
    verdicts are not looked at. `state` is part of every checkpoint.
    """

    def __init__(self, config: Config) -> None:
        self.judging = config.judging
        self.max_kl = config.training.max_kl
        person = adapt(config.judge, BaseJudge).interactive
        self.window = 0 if person else config.judging.window
        self._kinds: deque[str | None] = deque(maxlen=self.window or 1)
        self._error = ""
        self._unlabelled = 0
        self._divergences: deque[float] = deque(maxlen=KL_STEPS)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, as JSON."""
        return {
            "kinds": list(self._kinds),
            "error": self._error,
            "unlabelled": self._unlabelled,
            "divergences": list(self._divergences),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._kinds.extend(state.get("kinds", ()))
        self._error = state.get("error", "")
        self._unlabelled = state.get("unlabelled", 0)
        self._divergences.extend(state.get("divergences", ()))

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        if not self.window:
            return
        for pair, verdict in zip(pairs, verdicts, strict=True):
            self._kinds.append(kind_of(pair, verdict))
            if verdict.status == "error":
                self._error = verdict.reason or "no reason given"
        self._check("judge", self._kinds, self._error, whole=len(self._kinds) == self.window)

    def step_finished(self, step: Step) -> None:
        self._unlabelled = 0 if step.metrics.get("labelled") else self._unlabelled + 1
        most = self.judging.max_unlabelled
        if most is not None and self._unlabelled >= most:
            raise StopRun(
                f"the last {most} steps had no label (judging.max_unlabelled) and taught nothing. Of the "
                f"last {_why_not(step)}.",
                failed=True,
                resumable=False,
            )
        kl = step.metrics.get("kl", math.nan)
        if math.isfinite(kl):
            self._divergences.append(kl)
        if self.max_kl is not None and self._divergences and fmean(self._divergences) > self.max_kl:
            raise StopRun(
                f"the policy lies {fmean(self._divergences):.3g} nats a completion from its reference, more "
                f"than training.max_kl ({self.max_kl:g}) allows.",
                failed=True,
                resumable=False,
            )

    def evaluated(self, evaluation: Evaluation) -> None:
        """The first evaluation is judged like a window: its pairs are as good as those of a step."""
        judged = list(zip(evaluation.pairs, evaluation.verdicts, strict=True))
        errors = [v.reason or "no reason given" for _, v in judged if v.status == "error"]
        if evaluation.step == 0 and self.window and judged:
            kinds = [kind for kind in (kind_of(*row) for row in judged) if kind not in ("tie", "equal")]
            self._check("the judge of evaluations", kinds, errors[-1] if errors else "", whole=True)
            if len(errors) == len(judged):
                raise _errors("the judge of evaluations", len(errors), len(judged), "any", errors[-1])

    def check_end(self) -> None:
        """What can only be told at the end of a run. Raises `StopRun`."""
        self._check("judge", self._kinds, self._error, whole=True)

    def _check(
        self, who: str, kinds: Sequence[str | None] | deque[str | None], error: str, *, whole: bool
    ) -> None:
        seen, counts = len(kinds), Counter(kinds)
        if seen < min(ENOUGH, self.window or ENOUGH):
            return
        all_errors = counts["error"] == seen and self.judging.max_errors < 1
        if all_errors or (whole and counts["error"] > self.judging.max_errors * seen):
            allowed = f"judging.max_errors ({self.judging.max_errors:g})"
            raise _errors(who, counts["error"], seen, allowed, error)
        for kind, saying in SAYINGS.items():
            all_early = kind in EARLY and counts[kind] == seen and self.judging.max_same_outcome < 1
            if all_early or (whole and counts[kind] > self.judging.max_same_outcome * seen):
                raise StopRun(
                    f"{who}: {counts[kind]} of its last {seen} verdicts, more than judging.max_same_outcome "
                    f"({self.judging.max_same_outcome:g}) allows, {saying}. {ADVICE}",
                    failed=True,
                    resumable=False,
                )


def _errors(who: str, count: int, seen: int, allowed: str, last: str) -> StopRun:
    return StopRun(
        f"{who}: {count} of its last {seen} verdicts are errors, more than {allowed} allows. The last one: "
        f"{last}",
        failed=True,
    )


def _why_not(step: Step) -> str:
    """What the pairs of a step had instead of labels."""
    equal = sum(pair.first.text == pair.second.text for pair in step.pairs)
    counts = Counter(verdict.status for verdict in step.verdicts)
    if equal:
        return f"{len(step.pairs)} pairs, {equal} had two equal answers"
    return f"{len(step.pairs)} verdicts, {counts['tie']} were ties and {counts['error']} errors"


def kind_of(pair: Pair, verdict: Verdict) -> str | None:
    """``error``, ``equal`` or a kind of `SAYINGS`; None for a verdict that may mean something.

    Of a judge asked in both orders, a verdict is a contradiction where the orders name different answers,
    whatever their mean says: it went by place. Of one asked once, every label names a place; that tells
    something only of two completions of the policy, either of which is as likely to come first.
    """
    if verdict.status == "error":
        return "error"
    if pair.first.text == pair.second.text:
        return "equal"
    if verdict.status == "abstained":
        return None
    if verdict.orders is not None:
        as_given, swapped = verdict.orders  # of the first being better, shown first and shown second
        if side(as_given) * side(swapped) < 0:
            return "contradiction"
    if verdict.status == "tie":
        return "tie"
    exchangeable = pair.first.source == pair.second.source == "policy"
    if verdict.orders is not None or not exchangeable:
        return None
    return "shown first" if verdict.prefers_first else "shown second"
