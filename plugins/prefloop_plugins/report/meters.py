"""Whether a win rate is what it seems: what other judges say of the same answers, and what became of style.

Both checks compare prompt by prompt, so that what is hard about a prompt cancels: of the prompts on which
something changed at all, the share that changed in one direction, with its Wilson interval (a sign test, as
McNemar's for verdicts). An evaluation is one look of many, so its intervals are wider than 95 %: over all
looks of a run, chance alone warns in at most 5 of 100 runs by either check.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist, fmean

from attrs import define, field, frozen

from prefloop.evaluation.stats import wilson
from prefloop.types import Evaluation, Pair, Rate, Verdict
from prefloop_plugins.rates import interval
from prefloop_plugins.report.records import Finding, RunFiles
from prefloop_plugins.style import MEASURES, Measure

ALPHA = 0.05
"""How often chance alone may warn, over all looks at a run."""


def z_of(look: int, among: int) -> float:
    """Of intervals that hold together for `among` questions at the `look`-th evaluation, and over all looks.

    Bonferroni, with ``6 / (pi look)**2`` of `ALPHA` for a look: these add up to one, however many there are.
    """
    return NormalDist().inv_cdf(1 - ALPHA * 6 / (math.pi * look) ** 2 / among / 2)


def leaning(differences: Iterable[float], z: float) -> Rate:
    """The share of differences above zero, of those that are not zero, with its Wilson interval."""
    changed = [difference > 0 for difference in differences if difference]
    return wilson(sum(changed), len(changed), z)


# Other judges


@frozen
class Turn:
    """From one evaluation to another, the judge that taught went one way and another judge the other."""

    since: int
    step: int
    teacher: str
    other: str
    rose: Rate
    """Of the prompts on which the teacher changed its verdict: those that it now gives to the policy."""
    fell: Rate
    """Of those on which the other judge did: those that it now takes away."""
    rates: tuple[tuple[float, float], tuple[float, float]]
    """Win rates of both, before and after."""


def turned(evaluations: Sequence[Evaluation]) -> Turn | None:
    """Whether, at the last of these evaluations, the two have come apart since any before it.

    The evaluations of a run ask about the same prompts, and the other side's answers are the same ones.
    """
    if len(evaluations) < 2 or not evaluations[-1].teacher:
        return None
    last, earlier = evaluations[-1], evaluations[:-1]
    others = [name for name in _by_judge(last) if name != last.teacher]
    z = z_of(len(earlier), max(1, len(earlier) * len(others)))
    found = [t for before in earlier for name in others if (t := _turn(before, last, name, z))]
    return max(found, key=lambda turn: turn.fell.pairs, default=None)


def _turn(before: Evaluation, now: Evaluation, other: str, z: float) -> Turn | None:
    then, after, teacher = _by_judge(before), _by_judge(now), now.teacher
    if not {teacher, other} <= then.keys() & after.keys():
        return None
    rose = leaning(_changes(before, now, then[teacher].verdicts, after[teacher].verdicts), z)
    fell = leaning((-c for c in _changes(before, now, then[other].verdicts, after[other].verdicts)), z)
    if rose.low <= 0.5 or fell.low <= 0.5:
        return None
    rates = ((then[n].rate.rate, after[n].rate.rate) for n in (teacher, other))
    return Turn(before.step, now.step, teacher, other, rose, fell, (next(rates), next(rates)))


@frozen
class Said:
    """What one judge said in an evaluation."""

    rate: Rate
    verdicts: Sequence[Verdict]


def _by_judge(evaluation: Evaluation) -> dict[str, Said]:
    """What each judge of an evaluation said, by its name, the first one first."""
    others = {other.judge: Said(other.win_rate, other.verdicts) for other in evaluation.others}
    name = evaluation.judge or "the judge"
    return {name: Said(evaluation.win_rate, evaluation.verdicts), **others}


def _changes(
    before: Evaluation, now: Evaluation, then: Sequence[Verdict], after: Sequence[Verdict]
) -> Iterator[float]:
    """By how much the policy won more on each prompt that both have a verdict on: -1 to 1."""
    known = dict(_wins(before, then))
    return (won - known[prompt] for prompt, won in _wins(now, after) if prompt in known)


def _wins(evaluation: Evaluation, verdicts: Sequence[Verdict]) -> Iterator[tuple[tuple[str, str], float]]:
    for pair, verdict in zip(evaluation.pairs, verdicts, strict=False):
        if verdict.status in ("ok", "tie"):
            won = verdict.prefers_first
            yield (pair.prompt.id, pair.prompt.text), 0.5 if won is None else float(won)


def over_optimised(run: RunFiles) -> Finding | None:
    """Whether the judge that taught likes the policy more, and another less; None where one is asked.

    That is over-optimisation: what is learnt is that judge, and no longer what it stands for.
    """
    if not any(made.others and made.teacher for made in run.evaluations):
        return None
    looks = range(len(run.evaluations), 1, -1)
    turn = next((t for count in looks if (t := turned(run.evaluations[:count]))), None)
    if turn is None:
        return Finding(
            "fine",
            "No other judge turned against the policy",
            f"{rates_in_words(run.evaluations[-1])}. Prompt by prompt, none fell while that of the judge "
            "that taught rose.",
        )
    (own, other) = (f"{before:.0%} to {after:.0%}" for before, after in turn.rates)
    return Finding(
        "warning",
        "The judge that taught is over-optimised",
        f"From step {turn.since} to {turn.step} its win rate ({turn.teacher}) went from {own}, that of "
        f"{turn.other} from {other}. Of the prompts on which they changed their minds the first turned to "
        f"the policy on {interval(turn.rose)} of {turn.rose.pairs}, the second away from it on "
        f"{interval(turn.fell)} of {turn.fell.pairs}. An earlier checkpoint is better, by the other judge.",
    )


def rates_in_words(evaluation: Evaluation) -> str:
    """The win rate by each judge, in a line."""
    said = _by_judge(evaluation).items()
    taught = {evaluation.teacher: " (taught)"} if evaluation.teacher else {}
    return "Win rates: " + ", ".join(f"{n}{taught.get(n, '')} {interval(s.rate)}" for n, s in said)


# Style


@frozen
class Drift:
    """A measure of style that the policy's answers have more of than the start's to the same prompts."""

    measure: Measure
    before: float
    after: float
    more: Rate
    """Of the prompts on which the two differ: those on which the policy has more."""


def drifts(evaluation: Evaluation, look: int) -> list[Drift]:
    """What has risen, where `evaluation` is the `look`-th one after a step."""
    z = z_of(look, len(MEASURES))
    found = []
    for measure in MEASURES:
        rows = [(measure.count(p.first.text), measure.count(p.second.text)) for p in evaluation.pairs]
        if not rows:
            break
        after, before = (fmean(column) for column in zip(*rows, strict=True))
        more = leaning((ours - theirs for ours, theirs in rows), z)
        large = after - before >= max(measure.least, measure.of_before * before)
        if large and more.low > 0.5:
            found.append(Drift(measure, before, after, more))
    return found


@define
class Likings:
    """What the judge that teaches prefers of two answers of the policy: by measure, how often more of it won.

    The two are drawn alike, so a judge that does not mind a measure gives it half of the pairs that differ.
    """

    won: Counter[str] = field(factory=Counter)
    pairs: Counter[str] = field(factory=Counter)

    def add(self, pairs: Iterable[Pair], verdicts: Iterable[Verdict]) -> None:
        """Count pairs with a label, of which both answers are the policy's."""
        for pair, verdict in zip(pairs, verdicts, strict=True):
            alike = pair.first.source == pair.second.source == "policy"
            if verdict.prefers_first is None or not alike:
                continue
            for measure in MEASURES:
                more = measure.count(pair.first.text) - measure.count(pair.second.text)
                self.pairs[measure.name] += more != 0
                self.won[measure.name] += more != 0 and (more > 0) == verdict.prefers_first

    def rate(self, measure: Measure, z: float) -> Rate:
        """How often the answer with more of it won, with its interval."""
        return wilson(self.won[measure.name], self.pairs[measure.name], z)


def style(run: RunFiles) -> Finding | None:
    """Whether what rose with the win rate is a style that the judge goes by; None without answers to see."""
    likings = Likings()
    likings.add((j.pair for j in run.judged), (j.verdict for j in run.judged))
    return style_of(run, likings)


def style_of(run: RunFiles, likings: Likings) -> Finding | None:
    """The same, with the training pairs already counted."""
    after = run.after
    if after is None or not after.pairs:
        return None
    names = ", ".join(measure.name for measure in MEASURES)
    said = _by_judge(after)
    rate = said.get(after.teacher, next(iter(said.values()))).rate
    if rate.low <= 0.5:
        return Finding("fine", "No win rate that style could explain", f"Looked at: {names}.")
    look = sum(0 < made.step <= after.step for made in run.evaluations)
    risen = [(d, likings.rate(d.measure, z_of(look, len(MEASURES)))) for d in drifts(after, look)]
    liked = [(drift, liking) for drift, liking in risen if liking.low > 0.5]
    if liked:
        return Finding(
            "warning",
            "The win rate came with style",
            f"The policy wins {interval(rate)}, and beside the start's answers to the same prompts "
            + "; ".join(_in_words(*row) for row in liked)
            + ". prefloop judge --probes shows what turns this judge; another one tells what is left "
            "(evaluation.judge).",
        )
    if risen:
        text = "; ".join(_in_words(*row) for row in risen)
        return Finding(
            "note", "Style changed, and is not shown to be what won", f"{text[:1].upper()}{text[1:]}."
        )
    return Finding(
        "fine", "The win rate did not come with style", f"Beside the start's answers, none rose: {names}."
    )


def _in_words(drift: Drift, liking: Rate) -> str:
    measure, form = drift.measure, drift.measure.form
    return (
        f"{measure.name} rose from {drift.before:{form}} to {drift.after:{form}} {measure.unit} (more on "
        f"{interval(drift.more)} of the {drift.more.pairs} prompts that differ; of two answers in training "
        f"the one with more of it won {interval(liking)} of {liking.pairs})"
    )
