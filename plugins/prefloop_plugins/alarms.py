"""Says while a run goes on what falls off, so that nobody waits for its report to hear of it.

Steps are compared with the first steps of the same run, evaluations with its first one by the checks of the
report. Thresholds are at the head of this file and of `report.findings`. A line comes once, and again only
where it has become much worse.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean

from attrs import define, field, frozen

from prefloop import Evaluation, Pair, Verdict
from prefloop.text import one_line
from prefloop_plugins.report.findings import (
    GAP,
    STOPPING,
    Check,
    collapse,
    length,
    right_answers,
    warnings,
)
from prefloop_plugins.report.meters import Likings, over_optimised, style_of
from prefloop_plugins.report.records import RunFiles

STRETCH = 16
"""Pairs in the stretches of steps that are compared: the first ones of the run, and the latest."""
HALVED = 0.5
"""Share of its distinct 2-grams, or of its length, below which a step's answers have changed in kind."""
DOUBLED = 2.0
"""How much longer answers may become."""
CERTAIN = 4.0
"""Standard errors by which a share has to fall, as it is looked at in every step of a long run."""
FAR, FAR_PER_TOKEN = 10.0, 0.3
"""Nats from the reference, per answer and per token, from which both mean too far. The best of ``n`` answers
of the reference lies about ``log(n) - 1`` nats away: 10 nats are the best of 60,000."""
FAILING = 0.5
"""Share of errors from which the judge fails more often than it answers."""
IDLE_STEPS = 5
"""Steps in a row without a label, and `STRETCH` pairs in them, that are no coincidence."""
WORSE = 4.0
"""How many times as bad something has to be to be said again."""

ADVICE = (
    "Look at the answers in judgements.jsonl. To go back, start a run from an earlier checkpoint "
    "(adapter.resume_from) with a lower training.learning_rate, a higher loss.beta or another judge."
)
Means = Mapping[str, float]
"""Metrics of a stretch of steps."""


@frozen
class Alarm:
    """What falls off. `severity` is 1 at the threshold, and more where it is worse."""

    severity: float
    text: str
    advice: str = ADVICE
    """What to do, which is said once."""


def repetition(first: Means, now: Means) -> Alarm | None:
    """Answers that say the same over and over, within and among themselves."""
    if "distinct_2" not in first or "distinct_2" not in now:
        return None
    before, after = first["distinct_2"], now["distinct_2"]
    text = f"answers repeat themselves: distinct-2 fell from {before:.2f} in the first steps to {after:.2g}."
    return Alarm(HALVED * before / max(after, 1e-9), text)


def longer(first: Means, now: Means) -> Alarm | None:
    """Answers that grow without end."""
    before, after = first["completion_length"], now["completion_length"]
    text = f"answers grew from {before:.0f} to {after:.0f} tokens."
    advice = (
        "Judges tend to like length: see whether they say more, and consider a judge that controls for it."
    )
    return Alarm(after / (DOUBLED * before), text, advice)


def shorter(first: Means, now: Means) -> Alarm | None:
    """Answers that wither."""
    before, after = first["completion_length"], now["completion_length"]
    text = f"answers shrank from {before:.0f} to {after:.0f} tokens."
    return Alarm(HALVED * before / after, text)


def cut(first: Means, now: Means) -> Alarm | None:
    """Answers that no longer end by themselves."""
    before, after = first["stop_rate"], now["stop_rate"]
    both = (before * first["pairs"] + after * now["pairs"]) / (first["pairs"] + now["pairs"])
    error = math.sqrt(both * (1 - both) * (1 / first["pairs"] + 1 / now["pairs"]) / 2)  # two answers a pair
    text = f"{1 - after:.0%} of the answers are cut at the length limit, {1 - before:.0%} in the first steps."
    advice = "Raise sampler.max_completion_length in a new run, or let the judge prefer answers that end."
    return Alarm((before - after) / max(STOPPING, CERTAIN * error), text, advice)


def distance(first: Means, now: Means) -> Alarm | None:
    """A policy that has left what its reference could have said."""
    if "kl" not in now:
        return None
    limit = max(FAR, FAR_PER_TOKEN * now["completion_length"])
    return Alarm(now["kl"] / limit, f"the policy lies {now['kl']:.0f} nats from its reference.")


def place(first: Means, now: Means) -> Alarm | None:
    """A judge that contradicts itself when the answers change places."""
    if "position_gap" not in now:
        return None
    gap = now["position_gap"]
    text = f"the judge goes by place: its probabilities in the two orders lie {gap:.2f} apart on average."
    advice = (
        "Such labels mean little. A larger model or a clearer rubric may help; prefloop judge tries them out."
    )
    return Alarm(gap / GAP, text, advice)


def failing(first: Means, now: Means) -> Alarm | None:
    """A judge that mostly fails."""
    share, pairs = now["errors"], now["pairs"]
    text = f"the judge failed on {share:.0%} of the latest {pairs:.0f} pairs, which teach nothing."
    return Alarm(share / FAILING, text, "Mend it, or stop here.")


Sign = Callable[[Means, Means], Alarm | None]
SIGNS: tuple[Sign, ...] = (
    repetition,
    longer,
    shorter,
    cut,
    distance,
    place,
    failing,
)


@define
class Alarms:
    """What of a run is to be said, as it is told of steps, verdicts and evaluations in their order."""

    _first: list[Means] = field(init=False, factory=list)
    _latest: deque[Means] = field(init=False, factory=deque)
    _idle: list[Means] = field(init=False, factory=list)
    _made: list[Evaluation] = field(init=False, factory=list)
    _likings: Likings = field(init=False, factory=Likings)
    _said: dict[str, float] = field(init=False, factory=dict)

    def judged(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Iterator[str]:
        """The first error of the judge, as soon as it happens. The pairs are those of a step."""
        self._likings.add(pairs, verdicts)
        yield from self._failed(verdicts)

    def _failed(self, verdicts: Sequence[Verdict]) -> Iterator[str]:
        errors = [v.reason or "no reason given" for v in verdicts if v.status == "error"]
        if errors and self._is_news("error", 1.0):
            yield f"the judge failed on {len(errors)} of {len(verdicts)} pairs: {one_line(errors[0])}"

    def stepped(self, metrics: Means) -> Iterator[str]:
        """What the metrics of a step show, with those of the steps before it."""
        yield from self._without_label(metrics)
        if _pairs(self._first) < STRETCH:
            self._first.append(metrics)
            return
        self._latest.append(metrics)
        while _pairs(self._latest) - self._latest[0]["pairs"] >= STRETCH:
            self._latest.popleft()
        if _pairs(self._latest) < STRETCH:
            return
        yield from self._told(SIGNS, _means(self._first), _means(self._latest))

    def evaluated(self, evaluation: Evaluation) -> Iterator[str]:
        """What the report's checks find in an evaluation beside the first one."""
        yield from self._failed(evaluation.verdicts)
        self._made.append(evaluation)
        yield from self._told((distance, place), self._made[0].metrics, evaluation.metrics)
        so_far = RunFiles("", evaluations=tuple(self._made))
        checks: dict[str, Check] = {
            "length": length,
            "collapse": collapse,
            "right answers": right_answers,
            "over-optimised": over_optimised,
            "style": partial(style_of, likings=self._likings),
        }
        for name, check in checks.items():
            for text in warnings(so_far, check):
                if self._is_news(f"check {name}", 1.0):
                    yield text

    def _told(self, signs: Sequence[Sign], first: Means, now: Means) -> Iterator[str]:
        for sign in signs:
            alarm = sign(first, now)
            if alarm and alarm.severity >= 1 and self._is_news(sign.__name__, alarm.severity):
                advised = self._is_news(alarm.advice, 1.0)
                yield f"{alarm.text} {alarm.advice}" if advised else alarm.text

    def forget(self) -> None:
        """Let everything be news again, as for whoever takes up a run."""
        self._said.clear()

    def _without_label(self, metrics: Means) -> Iterator[str]:
        if metrics["labelled"]:
            self._idle.clear()
            return
        self._idle.append(metrics)
        count = len(self._idle)
        enough = count >= IDLE_STEPS and _pairs(self._idle) >= STRETCH
        if enough and self._is_news("idle", float(count)):
            yield (
                f"the last {count} steps had no label, so nothing was learnt. Where answers have become "
                "alike, the judge has nothing to prefer."
            )

    def _is_news(self, what: str, severity: float) -> bool:
        """Whether it was not said yet, or is much worse than when it was; then it counts as said."""
        if severity < WORSE * self._said.get(what, 0.0):
            return False
        self._said[what] = severity
        return True


def _pairs(steps: Sequence[Means] | deque[Means]) -> float:
    return sum(metrics["pairs"] for metrics in steps)


def _means(steps: Sequence[Means] | deque[Means]) -> Means:
    """Means of every metric that all of these steps have, and the number of their pairs."""
    names = set.intersection(*(set(metrics) for metrics in steps))
    return {**{name: fmean(metrics[name] for metrics in steps) for name in names}, "pairs": _pairs(steps)}
