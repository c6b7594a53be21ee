"""What there is for a function of somebody's own to be called with, by the names that it may have for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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


Values = Callable[[Sequence[Question]], dict[str, Any]]
"""All that there is, by name, for one question or, in a batch, for several."""


@frozen
class Offer:
    """What functions of one form get."""

    what: str
    by_place: tuple[str, ...]
    """What one gets by position that has other names for it."""
    answers: tuple[frozenset[str], ...]
    """What one has to name to get everything by name: all of any of these."""
    names: tuple[str, ...]
    """All that it may name, besides the columns of the data set."""
    values: Values

    def named_by(self, names: Collection[str]) -> bool:
        """Whether a function with these parameters names the answers."""
        return any(own <= {*names} for own in self.answers)


def _offer(what: str, by_place: str, answers: Sequence[str], values: Values, count: int) -> Offer:
    example = Question(Prompt((), ""), (Completion((), ""),) * count)
    named = tuple(frozenset(one.split()) for one in answers)
    return Offer(what, tuple(by_place.split()), named, tuple(values([example])), values)


ONE = _offer(
    "a function that scores an answer", "prompt completion", ["completion", "tokens", "thought"], _one, 1
)
PAIR = _offer(
    "a function that compares two answers",
    "prompt first second",
    ["first second", "first_tokens second_tokens", "first_thought second_thought"],
    _pair,
    2,
)
BATCH = _offer(
    "a function of a whole batch",
    "prompts completions",
    ["completions", "completion_ids", "thoughts"],
    _batch,
    1,
)
