"""The rule judge: points, ties broken by length, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from prefloop_plugins.judges.rule import RuleJudge
from support.judge_models import pair


def probability(judge: RuleJudge, first: str, second: str) -> float:
    (verdict,) = judge.judge([pair("p", first, second)])
    assert verdict.status == ("tie" if verdict.probability == 0.5 else "ok")
    return verdict.probability


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("options", "first", "second", "difference"),
    [
        ({"prefer": ["hope", "sure"]}, "Sure! I hope so.", "No.", 2),
        ({"prefer": ["hope", "sure"]}, "sure sure sure", "No.", 1),
        ({"prefer": ["sure"], "ignore_case": False}, "Sure", "no", 0),
        ({"prefer": ["sure"], "avoid": ["next"]}, "Next.", "Sure.", -2),
        ({"avoid": [r"\bnext\b"]}, "nextdoor", "next", 1),
        ({"avoid": ["x"], "temperature": 4.0}, "x", "", -0.25),
        ({"prefer": ["^line$"]}, "line", "a\nline\nb", 1),
        ({"length": "shorter"}, "aa", "aaa", 1),
        ({"length": "longer"}, "aa", "aaa", -1),
        ({"length": "longer"}, "aaa", "bbb", 0),
        ({"prefer": ["sure"], "length": "shorter"}, "sure, and much more", "no", 1),
        ({"prefer": ["sure"], "length": "shorter"}, "sure, and much more", "sure", -1),
        ({"prefer": ["sure"]}, "a", "b", 0),
    ],
)
def test_rule_points_become_a_probability(
    options: dict[str, Any], first: str, second: str, difference: float
) -> None:
    judge = RuleJudge(**options)
    assert probability(judge, first, second) == pytest.approx(sigmoid(difference))
    assert probability(judge, second, first) == pytest.approx(sigmoid(-difference))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs at least one rule: set 'prefer', 'avoid' or 'length'"),
        ({"prefer": ["fine", "("]}, r"'prefer\[1\]' is not a regular expression: '\('"),
        ({"avoid": ["*"]}, r"'avoid\[0\]' is not a regular expression"),
        ({"avoid": [3]}, r"'avoid\[0\]' is not a regular expression: 3"),
        ({"prefer": "sure"}, "'prefer' must be a list of regular expressions"),
        ({"length": "short"}, "'length' must be in"),
        ({"length": "shorter", "temperature": 0}, "'temperature' must be > 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RuleJudge(**options)
