"""VADER's sentiment. Environments of other tools import this, so it needs VADER and nothing else."""

from __future__ import annotations

from functools import cache
from typing import Any


def brightness(text: str) -> float:
    """How positive a text is by VADER, from -1 to 1 (Hutto and Gilbert 2014)."""
    return float(_analyzer().polarity_scores(text)["compound"])


@cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
