"""The honesty panel: what keeps a run from showing what it seems to show.

Each check is a pure function of what was read of a run, with its thresholds at the head of its file. It
always answers: with a warning, with a note, that all is well, or that it could not be checked. The numbers
are in the sentence, so that the reader can disagree with the threshold.
"""

from __future__ import annotations

from prefloop_plugins.report.collapse import collapse, right_answers
from prefloop_plugins.report.formats import change, interval, percent, plural
from prefloop_plugins.report.measures import (
    longer_wins,
    overall,
    pairs_needed,
    position,
    steps_taken,
)
from prefloop_plugins.report.records import Finding, Level, RunFiles

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
        why = "; it is still going on, or was killed"
    return Finding(
        "warning",
        "The run is not finished",
        f"Its status is {run.status} after {how_far}{why}. What is below is what was there until then.",
    )


def claim(run: RunFiles) -> Finding:
    """Whether there are prompts enough for the win rate to say anything."""
    if run.after is None:
        return Finding(
            "unknown",
            "No win rate after training",
            "Without an evaluation after training nothing here shows whether the policy got better. "
            "A judge's liking for its training pairs does not.",
        )
    after = run.after.win_rate
    told = f"{interval(after)} on {plural(after.pairs, 'held-out prompt')}"
    if after.low <= 0.5 <= after.high:
        needed = pairs_needed(after.rate)
        more = f" A rate of {percent(after.rate)} would need about {needed:,} prompts." if needed else ""
        return Finding(
            "warning",
            "Too few prompts for the claim",
            f"The win rate is {told}: the interval contains one half, so it may be chance.{more}",
        )
    if after.high < 0.5:
        return Finding(
            "warning",
            "The policy got worse by its own judge",
            f"The win rate is {told}: the answers of the start are preferred.",
        )
    before = run.before.win_rate if run.before else None
    if before is not None and before.high >= after.low:
        return Finding(
            "warning",
            "Too few prompts for the claim",
            f"The intervals before, {interval(before)}, and after, {told}, overlap.",
        )
    apart = f" and lies apart from the one before, {interval(before)}" if before else ""
    return Finding(
        "fine",
        "Enough prompts for the claim",
        f"The win rate is {told}. The interval is above one half{apart}. It holds for prompts like these.",
    )


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
    told = f"Held-out answers went from {change(grew, '.1f')} tokens"
    raw, controlled = run.after.win_rate, run.after.metrics.get("length_controlled_win_rate")
    if controlled is not None:
        told += f"; the win rate is {percent(raw.rate)}, length-controlled {percent(controlled)}"
    if raw.rate <= 0.5 or grew[1] < GROWN * grew[0]:
        return Finding("fine", "The win rate did not come with length", f"{told}.")
    if controlled is None:
        liking = longer_wins(run.judged)
        likes = f" In training the longer answer won {interval(liking)} of the pairs." if liking else ""
        return Finding(
            "warning",
            "The win rate grew together with length",
            f"{told}. There is no length-controlled rate, so nothing tells the two apart.{likes}",
        )
    if controlled <= 0.5 or raw.rate - controlled >= LENGTH_SHARE:
        return Finding(
            "warning",
            "The win rate grew with length",
            f"{told}: at equal length less of it is left, or nothing.",
        )
    return Finding(
        "note", "Answers became longer, and win at equal length too", f"{told}: length does not explain it."
    )


def judge_consistency(run: RunFiles) -> Finding:
    """Whether the judge goes by the answers or by their place."""
    found = position(run.judged)
    if found is None:
        return Finding("unknown", "The judge's consistency", "No pair tells whether it goes by place.")
    said, wrong = [], False
    if found.consistency is not None and found.gap is not None:
        wrong = found.gap >= GAP
        said.append(
            f"asked in both orders about {plural(found.pairs, 'pair')}, it said the same about "
            f"{percent(found.consistency.rate)} of them; the probabilities lie {found.gap:.2f} apart on "
            "average"
        )
    if (first := found.first_place) is not None:
        certain = not first.low <= 0.5 <= first.high
        wrong = wrong or (certain and abs(first.rate - 0.5) > FIRST_PLACE)
        said.append(f"the answer shown first got {interval(first)}, where one half is fair")
    text = "; ".join(said)
    text = text[:1].upper() + text[1:] + "."
    if wrong:
        return Finding("warning", "The judge partly goes by place, not by answers", text)
    if found.consistency is None:
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


def who_judged(run: RunFiles) -> Finding | None:
    """That a win rate is the opinion of the judge that taught; None where another one gave it."""
    if run.after is None or run.settings.get("evaluation.judge.use"):
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
    selection,
    length,
    judge_consistency,
    judge_decided,
    collapse,
    right_answers,
    who_judged,
)
_ORDER: tuple[Level, ...] = ("warning", "note", "unknown", "fine")


def findings(run: RunFiles) -> list[Finding]:
    """What every check says, the warnings first."""
    found = [finding for check in CHECKS if (finding := check(run)) is not None]
    damage = [Finding("warning", "Files of the run are missing or damaged", " ".join(run.problems))]
    return sorted([*found, *(damage if run.problems else ())], key=lambda f: _ORDER.index(f.level))
