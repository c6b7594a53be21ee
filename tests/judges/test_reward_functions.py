"""The function judge takes functions as their own libraries document them: what they get, what they give."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from prefloop import Completion, Pair, Prompt, UserError, Verdict
from prefloop.errors import StopRun
from prefloop_plugins.judges.function import FunctionJudge, Weighted

if TYPE_CHECKING:
    from collections.abc import Callable


def question(text: str, first: str, second: str, *, chat: bool = False, **columns: Any) -> Pair:
    """A pair whose answers have the tokens 1, 2, … of their number of characters, and no thought."""
    said = (Completion(tuple(range(1, len(one) + 1)), one) for one in (first, second))
    messages = ({"role": "user", "content": text},)
    return Pair(Prompt((), text, messages, "p:1", columns, chat), *said)


SUM = question("2 + 2?", "4", "22", answer="4", type="sum")
CAPITAL = question("Capital of France?", "Rome", "Paris", answer="Paris", type="fact")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# One answer, or one pair, at a time


def test_an_answer_is_scored_by_the_column_that_the_function_names() -> None:
    def exact(completion: str, answer: str) -> float:
        return float(completion == answer)

    judge = FunctionJudge(score=exact)
    assert [v.probability for v in judge.judge([SUM, CAPITAL])] == pytest.approx([sigmoid(1), sigmoid(-1)])
    assert judge.symmetric
    assert judge.pairs_per_call == 1


def test_prompt_and_completion_may_have_other_names() -> None:
    seen = []

    def score(question: str, response: str, answer: str, level: int = 7) -> float:
        seen.append((question, response, answer, level))
        return 0.0

    FunctionJudge(score=score).judge([SUM])
    assert seen == [("2 + 2?", "4", "4", 7), ("2 + 2?", "22", "4", 7)]


def test_a_function_may_want_the_row_the_conversation_tokens_and_thought() -> None:
    def score(
        tokens: list[int], row: dict[str, Any], messages: list[Any], completion: str, thought: str
    ) -> int:
        assert row == {"answer": "4", "type": "sum"}
        assert messages == [{"role": "user", "content": "2 + 2?"}]
        assert thought == ""
        return len(tokens) + 10 * len(completion)

    (verdict,) = FunctionJudge(score=score, temperature=11).judge([SUM])
    assert verdict.probability == pytest.approx(sigmoid(-1))


def test_two_answers_are_compared_by_a_column() -> None:
    def better(answer: str, second: str, first: str) -> bool:
        assert first != second
        return first == answer

    judge = FunctionJudge(call=better)
    assert [v.prefers_first for v in judge.judge([SUM, CAPITAL])] == [True, False]
    assert not judge.symmetric


def test_whatever_there_is_goes_to_a_function_that_takes_all() -> None:
    def score(**given: Any) -> float:
        assert given.keys() == {
            "prompt",
            "completion",
            "thought",
            "tokens",
            "messages",
            "row",
            "answer",
            "type",
        }
        return float(given["answer"] == given["completion"])

    assert FunctionJudge(score=score).judge([SUM])[0].prefers_first is True


# Whole batches


def test_a_reward_function_of_trl() -> None:
    def reward(
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
        answer: list[str],
        **rest: Any,
    ) -> list[float]:
        assert prompts == ["2 + 2?"] * 2 + ["Capital of France?"] * 2
        assert [len(ids) for ids in completion_ids] == [len(text) for text in completions]
        assert rest["type"] == ["sum", "sum", "fact", "fact"]
        assert rest["trainer_state"] is None
        rest["log_extra"]("answer", answer)
        rest["log_metric"]("right", 1.0)
        return [float(text == right) for text, right in zip(completions, answer, strict=True)]

    judge = FunctionJudge(score=reward)
    assert [v.probability for v in judge.judge([SUM, CAPITAL])] == pytest.approx([sigmoid(1), sigmoid(-1)])
    assert judge.pairs_per_call is None
    assert judge.symmetric
    assert FunctionJudge(score=reward, batch_size=2).pairs_per_call == 2
    assert judge.judge([]) == []


def test_where_prompts_are_conversations_completions_are_messages() -> None:
    def reward(completions: list[list[dict[str, str]]], prompts: list[Any], **_: Any) -> list[float]:
        assert prompts[0] == [{"role": "user", "content": "Hi"}]
        assert completions[1] == [{"role": "assistant", "content": "Hello!"}]
        return [float(len(completion[0]["content"])) for completion in completions]

    (verdict,) = FunctionJudge(score=reward).judge([question("Hi", "Hey", "Hello!", chat=True)])
    assert verdict.probability == pytest.approx(sigmoid(-3))


def test_a_function_may_name_nothing_but_tokens() -> None:
    def overlong(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [-float(len(ids)) for ids in completion_ids]

    def alone(tokens: list[int]) -> float:
        return -float(len(tokens))

    def both(first_tokens: list[int], second_tokens: list[int]) -> bool:
        return len(first_tokens) < len(second_tokens)

    for judge in (FunctionJudge(score=overlong), FunctionJudge(score=alone), FunctionJudge(call=both)):
        assert [v.prefers_first for v in judge.judge([SUM, CAPITAL])] == [True, True]


@pytest.mark.parametrize("name", ["answer", "answers"])
def test_a_reward_function_of_mlx_lm_lora(name: str) -> None:
    """Its data sets have columns `answer` and `type`; the parameters are named in either number."""
    seen: list[Any] = []
    source = (
        f"def reward(prompts, completions, {name}, types=None):\n    return check(completions, {name}, types)"
    )

    def check(completions: list[str], right: list[str], types: list[str]) -> list[float]:
        seen.append(types)
        return [2.0 if a == b else 0.0 for a, b in zip(completions, right, strict=True)]

    made: dict[str, Any] = {"check": check}
    exec(source, made)
    verdicts = FunctionJudge(score=made["reward"]).judge([SUM, CAPITAL])
    assert [v.prefers_first for v in verdicts] == [True, False]
    assert seen == [["sum", "sum", "fact", "fact"]]


def test_none_says_that_a_function_does_not_apply() -> None:
    def reward(completions: list[str], type: list[str]) -> list[float | None]:
        return [None if kind == "fact" else float(len(c)) for c, kind in zip(completions, type, strict=True)]

    first, second = FunctionJudge(score=reward).judge([SUM, CAPITAL])
    assert first.prefers_first is False
    assert second.status == "abstained"
    assert second.reason == "reward does not apply"


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ([1.0, 2.0, 3.0], "ValueError: it returned 3 values for 4 completions"),
        (1.0, "TypeError: it returned 1.0 (float), not a list with a value for each of 4 completions"),
        (None, "TypeError: it returned None (NoneType), not a list with a value for each of 4 completions"),
    ],
)
def test_a_wrong_number_of_rewards_is_an_error_for_the_whole_batch(returned: Any, reason: str) -> None:
    verdicts = FunctionJudge(score=lambda completions: returned).judge([SUM, CAPITAL])
    assert verdicts == [Verdict.error(f"the judge function failed: {reason}")] * 2


def test_a_batch_that_raises_fails_and_a_bad_reward_fails_its_pair() -> None:
    def fail(completions: list[str]) -> list[float]:
        raise RuntimeError("no")

    assert [v.status for v in FunctionJudge(score=fail).judge([SUM, CAPITAL])] == ["error"] * 2
    array = FunctionJudge(score=lambda completions: np.array([1, 0, math.nan, 1])).judge([SUM, CAPITAL])
    assert [v.status for v in array] == ["ok", "error"]


class Longer:
    """A pairwise judge in TRL's form; it cannot tell where both are equally long."""

    def judge(
        self, prompts: list[str], completions: list[list[str]], shuffle_order: bool = True
    ) -> list[int]:
        assert len(prompts) == len(completions)
        return [-1 if len(a) == len(b) else int(len(b) > len(a)) for a, b in completions]


@pytest.mark.parametrize("given", [Longer(), Longer, Longer().judge])
def test_a_pairwise_judge_of_trl(given: Any) -> None:
    judge = FunctionJudge(call=given)
    verdicts = judge.judge([SUM, CAPITAL, question("x", "a", "b"), question("x", "aa", "b")])
    assert [v.prefers_first for v in verdicts] == [False, False, None, True]
    assert verdicts[2] == Verdict.error("the judge function returned -1: it could not tell")
    assert not judge.symmetric
    assert judge.pairs_per_call is None


# Coroutine functions


def test_coroutines_wait_together() -> None:
    """Each goes on only once all four have begun."""
    begun: list[str] = []

    async def score(prompt: str, completion: str) -> float:
        begun.append(completion)
        while len(begun) < 4:
            await asyncio.sleep(0.001)
        if completion == "Rome":
            raise ValueError("a wrong city")
        return float(len(completion))

    judge = FunctionJudge(score=score)
    first, second = judge.judge([SUM, CAPITAL])
    assert first.probability == pytest.approx(sigmoid(-1))
    assert second == Verdict.error("the judge function failed: ValueError: a wrong city")
    assert judge.pairs_per_call is None


def test_coroutine_functions_of_batches_wait_for_each_other() -> None:
    met = asyncio.Event()

    async def waits(completions: list[str], **_: Any) -> list[float]:
        await met.wait()
        return [1.0, 0.0]

    async def comes(completions: list[str], **_: Any) -> list[float]:
        met.set()
        return [0.0, 3.0]

    (verdict,) = FunctionJudge(score=[waits, comes]).judge([SUM])
    assert verdict.probability == pytest.approx(sigmoid(-2))
    assert verdict.reason == "waits 1 and 0; comes 0 and 3"


def test_coroutines_of_one_judge_share_a_loop_and_may_be_asked_from_within_another() -> None:
    """As from a notebook, whose cells run in a loop."""
    loops = []

    async def score(prompt: str, completion: str) -> float:
        loops.append(asyncio.get_running_loop())
        return 1.0

    judge = FunctionJudge(score=score)

    async def cell() -> list[Verdict]:
        return judge.judge([SUM])

    assert asyncio.run(cell()) == [Verdict.tie()] == judge.judge([SUM])
    assert len(set(loops)) == 1


@pytest.mark.parametrize("error", [StopRun("enough"), UserError("wrong"), SystemExit(3), KeyboardInterrupt()])
def test_a_coroutine_may_stop_the_run(error: BaseException) -> None:
    async def score(prompt: str, completion: str) -> float:
        raise error

    threads = threading.active_count()
    for _ in range(2):  # the loop outlives it
        with pytest.raises(type(error)):
            FunctionJudge(score=score).judge([SUM])
    assert threading.active_count() <= threads + 1


# Several functions


def test_scores_are_added_by_their_weights() -> None:
    def right(completions: list[str], answer: list[str], **_: Any) -> list[float | None]:
        return [None if a == "4" else float(c == a) for c, a in zip(completions, answer, strict=True)]

    def brief(prompt: str, completion: str) -> float:
        return -float(len(completion))

    judge = FunctionJudge(score=(Weighted(right, 2.0), Weighted(brief, 0.5)))
    first, second = judge.judge([SUM, CAPITAL])
    assert first.probability == pytest.approx(sigmoid(0.5 * (2 - 1)))
    assert second.probability == pytest.approx(sigmoid(2.0 * (0 - 1) + 0.5 * (5 - 4)))
    assert first.reason == "right does not apply; brief -1 and -2"


def test_the_function_that_failed_is_named() -> None:
    def fine(prompt: str, completion: str) -> float:
        return 1.0

    def broken(prompt: str, completion: str) -> float:
        raise RuntimeError("oh")

    (verdict,) = FunctionJudge(score=[fine, broken]).judge([SUM])
    assert verdict == Verdict.error("the judge function broken failed: RuntimeError: oh")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: FunctionJudge(score=()), "at least one function"),
        (lambda: FunctionJudge(score=(Weighted(max, 0.0),)), "a weight that is not 0"),
        (lambda: Weighted(max, math.nan), "must be a finite number"),
    ],
)
def test_weights_are_checked(made: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


# What is found out before a run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"score": lambda text: 1.0},
            r"^score: <lambda>\(text\) cannot be called: .* has \(prompt, completion\)",
        ),
        ({"score": lambda: 1.0}, r"or names what it wants, of prompt, completion, thought"),
        (
            {"call": lambda a, b: True},
            r"^call: <lambda>\(a, b\) cannot be called: .*\(prompt, first, second\)",
        ),
        ({"score": [Weighted(lambda *a: 1.0), Weighted(lambda a: 1.0)]}, r"^score\.1: <lambda>\(a\) cannot"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FunctionJudge(**options)


def test_a_parameter_that_is_no_column_is_found_out_from_the_prompts() -> None:
    def reward(completions: list[str], solution: list[str], **_: Any) -> list[float]:
        return []

    judge = FunctionJudge(score=reward)
    judge.check_prompts([question("x", "a", "b", solution="1").prompt, SUM.prompt])  # not every row has to
    with pytest.raises(UserError) as caught:
        judge.check_prompts([question("x", "a", "b", solutoin="1", level=2).prompt])
    assert str(caught.value) == (
        "score: reward(completions, solution, **_) wants 'solution', and the prompts have no such column; "
        "they have 'solutoin', 'level'. Beside columns it can name prompts, completions, completion_ids, "
        "thoughts, messages, rows, trainer_state, log_extra, log_metric. Did you mean 'solutoin'?"
    )


def test_a_row_without_the_column_has_none() -> None:
    seen = []

    def reward(completions: list[str], answer: list[str | None]) -> list[float]:
        seen.append(answer)
        return [0.0] * len(completions)

    FunctionJudge(score=reward).judge([SUM, question("x", "a", "b")])
    assert seen == [["4", "4", None, None]]
