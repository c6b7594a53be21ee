"""Scores answers to grade-school sums: a right number is best, and a wrong one is better than none.

The right numbers are those of openai/gsm8k, where an answer ends with ``#### 72``. They are looked up by the
question, as a function judge gets the texts of a prompt and an answer.
"""

from __future__ import annotations

import re
from functools import cache

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@cache
def answers() -> dict[str, float]:
    """The right number by question."""
    from datasets import load_dataset

    rows = load_dataset("openai/gsm8k", "main", split="train")
    return {row["question"].strip(): _last_number(row["answer"]) or 0.0 for row in rows}


def score(prompt: str, completion: str) -> float:
    """2 for the right number at the end, 0.5 for another, 0 for none. `KeyError` for an unknown question."""
    right, said = answers()[prompt.strip()], _last_number(completion)
    if said is None:
        return 0.0
    return 2.0 if abs(said - right) < 1e-6 else 0.5


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
