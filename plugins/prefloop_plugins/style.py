"""What of an answer is style, counted in its text alone: length, Markdown, hedging, repetition."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

_MARKS = re.compile(
    r"^[ \t]*(?:\#{1,6}[ ]|[-*+][ ]|\d+[.)][ ]|>[ ]|\|.*\|)|\*\*[^*\n]+\*\*|__[^_\n]+__|`[^`\n]+`|```",
    re.MULTILINE,
)
_HEDGES = re.compile(
    r"\b(?:perhaps|maybe|possibly|probably|presumably|arguably|apparently|likely|might|may|could be|seems?|"
    r"appears?|i think|i believe|i guess|i suppose|not sure|not certain|it depends|in some cases|"
    r"to some extent|as far as i know|more or less|sort of|kind of)\b",
    re.IGNORECASE,
)
_N = 3
"""Repetition is that of runs of so many words."""


@frozen
class Measure:
    """Something that can be counted of one answer."""

    name: str
    count: Callable[[str], float]
    unit: str
    least: float
    """By how much it has to rise, on average over answers, to be worth a word."""
    of_before: float = 0.0
    """The same as a share of what it was."""
    form: str = ".1f"


def words(text: str) -> int:
    """Words of a text."""
    return len(text.split())


def markdown(text: str) -> int:
    """Marks of Markdown: headings, items of lists, quotations, rows of tables, bold text and code."""
    return len(_MARKS.findall(text))


def hedges(text: str) -> int:
    """English words and phrases that take something back, such as "perhaps" or "I think"."""
    return len(_HEDGES.findall(text))


def repetition(text: str) -> float:
    """Share of an answer's runs of three words that stood in it before, 0 to 1; 0 for a shorter answer."""
    found = text.casefold().split()
    runs = [tuple(found[i : i + _N]) for i in range(len(found) - _N + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


MEASURES: Sequence[Measure] = (
    Measure("length", words, "words an answer", 1.0, of_before=0.2),
    Measure("Markdown", markdown, "marks an answer", 0.25),
    Measure("hedging", hedges, "hedges an answer", 0.25),
    Measure("repetition", repetition, "of the runs of three words", 0.05, form=".0%"),
)
BY_NAME: Mapping[str, Measure] = {measure.name: measure for measure in MEASURES}
