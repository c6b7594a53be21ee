"""What there is for a function of somebody's own to be called with, by the names that it may have for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from prefloop import Completion, Pair, Prompt


@frozen
class Question:
    """One answer to a prompt, to be scored, or two, to be compared."""

    prompt: Prompt
    answers: tuple[Completion, ...]


def questions_of(pairs: Sequence[Pair], *, pairwise: bool) -> list[Question]:
    """One question about each pair, or two that follow each other."""
    answers = [[(pair.first, pair.second)] if pairwise else [(pair.first,), (pair.second,)] for pair in pairs]
    return [Question(pair.prompt, one) for pair, own in zip(pairs, answers, strict=True) for one in own]


def _one(questions: Sequence[Question]) -> dict[str, Any]:
    (question,) = questions
    (answer,) = question.answers
    own = {"completion": answer.text, "thought": answer.thought, "tokens": list(answer.tokens)}
    return {"prompt": question.prompt.text, **own, **_about(question.prompt)}


def _pair(questions: Sequence[Question]) -> dict[str, Any]:
    (question,) = questions
    first, second = question.answers
    texts = {"first": first.text, "second": second.text}
    thoughts = {"first_thought": first.thought, "second_thought": second.thought}
    tokens = {"first_tokens": list(first.tokens), "second_tokens": list(second.tokens)}
    return {"prompt": question.prompt.text, **texts, **thoughts, **tokens, **_about(question.prompt)}


def _about(prompt: Prompt) -> dict[str, Any]:
    return {"messages": [dict(message) for message in prompt.messages], "row": dict(prompt.fields)}


def _batch(questions: Sequence[Question]) -> dict[str, Any]:
    """As TRL's trainers do: a conversation is one where its row holds one, and the answer is then a message.
    Two answers that are to be compared are texts."""
    prompts = [question.prompt for question in questions]
    chats = [q.prompt.conversational and len(q.answers) == 1 for q in questions]
    conversations = [[dict(message) for message in prompt.messages] for prompt in prompts]
    asked = zip(prompts, conversations, chats, strict=True)
    return {
        "prompts": [messages if chat else prompt.text for prompt, messages, chat in asked],
        "completions": [_said(q.answers, chat) for q, chat in zip(questions, chats, strict=True)],
        "completion_ids": [_alone([list(a.tokens) for a in q.answers]) for q in questions],
        "thoughts": [_alone([a.thought for a in q.answers]) for q in questions],
        "messages": conversations,
        "rows": [dict(prompt.fields) for prompt in prompts],
        **_TRAINER,
    }


def _said(answers: tuple[Completion, ...], chat: bool) -> Any:
    return [{"role": "assistant", "content": answers[0].text}] if chat else _alone([a.text for a in answers])


def _alone(values: list[Any]) -> Any:
    """The one value, or both."""
    return values[0] if len(values) == 1 else values


def _log(*_: Any, **__: Any) -> None:
    """A function may write to the logs of TRL's trainer, which there are none of here."""


_TRAINER: Mapping[str, Any] = {"trainer_state": None, "log_extra": _log, "log_metric": _log}
"""What TRL's trainers offer besides."""


@frozen
class Offer:
    """What functions of one form get."""

    what: str
    by_place: tuple[str, ...]
    """What one gets by position that has other names for it."""
    answers: tuple[str, ...]
    """What one has to name to get everything by name."""
    names: tuple[str, ...]
    """All that it may name, besides the columns of the data set."""
    values: Callable[[Sequence[Question]], dict[str, Any]]


_EMPTY = Completion((), "")
_NOBODY = Prompt((), "")
ONE, PAIR, BATCH = (
    Offer(what, by_place, answers, tuple(values([Question(_NOBODY, (_EMPTY,) * count)])), values)
    for what, by_place, answers, count, values in (
        ("a function that scores an answer", ("prompt", "completion"), ("completion",), 1, _one),
        (
            "a function that compares two answers",
            ("prompt", "first", "second"),
            ("first", "second"),
            2,
            _pair,
        ),
        ("a function of a whole batch", ("prompts", "completions"), ("completions",), 1, _batch),
    )
)
