"""The validity checks: what keeps a run from showing what it seems to show.

Each check is a pure function of what was read of a run, with its thresholds at the head of this file. It
always answers: with a warning, with a note, that all is well, or that it could not be checked. The numbers
are in the sentence, so that the reader can disagree with the threshold.
"""

from __future__ import annotations

from collections.abc import Callable

from prefloop.evaluation.stats import COLLAPSED, wilson
from prefloop.text import one_line
from prefloop.types import Rate
from prefloop_plugins.rates import interval
from prefloop_plugins.report.audited import person_and_judge
from prefloop_plugins.report.measures import (
    first_place_once,
    longer_wins,
    most_common_answer,
    overall,
    pairs_needed,
    position_bias,
    steps_taken,
)
from prefloop_plugins.report.meters import over_optimised, style
from prefloop_plugins.report.records import Finding, Level, RunFiles
from prefloop_plugins.report.words import change, percent, plural

UNFAIR_Z = 3.29
"""Of a 99.9 % interval: a win rate of the start against itself for which chance is no explanation."""
GROWN = 1.2
"""Answers this many times as long as before are longer."""
LENGTH_SHARE = 0.1
"""How far controlling for length may move the win rate before length is said to be part of it."""
GAP = 0.2
"""Mean distance of the probabilities of the two orders from which the judge partly goes by place."""
FIRST_PLACE = 0.1
"""How far from one half the share of the answer shown first may lie."""
TIES = 0.4
"""Share of ties above which most of the judging teaches nothing."""
ERRORS = 0.05
"""Share of errors and abstentions that should be looked at."""
IDLE = 0.1
"""Share of steps that may pass without an update."""
SAME_ANSWER, SAME_ANSWER_PROMPTS = 0.3, 8
"""Share of prompts that get one and the same answer, of at least so many prompts."""
SHRUNK = 0.5
"""Answers this share as long as before have collapsed."""
STOPPING = 0.1
"""How far the share of answers that end by themselves may fall."""
ACCURACY = 0.05
"""How far the share of right answers may fall."""


def finished(run: RunFiles) -> Finding:
    """Whether the run came to its end."""
    if run.status == "finished":
        early = f", and ended early: {run.about('reason')}" if run.about("reason") else " and finished"
        return Finding("fine", "The run finished", f"It took {plural(steps_taken(run), 'step')}{early}.")
    planned = run.count("plan", "steps")
    how_far = f"{steps_taken(run)} of {planned if planned is not None else 'an unknown number of'} steps"
    reason = str(run.about("reason") or "").rstrip(".")
    why = f": {reason}" if reason else ""
    if run.status == "running":
        why = "; it is still going on"
    elif run.status == "interrupted":
        why = "; it was killed"
    return Finding(
        "warning",
        "The run is not finished",
        f"Its status is {run.status} after {how_far}{why}. The numbers are those until then.",
    )


def claim(run: RunFiles) -> Finding:
    """Whether there are prompts enough for the win rate to say anything.

    The interval after training is compared with one half, and not with the interval before. The start wins
    half of its comparisons with itself by symmetry: that is known, so the evaluation before has nothing to
    estimate, and its width no part in the claim. It is a check of judge and sampling instead: where it lies
    far from one half, one side is favoured.
    """
    if run.after is None:
        return Finding(
            "unknown",
            "No win rate after training",
            "Without an evaluation after training nothing here shows whether the policy got better. "
            "A judge's liking for its training pairs does not.",
        )
    after = run.after.win_rate
    if not after.pairs:
        return Finding(
            "warning",
            "No win rate after training",
            "None of the verdicts on the held-out answers counts: all are errors or abstentions.",
        )
    rate = f"{interval(after)} on {plural(after.pairs, 'held-out prompt')}"
    if after.low <= 0.5 <= after.high:
        needed = pairs_needed(after.rate)
        more = f" A rate of {percent(after.rate)} would need about {needed:,} prompts." if needed else ""
        return Finding(
            "warning",
            "Too few prompts for the claim",
            f"The win rate is {rate}: the interval contains one half, so it may be chance.{more}",
        )
    if after.high < 0.5:
        return Finding(
            "warning",
            "The policy got worse by its own judge",
            f"The win rate is {rate}: the answers of the start are preferred.",
        )
    return Finding(
        "fine",
        "Enough prompts for the claim",
        f"The win rate is {rate}. The interval is above one half, which is what the start has against "
        "itself. It holds for prompts like these.",
    )


def fairness(run: RunFiles) -> Finding | None:
    """That the start came out even against itself; None where it did, or was not asked."""
    before = run.before.win_rate if run.before else None
    if before is None or _may_be_even(before):
        return None
    return Finding(
        "warning",
        "The start does not come out even with itself",
        f"Before training its win rate was {interval(before)} on {plural(before.pairs, 'held-out prompt')}, "
        "which chance hardly explains: the judge favours one side, so trust no win rate of this run.",
    )


def _may_be_even(rate: Rate) -> bool:
    wide = wilson(rate.rate * rate.pairs, rate.pairs, UNFAIR_Z)
    return wide.low <= 0.5 <= wide.high


def selection(run: RunFiles) -> Finding | None:
    """That the best of several win rates is too good on average; None where none was selected."""
    tried = sum(e.step > 0 for e in run.evaluations)
    if run.best_loaded is None or tried < 2:
        return None
    return Finding(
        "note",
        "The best of several evaluations was kept",
        f"Its win rate is the highest of {tried} on the same prompts, so some of it is luck. Evaluate it on "
        "prompts that had no part in the choice.",
    )


def length(run: RunFiles) -> Finding:
    """Whether the win rate grew because answers grew."""
    grew = run.change("completion_length")
    if grew is None or run.after is None or grew[0] <= 0:
        return Finding("unknown", "Length", "There are no lengths of held-out answers before and after.")
    text = f"Held-out answers went from {change(grew, '.1f')} tokens"
    raw, controlled = run.after.win_rate, run.after.metrics.get("length_controlled_win_rate")
    if controlled is not None:
        text += f"; the win rate is {percent(raw.rate)}, length-controlled {percent(controlled)}"
    if raw.rate <= 0.5 or grew[1] < GROWN * grew[0]:
        return Finding("fine", "The win rate did not come with length", f"{text}.")
    if controlled is None:
        liking = longer_wins(run.judged)
        likes = f" In training the longer answer won {interval(liking)} of the pairs." if liking else ""
        return Finding(
            "warning",
            "The win rate grew together with length",
            f"{text}. There is no length-controlled rate, so nothing tells the two apart.{likes}",
        )
    if controlled <= 0.5 or raw.rate - controlled >= LENGTH_SHARE:
        return Finding(
            "warning",
            "The win rate grew with length",
            f"{text}: at equal length less of it is left, or nothing.",
        )
    return Finding(
        "note", "Answers became longer, and win at equal length too", f"{text}: length does not explain it."
    )


def judge_consistency(run: RunFiles) -> Finding:
    """Whether the judge goes by the answers or by their place."""
    bias = position_bias(run.judged)
    first = bias.first_place if bias else first_place_once(run.judged)
    if bias is None and first is None:
        return Finding("unknown", "The judge's consistency", "No pair tells whether it goes by place.")
    parts, wrong = [], False
    if bias is not None:
        wrong = bias.gap >= GAP
        parts.append(
            f"asked in both orders about {plural(bias.pairs, 'pair')}, it said the same about "
            f"{percent(bias.consistency.rate)} of them; the probabilities lie {bias.gap:.2f} apart on average"
        )
    if first is not None:
        certain = not first.low <= 0.5 <= first.high
        wrong = wrong or (certain and abs(first.rate - 0.5) > FIRST_PLACE)
        parts.append(f"the answer shown first got {interval(first)}, where one half is fair")
    text = "; ".join(parts)
    text = text[:1].upper() + text[1:] + "."
    if wrong:
        return Finding("warning", "The judge partly goes by place, not by answers", text)
    if bias is None:
        text += " It was asked in one order only, which shows no more than this."
    return Finding("fine", "The judge is consistent", text)


def judge_decided(run: RunFiles) -> Finding:
    """Whether enough of the pairs got a label."""
    ties, errors = overall(run.steps, "ties"), overall(run.steps, "errors")
    if ties is None or errors is None:
        return Finding("unknown", "Ties and errors", "There is no step to count them in.")
    lost = errors + (overall(run.steps, "abstentions") or 0.0)
    idle = sum(s.get("skipped", 0.0) > 0 or s.get("labelled", 1.0) == 0 for s in run.steps) / len(run.steps)
    text = (
        f"Of all training pairs {percent(ties)} were ties and {lost:.1%} errors or abstentions; "
        f"{percent(idle)} of the steps made no update."
    )
    if lost >= ERRORS:
        return Finding("warning", "The judge often gave no verdict", text)
    if ties >= TIES:
        return Finding("warning", "Many ties", f"{text} What is a tie teaches nothing.")
    if idle >= IDLE:
        return Finding("warning", "Many steps without an update", text)
    return Finding("fine", "The judge decided most pairs", text)


def collapse(run: RunFiles) -> Finding:
    """Whether the policy lost its variety: distinct n-grams, one answer to all, length, stopping."""
    signs = [s for s in (_distinct(run), _same_answer(run), _shrunk(run), _stopping(run)) if s]
    warnings = [text for bad, text in signs if bad]
    if warnings:
        return Finding("warning", "The policy may have collapsed", " ".join(warnings))
    if not signs:
        return Finding("unknown", "Collapse", "There is no evaluation before and after to see it by.")
    return Finding("fine", "No sign of collapse", " ".join(text for _, text in signs))


Sign = tuple[bool, str]


def _distinct(run: RunFiles) -> Sign | None:
    found = {n: values for n in (1, 2) if (values := run.change(f"distinct_{n}"))}
    if not found:
        return None
    changes = " and ".join(f"distinct-{n} went from {change(values, '.2f')}" for n, values in found.items())
    bad = any(before > 0 and after < COLLAPSED * before for before, after in found.values())
    hint = " (more text alone lowers it too)" if bad else ""
    return bad, f"Of held-out answers {changes}{hint}."


def _same_answer(run: RunFiles) -> Sign | None:
    pairs = run.after.pairs if run.after else ()
    if run.after is None or len({p.prompt.text for p in pairs}) < SAME_ANSWER_PROMPTS:
        return None
    answer, share = most_common_answer(run.after, lambda p: p.first.text)
    _, before = most_common_answer(run.after, lambda p: p.second.text)
    text = f"The most frequent answer was given to {percent(share)} of the held-out prompts"
    bad = share >= SAME_ANSWER and share >= 2 * before
    shown = answer if len(answer) <= 80 else answer[:79] + "…"
    return bad, f"{text}, {percent(before)} by the other side" + (f": “{shown}”." if bad else ".")


def _shrunk(run: RunFiles) -> Sign | None:
    lengths = run.change("completion_length")
    if lengths is None:
        return None
    return lengths[1] < SHRUNK * lengths[0], f"Answers went from {change(lengths, '.1f')} tokens."


def _stopping(run: RunFiles) -> Sign | None:
    stops = run.change("stop_rate")
    if stops is None:
        return None
    fell = stops[0] - stops[1] >= STOPPING - 1e-9
    return fell, f"Answers that end by themselves went from {change(stops)}."


def right_answers(run: RunFiles) -> Finding | None:
    """Whether facts slid while the judge looked at something else; None where none are known."""
    right = run.change("accuracy")
    if right is None:
        return None
    text = f"Held-out answers that contain the right one went from {change(right)}."
    if right[0] - right[1] >= ACCURACY - 1e-9:
        return Finding(
            "warning", "Fewer answers are right", f"{text} The judge did not see it, or did not mind."
        )
    return Finding(
        "fine", "About as many answers are right" if right[0] > right[1] else "No fewer are right", text
    )


def who_judged(run: RunFiles) -> Finding | None:
    """That a win rate is the opinion of the judge that taught; None where another one gave it."""
    named = any(key.startswith("evaluation.judge.") and key.endswith("use") for key in run.settings)
    if run.after is None or named:
        return None
    return Finding(
        "note",
        "The judge that taught also says who won",
        "The win rate says that the policy learnt what this judge likes. Whether people like it too, "
        "another judge or a person can tell (evaluation.judge).",
    )


CHECKS = (
    finished,
    claim,
    fairness,
    selection,
    length,
    judge_consistency,
    judge_decided,
    collapse,
    right_answers,
    over_optimised,
    person_and_judge,
    style,
    who_judged,
)
_ORDER: tuple[Level, ...] = ("warning", "note", "unknown", "fine")


Check = Callable[[RunFiles], Finding | None]


def warnings(run: RunFiles, *checks: Check) -> list[str]:
    """What these checks warn of, in a line each, for a terminal."""
    found = (check(run) for check in checks)
    return [f"{f.title}: {one_line(f.text, 1000)}" for f in found if f and f.level == "warning"]


def findings(run: RunFiles) -> list[Finding]:
    """What every check says, the warnings first."""
    found = [finding for check in CHECKS if (finding := check(run)) is not None]
    damage = [Finding("warning", "Files of the run are missing or damaged", " ".join(run.problems))]
    return sorted([*found, *(damage if run.problems else ())], key=lambda f: _ORDER.index(f.level))
