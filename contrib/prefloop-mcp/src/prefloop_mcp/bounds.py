"""How much of a run goes into one answer, so that it fits what an agent can read."""

from __future__ import annotations

from typing import Any

from prefloop.text import without_nan

MOST_RUNS = 100
MOST_PAIRS = 50
MOST_STEPS = 200
MOST_EVALUATIONS = 50
MOST_LINES = 200
MOST_COMPARED = 5
TEXT = 4000
"""Characters of one text."""
CONFIG = 200_000
"""Characters of a configuration, or of pairs, that are taken."""


def bounded(value: Any) -> Any:
    """`value` as JSON has it: no NaN, and long texts cut in the middle, with a word about it."""
    return _cut(without_nan(value))


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT:
        left_out = len(value) - TEXT
        return f"{value[: TEXT // 2]}… ({left_out} characters left out) …{value[-TEXT // 2 :]}"
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list | tuple) else value
