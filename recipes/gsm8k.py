"""Scores answers to grade-school sums: a right number is best, and a wrong one is better than none."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def score(completion: str, answer: str) -> float:
    """2 for the right number at the end, 0.5 for another, 0 for none; `answer` ends with ``#### 72``."""
    said, right = _last_number(completion), _last_number(answer)
    if said is None:
        return 0.0
    return 2.0 if said == right else 0.5


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
