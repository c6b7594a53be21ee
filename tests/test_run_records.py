"""The records of a run as JSON: bytes that runs have written, and what is made of edited ones."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from prefloop import Completion, Evaluation, Judgement, Pair, Prompt, Rate, StepMetrics, Verdict
from prefloop.prompts.loading import RowError
from prefloop.runs.files import DAMAGE, parse_line, sealed_lines
from prefloop.runs.plan import Division, Memory, Plan, plan_from_json
from prefloop.runs.records import (
    JudgeIdentity,
    evaluation_from_json,
    evaluation_from_state,
    evaluation_to_json,
    evaluation_to_state,
    judgement_from_json,
    judgement_to_json,
    latest,
    metrics_from_json,
    metrics_to_json,
)

JUDGED = (
    '{"step": 3, "evaluation": true, "seconds": 0.25, "judge": "prefloop:rule", "judge_version": "0.1.0", '
    '"judge_options": "abc", "prompt_id": "p.jsonl:1", "prompt": [{"role": "user", "content": "Hi"}], '
    '"first": {"text": "Moo.", "tokens": [5, 6], "stopped": false, "source": "reference"}, '
    '"second": {"text": "Wöof", "tokens": [7], "stopped": true, "source": "policy"}, '
    '"probability": 0.75, "status": "ok", "orders": [0.9, 0.6], "reason": "short", "crc": "6baf9840"}'
)
FAILED = (
    '{"step": 4, "seconds": 0.5, "judge": "prefloop:rule", "judge_version": "0.1.0", '
    '"judge_options": "abc", "prompt_id": "", "prompt": "Hi", '
    '"first": {"text": "Moo.", "tokens": [5, 6], "stopped": false, "source": "reference"}, '
    '"second": {"text": "Wöof", "tokens": [7], "stopped": true, "source": "policy"}, '
    '"probability": 0.5, "status": "error", "orders": null, "reason": "x", "crc": "9e1bd6e0"}'
)
EVALUATION = (
    '{"step": 2, "judge": "prefloop:rule", "against": "start", '
    '"win_rate": {"rate": 0.5, "low": 0.25, "high": 0.75, "pairs": 1}, "metrics": {"kl": null, "ties": 0.0}, '
    '"pairs": [{"prompt": "Hi", "prompt_id": "p.jsonl:1", '
    '"ours": {"text": "Moo.", "tokens": 2, "stopped": false}, '
    '"theirs": {"text": "Wöof", "tokens": 1, "stopped": true}, '
    '"probability": 0.75, "status": "ok", "orders": null, "reason": null}]}'
)
STATE = (
    '{"step": 2, "win_rate": {"rate": 0.5, "low": 0.25, "high": 0.75, "pairs": 1}, '
    '"metrics": {"kl": null, "ties": 0.0}, "examples": [["Hi", "Moo.", "Wöof"]]}'
)
"""All four as version 0.1 wrote them."""

MESSAGES = ({"role": "user", "content": "Hi"},)
FIRST, SECOND = Completion((5, 6), "Moo.", False, "reference"), Completion((7,), "Wöof")
JUDGE = JudgeIdentity("prefloop:rule", "0.1.0", "abc")


@pytest.mark.parametrize("line", [JUDGED, FAILED])
def test_a_line_of_a_ledger_is_written_as_it_was_read(line: str) -> None:
    judgement = judgement_from_json(parse_line(line.encode()))
    assert sealed_lines([judgement_to_json(judgement)]).decode() == line + "\n"


def test_a_line_of_a_ledger_holds_the_pair_the_verdict_and_the_judge() -> None:
    first, second = (judgement_from_json(parse_line(line.encode())) for line in (JUDGED, FAILED))
    pair = Pair(Prompt((), "Hi", MESSAGES, "p.jsonl:1"), FIRST, SECOND)
    assert first == Judgement(3, pair, Verdict(0.75, "ok", "short", (0.9, 0.6)), JUDGE, True, 0.25)
    assert (second.pair.prompt, second.evaluation) == (Prompt((), "Hi"), False)
    assert second.verdict == Verdict.error("x")


def test_who_said_what_before_whom_comes_back_and_a_wrong_chance_is_refused() -> None:
    cheap = Verdict(0.8, "ok", orders=(0.9, 0.7), by="members.0")
    verdict = Verdict(0.0, by="person", earlier=cheap, audit=0.05)
    pair = Pair(Prompt((), "Hi"), FIRST, SECOND)
    line = judgement_to_json(Judgement(3, pair, verdict, JUDGE))
    assert judgement_from_json(json.loads(json.dumps(line))).verdict == verdict
    assert line["earlier"] == {
        "probability": 0.8, "status": "ok", "orders": [0.9, 0.7], "reason": None, "by": "members.0",
    }  # fmt: skip
    assert not {"by", "earlier", "audit"} & set(judgement_to_json(Judgement(3, pair, Verdict(1.0), JUDGE)))
    for wrong in (0.0, 1.5, -1):
        with pytest.raises(ValueError, match="chance of an audit"):
            judgement_from_json({**line, "audit": wrong})


def test_a_key_is_that_of_the_question_and_not_of_the_answer() -> None:
    pair = Pair(Prompt((1, 2), "Hi", MESSAGES, "p.jsonl:1"), FIRST, SECOND)
    asked = Judgement(9, pair, Verdict.tie(), JUDGE)
    assert judgement_from_json(parse_line(JUDGED.encode())).key == asked.key
    others = [
        Judgement(9, Pair(pair.prompt, SECOND, FIRST), Verdict.tie(), JUDGE),
        Judgement(9, pair, Verdict.tie(), JudgeIdentity("prefloop:rule", "0.1.0", "xyz")),
        Judgement(9, Pair(Prompt((1, 2), "Hi", MESSAGES, "p.jsonl:2"), FIRST, SECOND), Verdict.tie(), JUDGE),
    ]
    assert len({asked.key, *(other.key for other in others)}) == 4
    assert latest([("a", 1), ("b", 2), ("a", 3)]) == [2, 3]


def test_an_evaluation_is_written_as_it_was() -> None:
    pairs = [Pair(Prompt((1,), "Hi", MESSAGES, "p.jsonl:1"), FIRST, SECOND)]
    metrics = {"kl": math.nan, "ties": 0.0}
    made = Evaluation(2, Rate(0.5, 0.25, 0.75, 1), metrics, pairs, [Verdict(0.75)], "prefloop:rule")
    assert json.dumps(evaluation_to_json(made), ensure_ascii=False) == EVALUATION
    assert json.dumps(evaluation_to_state(made), ensure_ascii=False) == STATE
    read, state = evaluation_from_json(json.loads(EVALUATION)), evaluation_from_state(json.loads(STATE))
    for found in (read, state):
        assert (found.step, found.win_rate, found.metrics["ties"]) == (2, made.win_rate, 0.0)
        assert math.isnan(found.metrics["kl"])
        assert [(p.prompt.text, p.first.text, p.second.text) for p in found.pairs] == [("Hi", "Moo.", "Wöof")]
    assert (read.verdicts, read.judge, read.against) == ((Verdict(0.75),), "prefloop:rule", "start")
    assert (read.pairs[0].first.stopped, read.pairs[0].prompt.id) == (False, "p.jsonl:1")


def test_metrics_are_those_of_a_step_or_an_evaluation() -> None:
    step = metrics_from_json({"step": 1, "loss": 0.5, "kl": None, "note": "x", "flag": True})
    assert isinstance(step, StepMetrics)
    assert (step.step, list(step.metrics), step.metrics["loss"]) == (1, ["loss", "kl"], 0.5)
    assert metrics_to_json(step) == {"step": 1, "loss": 0.5, "kl": None}
    line = {"step": 2, "evaluation": {"win_rate": json.loads(STATE)["win_rate"], "kl": None, "ties": 0.0}}
    found = metrics_from_json(line)
    assert isinstance(found, Evaluation)
    assert (found.step, found.win_rate, found.pairs) == (2, Rate(0.5, 0.25, 0.75, 1), ())
    assert metrics_to_json(found) == line


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": "won"}, "has the status 'won', which is none of ok, tie, abstained, error"),
        ({"probability": True}, "has true or false as its 'probability', not a number"),
        ({"probability": math.nan}, "is not a judgement: a verdict's probability lies between 0 and 1"),
        ({"orders": [2, 0]}, "is not a judgement: a verdict's probability lies between 0 and 1"),
        ({"first": {}}, "has no object with a 'text' as its 'first'"),
        ({"second": {"text": "a", "source": "thin air"}}, "has the source 'thin air' of its 'second'"),
        ({"prompt": 3}, "has a number as its 'prompt'"),
        ({"prompt": [{"role": "user"}]}, "has no 'content' in message 1 of its 'prompt'"),
    ],
)
def test_what_is_wrong_with_an_edited_line_is_said(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(RowError, match=problem):
        judgement_from_json({**json.loads(JUDGED), **change})


@pytest.mark.parametrize("record", [None, [], {}, {"step": 1}, {"step": "x", "win_rate": 0}, {"step": 1e400}])
def test_nothing_else_is_raised_for_what_is_no_record(record: Any) -> None:
    for read in (judgement_from_json, metrics_from_json, evaluation_from_json):
        if read is metrics_from_json and record == {"step": 1}:
            continue
        with pytest.raises(DAMAGE):
            read(record)


PLAN = Plan(100, 10, 2, 50, 5, 0, 0, 8, 4, 0.64, 12, 160, Division(4, 1000), Memory(1, 2, 3, 4, 5, 6))


def test_a_plan_is_read_from_what_is_known_of_it() -> None:
    from attrs import asdict

    found = asdict(PLAN)
    del found["memory"]["update"]  # an earlier version had none
    assert plan_from_json({**found, "of a later version": 1}) == PLAN


@pytest.mark.parametrize("found", [None, 3, {}, {"steps": 8}, {"division": None, "memory": {}}])
def test_a_plan_that_is_none_is_none(found: Any) -> None:
    assert plan_from_json(found) is None
