"""The function judge: what a function may return, what is never a label, and how it is found."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop import UserError, Verdict
from prefloop.errors import StopRun
from prefloop_plugins.judges.function import FunctionJudge
from support.judge_models import pair

if TYPE_CHECKING:
    from pathlib import Path

PAIR = pair("the prompt", "the first", "the second")


def verdict(returned: Any) -> Verdict:
    (found,) = FunctionJudge(call=lambda prompt, first, second: returned).judge([PAIR])
    return found


@pytest.mark.parametrize(
    ("returned", "probability"),
    [
        (True, 1.0),
        (False, 0.0),
        (0.25, 0.25),
        (1.0, 1.0),
        (np.float32(0.75), 0.75),
        (np.mean([1.0, 0.0]) > 0.2, 1.0),
        (mx.array(0.75), 0.75),
    ],
)
def test_returned_labels_become_probabilities(returned: Any, probability: float) -> None:
    assert verdict(returned) == Verdict(probability)


def test_none_and_whole_verdicts_may_be_returned() -> None:
    assert verdict(None).status == "abstained"
    assert verdict(0.5).status == "tie"
    given = Verdict(0.9, reason="because")
    assert verdict(given) is given


@pytest.mark.parametrize(
    "returned",
    [
        math.nan,
        math.inf,
        1.5,
        -0.1,
        "first",
        "",
        1,
        0,
        -1,
        [0.5],
        (True,),
        {},
        np.array([0.5, 0.5]),
        1j,
        object(),
    ],
)
def test_any_other_return_value_is_an_error(returned: Any) -> None:
    found = verdict(returned)
    assert found.status == "error"
    assert found.prefers_first is None
    assert found.reason is not None
    assert "it returned" in found.reason


def test_the_function_gets_the_texts() -> None:
    seen = []
    FunctionJudge(call=lambda *texts: seen.append(texts)).judge([PAIR])
    assert seen == [("the prompt", "the first", "the second")]


def test_a_raising_function_fails_its_pair_alone() -> None:
    def call(prompt: str, first: str, second: str) -> bool:
        if prompt == "bad":
            raise RuntimeError("no idea")
        return True

    first, second = FunctionJudge(call=call).judge([pair("bad", "x", "y"), PAIR])
    assert first.reason == "the judge function failed: RuntimeError: no idea"
    assert first.status == "error"
    assert second.prefers_first is True


@pytest.mark.parametrize("error", [StopRun("enough"), UserError("wrong"), KeyboardInterrupt()])
def test_stop_run_is_not_swallowed(error: BaseException) -> None:
    def call(*_: str) -> bool:
        raise error

    with pytest.raises(type(error)):
        FunctionJudge(call=call).judge([PAIR])


def test_scores_become_a_bradley_terry_probability() -> None:
    judge = FunctionJudge(score=lambda prompt, completion: len(prompt + completion), temperature=2.0)
    (found,) = judge.judge([pair("p", "aaaa", "a")])
    assert found.probability == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert judge.judge([pair("p", "aa", "bb")])[0].status == "tie"


@pytest.mark.parametrize("score", [math.nan, math.inf, "3", None, True, [1.0]])
def test_a_score_that_is_no_number_is_an_error(score: Any) -> None:
    (found,) = FunctionJudge(score=lambda *_: score).judge([PAIR])
    assert found.status == "error"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, which is not on the path for being the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    return tmp_path


def test_a_function_in_the_current_folder(here: Path) -> None:
    (here / "my_judge.py").write_text(
        "import my_helper\n"
        "def better(prompt, first, second):\n    return my_helper.LIKED in first\n"
        "class Judge:\n    @staticmethod\n    def score(prompt, completion): return -len(completion)\n"
    )
    (here / "my_helper.py").write_text("LIKED = 'first'\n")
    assert FunctionJudge(call="my_judge:better").judge([PAIR])[0].prefers_first is True
    assert FunctionJudge(score="my_judge:Judge.score").judge([PAIR])[0].prefers_first is True
    assert FunctionJudge(call="my_judge:better") == FunctionJudge(call="my_judge:better")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs 'call' or 'score', exactly one"),
        ({"call": len, "score": len}, "needs 'call' or 'score', exactly one"),
        ({"call": "my_judge"}, "call: 'my_judge' is not of the form module:function"),
        ({"call": "my_judge:"}, "is not of the form module:function"),
        ({"call": "my_juge:better"}, "there is no module 'my_juge'.*Did you mean 'my_judge'?"),
        ({"call": "nowhere.at.all:better"}, "there is no module 'nowhere.at.all'"),
        (
            {"call": "my_judge:beter"},
            r"'my_judge' \(.*my_judge.py\) has no function 'beter'. Did you mean 'better'?",
        ),
        ({"score": "my_judge:NUMBER"}, "score: 'my_judge:NUMBER' is not a function"),
        ({"score": "broken:f"}, "score: module 'broken' cannot be imported: SyntaxError"),
        ({"score": "needy:f"}, "score: module 'needy' cannot be imported: No module named 'not_installed'"),
        ({"score": "failing:f"}, "module 'failing' cannot be imported: ValueError: at import"),
        ({"call": 3}, "call: 3 is not a function: give 'module:function'"),
    ],
)
def test_a_function_that_cannot_be_found_is_named(here: Path, options: dict[str, Any], message: str) -> None:
    (here / "my_judge.py").write_text("def better(*_): return True\nNUMBER = 3\n")
    (here / "broken.py").write_text("def f(:\n")
    (here / "needy.py").write_text("import not_installed\n")
    (here / "failing.py").write_text("raise ValueError('at import')\n")
    with pytest.raises(UserError, match=message) as caught:
        FunctionJudge(**options)
    assert "\n" not in str(caught.value)


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="'temperature' must be > 0"):
        FunctionJudge(score=lambda prompt, completion: 1.0, temperature=0.0)
