"""What a reply says: log-probabilities, written labels, and everything that is neither."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from fake_server import completion, likely

from prefloop_judge_openai.defuse import defuse
from prefloop_judge_openai.reading import (
    MalformedError,
    Reply,
    UnreadableError,
    label_probability,
    parse_reply,
    read,
    written_label,
)

AB = ("A", "B")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", 1.0),
        ("B", 0.0),
        (" \nB\n", 0.0),
        ("**A**", 1.0),
        ("(B).", 0.0),
        ("Answer A", 1.0),
        ("answer: B", 0.0),
        ("<think>B looks fine. B!</think>\n\nA", 1.0),
        ("thinking, opened by the template</think>B", 0.0),
        ("", None),
        ("a", None),
        ("C", None),
        ("A B", None),
        ("A or B", None),
        ("A good answer is hard to find", None),
        ("B, because A is wrong", None),
        ("Neither A nor B", None),
        ("AB", None),
        ("A\nB", None),
        ("not A", None),
        ("<think>A", None),
        ("<think>A</think>", None),
        ("\u0391", None),  # a Greek capital alpha
    ],
)
def test_a_written_label_stands_alone(text: str, expected: float | None) -> None:
    assert written_label(text, AB) == expected


def test_labels_may_be_words_or_have_signs() -> None:
    assert written_label("first", ("first", "second")) == 1.0
    assert written_label("[[2]]", ("[[1]]", "[[2]]")) == 0.0
    assert written_label("x+", ("x.", "x+")) == 0.0
    assert written_label("xy", ("x.", "x+")) is None


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (likely(A=0.6, B=0.2), 0.75),
        ({"\u0120A": 0.3, "A": 0.3, "\u2581B": 0.1, " B": 0.1}, 0.75),
        (likely(A=0.4, B=0.05), None),  # together less than half
        ({"B": 0.9, "C": 0.02}, 0.02 / 0.92),  # the label that is not listed has at most what C has
        ({"B": 0.6}, 0.4 / 1.0),  # or what is left
        ({"AA": 0.9, "B": 0.05}, None),
        (likely(C=1.0), None),
    ],
)
def test_share_of_the_first_label(top: Any, expected: float | None) -> None:
    listed = {e["token"]: e["logprob"] for e in top} if isinstance(top, list) else {}
    listed = listed or {token: math.log(p) for token, p in top.items()}
    found = label_probability(listed, AB, 0.5)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>502</html>",
        "null",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": null}',
        '{"choices": [{}]}',
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": "A"}]}',
        '{"choices": [{"message": {"content": ["A"]}}]}',
        '{"choices": [{"message": {"content": "A"',
        "[" * 100_000,
    ],
)
def test_what_is_no_chat_completion(body: str) -> None:
    with pytest.raises(MalformedError):
        parse_reply(body)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        {},
        {"content": None},
        {"content": []},
        {"content": [{}]},
        {"content": [{"token": "A", "logprob": -0.1}]},
        {"content": [{"top_logprobs": []}]},
        {"content": [{"top_logprobs": [{"token": "A"}]}]},
        {"content": [{"top_logprobs": [{"token": 1, "logprob": -1.0}]}]},
        {"content": [{"top_logprobs": [{"token": "A", "logprob": "-1"}]}]},
        {"content": [{"top_logprobs": [{"token": "A", "logprob": math.nan}]}]},
        {"content": [{"top_logprobs": [{"token": "A", "logprob": 3.0}]}]},
        {"content": [{"top_logprobs": likely(A=0.9, B=0.9)}]},
    ],
)
def test_log_probabilities_that_are_none_leave_the_reply(logprobs: Any) -> None:
    choice = {"message": {"content": "B"}, "logprobs": logprobs}
    reply = parse_reply(json.dumps({"choices": [choice]}))
    assert reply == Reply("B")
    assert read(reply, AB, "auto", 0.5) == 0.0
    with pytest.raises(UnreadableError, match="the server gave no log-probabilities"):
        read(reply, AB, "logprobs", 0.5)


def test_blank_tokens_before_the_answer_are_passed_over() -> None:
    blank, answer = {"\u010a": 0.99, "A": 0.01}, {"A": 0.1, "B": 0.9}
    positions = [
        {"top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top.items()]}
        for top in (blank, answer)
    ]
    body = {"choices": [{"message": {"content": "\nB"}, "logprobs": {"content": positions}}]}
    assert read(parse_reply(json.dumps(body)), AB, "logprobs", 0.5) == pytest.approx(0.1)


def test_a_thought_is_not_the_answer() -> None:
    # the log-probabilities are those of the thought's first token, which happens to be a label
    for reply in (
        completion("B", likely(A=0.99), reasoning_content="A seems right at first, but"),
        completion("A seems right at first, but</think>B", likely(A=0.99)),
    ):
        assert read(parse_reply(reply.body.decode()), AB, "auto", 0.5) == 0.0


def test_why_a_reply_cannot_be_read() -> None:
    with pytest.raises(UnreadableError, match="the reply 'Hm', cut by 'max_tokens', is neither A nor B"):
        read(Reply("Hm", cut=True), AB, "auto", 0.5)
    with pytest.raises(UnreadableError, match="A and B are not likely enough in the reply 'A'"):
        read(Reply("A", {"A": math.log(0.3)}), AB, "logprobs", 0.5)
    refusal = parse_reply(completion(None, refusal="I cannot compare these.").body.decode())
    with pytest.raises(UnreadableError, match=r"'I cannot compare these\.' is neither"):
        read(refusal, AB, "auto", 0.5)


def test_chat_template_tokens_are_defused_and_nothing_else() -> None:
    tokens = [
        "<|im_end|>",
        "<|start_header_id|>",
        "<\uff5cAssistant\uff5c>",
        "</s>",
        "<end_of_turn>",
        "</think>",
        "[/INST]",
        "<<SYS>>",
    ]
    for token in tokens:
        assert token not in defuse(f"a{token}{token}b")
        assert defuse(token).replace(" ", "") == token
    plain = "x < y | z > 0, <div class='s'>, a[i], <strong>, [1], <|, a<b>c, == [LIST] =="
    assert defuse(plain) == plain
