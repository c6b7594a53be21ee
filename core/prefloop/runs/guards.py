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

from attrs import define, field

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


@define
class Watched:
    """What kinds the last verdicts of one judge were, as many as `window`; none of a person."""

    window: int
    kinds: deque[str | None] = field(init=False)
    error: str = ""

    def __attrs_post_init__(self) -> None:
        self.kinds = deque(maxlen=self.window or 1)

    def add(self, pair: Pair, verdict: Verdict) -> None:
        self.kinds.append(kind_of(pair, verdict))
        if verdict.status == "error":
            self.error = verdict.reason or "no reason given"

    def state(self) -> dict[str, Any]:
        return {"kinds": list(self.kinds), "error": self.error}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.kinds.extend(state.get("kinds", ()))
        self.error = state.get("error", "")


class Guard(Observer):
    """Stops a run as failed, by `StopRun`, so that what was learnt until then is saved.

    Each judge is watched by itself. Of its last ``judging.window`` verdicts, errors count against
    ``max_errors``, and each kind of `SAYINGS` against ``max_same_outcome``. That is looked at once the window
    is full and at the end of a run, from `ENOUGH` verdicts on; of `EARLY` kinds also as soon as so many
    verdicts are all of one. A person's verdicts are not looked at. `state` is part of every checkpoint.
    """

    def __init__(self, config: Config) -> None:
        self.judging = config.judging
        self.max_kl = config.training.max_kl
        people = {key for key, judge in config.judges.items() if adapt(judge, BaseJudge).interactive}
        self._keys = config.judge_keys
        windows = {key: 0 if key in people else config.judging.window for key in config.judges}
        self._watched = {key: Watched(window) for key, window in windows.items()}
        self._unlabelled = 0
        self._divergences: deque[float] = deque(maxlen=KL_STEPS)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, as JSON."""
        states = {key: watched.state() for key, watched in self._watched.items()}
        return {
            **states.pop("judge", {}),
            **({"sources": states} if states else {}),
            "unlabelled": self._unlabelled,
            "divergences": list(self._divergences),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for key, watched in self._watched.items():
            watched.restore(state if key == "judge" else state.get("sources", {}).get(key, {}))
        self._unlabelled = state.get("unlabelled", 0)
        self._divergences.extend(state.get("divergences", ()))

    def pairs_judged(self, progress: Progress, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        for pair, verdict in zip(pairs, verdicts, strict=True):
            watched = self._watched[self._keys[pair.prompt.source]]
            if watched.window:
                watched.add(pair, verdict)
        for key, watched in self._watched.items():
            self._check(key, watched, whole=len(watched.kinds) == watched.window)

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
        window = max(watched.window for watched in self._watched.values())
        if evaluation.step == 0 and window and judged:
            found = Watched(window)
            found.kinds = deque(k for k in (kind_of(*row) for row in judged) if k not in ("tie", "equal"))
            found.error = errors[-1] if errors else ""
            self._check("the judge of evaluations", found, whole=True)
            if len(errors) == len(judged):
                raise _errors("the judge of evaluations", len(errors), len(judged), "any", errors[-1])

    def check_end(self) -> None:
        """What can only be told at the end of a run. Raises `StopRun`."""
        for key, watched in self._watched.items():
            self._check(key, watched, whole=True)

    def _check(self, who: str, watched: Watched, *, whole: bool) -> None:
        seen, counts = len(watched.kinds), Counter(watched.kinds)
        if seen < min(ENOUGH, watched.window or ENOUGH):
            return
        all_errors = counts["error"] == seen and self.judging.max_errors < 1
        if all_errors or (whole and counts["error"] > self.judging.max_errors * seen):
            allowed = f"judging.max_errors ({self.judging.max_errors:g})"
            raise _errors(who, counts["error"], seen, allowed, watched.error)
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
