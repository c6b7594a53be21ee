"""Which held-out answers a report shows: the best, the worst, and some at random."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from prefloop.types import Pair, Verdict
from prefloop_plugins.report.records import RunFiles

EXTREMES, AT_RANDOM = 3, 6
"""How many are shown of the best and of the worst, and of the others."""
LONGEST = 1200
"""Characters that are shown of a text."""


@frozen
class Example:
    prompt: str
    before: str
    after: str
    probability: float | None = None
    """That the later answer is better, as the judge has it."""
    verdict: str = ""


@frozen
class Group:
    title: str
    examples: tuple[Example, ...]


def groups(run: RunFiles, seed: int) -> list[Group]:
    """Of the evaluation after training; of a run without its pairs, those of the summary."""
    if run.after is None or not run.after.pairs:
        return _of_summary(run.about("summary", "examples"))
    verdicts = run.after.verdicts
    examples = [_example(pair, verdict) for pair, verdict in zip(run.after.pairs, verdicts, strict=True)]
    judged = [i for i, v in enumerate(verdicts) if v.status in ("ok", "tie")]
    ranked = sorted(judged, key=lambda i: (-verdicts[i].probability, i))
    best = [i for i in ranked if verdicts[i].probability > 0.5][:EXTREMES]
    worst = [i for i in ranked[::-1] if verdicts[i].probability < 0.5][:EXTREMES]
    others = [i for i in range(len(examples)) if i not in best and i not in worst]
    drawn = sorted(random.Random(seed).sample(others, min(AT_RANDOM, len(others))))
    chosen = {
        "Best, by the judge": best,
        "Worst, by the judge": worst,
        f"At random (seed {seed})": drawn,
    }
    return [Group(title, tuple(examples[i] for i in rows)) for title, rows in chosen.items() if rows]


def _example(pair: Pair, verdict: Verdict) -> Example:
    prompt, before, after = (cut(text) for text in (pair.prompt.text, pair.second.text, pair.first.text))
    return Example(prompt, before, after, verdict.probability, _verdict_words(verdict))


def _verdict_words(verdict: Verdict) -> str:
    outcome = {"ok": "", "tie": "a tie", "abstained": "the judge abstained", "error": "the judge failed"}
    return ": ".join(part for part in (outcome[verdict.status], cut(verdict.reason or "", 200)) if part)


def _of_summary(found: Any) -> list[Group]:
    rows: Iterable[Any] = found if isinstance(found, list) else ()
    texts = [row for row in rows if isinstance(row, Mapping)]
    told = [[cut(str(row.get(side, ""))) for side in ("prompt", "before", "after")] for row in texts]
    examples = [Example(prompt, before, after) for prompt, before, after in told]
    return [Group("The first held-out prompts", tuple(examples))] if examples else []


def cut(text: str, longest: int = LONGEST) -> str:
    """A text that is not too long to be shown, with a note of what is missing."""
    if len(text) <= longest:
        return text
    return f"{text[:longest].rstrip()} … [{len(text) - longest:,} more characters]"
