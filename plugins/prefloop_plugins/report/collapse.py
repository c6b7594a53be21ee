"""The checks of the honesty panel that look at the answers themselves: variety, length, stopping, facts."""

from __future__ import annotations

from prefloop_plugins.report.formats import change, percent
from prefloop_plugins.report.measures import most_common_answer
from prefloop_plugins.report.records import Finding, RunFiles

DISTINCT = 0.7
"""What share of its distinct n-grams a policy should keep."""
SAME_ANSWER, SAME_ANSWER_PROMPTS = 0.3, 8
"""Share of prompts that get one and the same answer, of at least so many prompts."""
SHRUNK = 0.5
"""Answers this share as long as before have collapsed."""
STOPPING = 0.1
"""How far the share of answers that end by themselves may fall."""
ACCURACY = 0.05
"""How far the share of right answers may fall."""


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
    told = " and ".join(f"distinct-{n} went from {change(values, '.2f')}" for n, values in found.items())
    bad = any(before > 0 and after < DISTINCT * before for before, after in found.values())
    hint = " (more text alone lowers it too)" if bad else ""
    return bad, f"Of held-out answers {told}{hint}."


def _same_answer(run: RunFiles) -> Sign | None:
    pairs = run.after.pairs if run.after else ()
    if run.after is None or len({p.prompt.text for p in pairs}) < SAME_ANSWER_PROMPTS:
        return None
    answer, share = most_common_answer(run.after, lambda p: p.first.text)
    _, before = most_common_answer(run.after, lambda p: p.second.text)
    told = f"The most frequent answer was given to {percent(share)} of the held-out prompts"
    bad = share >= SAME_ANSWER and share >= 2 * before
    shown = answer if len(answer) <= 80 else answer[:79] + "…"
    return bad, f"{told}, {percent(before)} by the other side" + (f": “{shown}”." if bad else ".")


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
