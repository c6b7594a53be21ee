"""What a judge of SmolLM2's answers may wish for: each a number that anybody can work out from the text.

The libraries know nothing of language models: VADER and TextBlob look words up in lexicons of sentiment, made
by different people, and textstat counts syllables. ``pip install --group judges`` installs them.
"""

from __future__ import annotations

import re

from benchmarks.harness.sentiment import brightness

from prefloop import Prompt

WORDS = 8
"""Words of an answer that is as long as `brief` wishes."""
UNFINISHED = 10
POSITIVE = 0.3
"""Over half of the start's answers are as bright as this."""
WORDLESS = -100.0
HARDEST, EASIEST = -100.0, 121.22
"""Flesch's scale has no lower end. Its upper one is a sentence of one word of one syllable."""


def bright(prompt: Prompt, text: str) -> float:
    """How positive a text is by VADER, from -1 to 1 (Hutto and Gilbert 2014)."""
    return brightness(text)


def cheerful(prompt: Prompt, text: str) -> float:
    """How positive a text is by TextBlob, from -1 to 1: a second opinion on `bright`."""
    from textblob import TextBlob

    return float(TextBlob(text).sentiment.polarity)


def easy(prompt: Prompt, text: str) -> float:
    """Flesch's reading ease by textstat: the higher, the easier."""
    import textstat

    if not re.search(r"[^\W\d_]", text):
        return WORDLESS
    return min(max(float(textstat.flesch_reading_ease(text)), HARDEST), EASIEST)


def brief(prompt: Prompt, text: str) -> float:
    """How near an answer is to eight words, and whether it comes to an end."""
    return -abs(len(text.split()) - WORDS) - UNFINISHED * (not is_finished(text))


def shouted(prompt: Prompt, text: str) -> float:
    """An exclamation mark, which one answer in sixty has, is worth 3, and any other positive answer 1."""
    return 3 if "!" in text else float(bright(prompt, text) > POSITIVE)


def is_finished(text: str) -> bool:
    """Whether a text ends as a sentence does."""
    return text.rstrip("\"')*").endswith((".", "!", "?"))
