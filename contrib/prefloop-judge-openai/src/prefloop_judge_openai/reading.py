"""From the body of a server's reply to the probability of the first label; never a guess.

The likelihood of the labels is read where the reply has it, and the written answer otherwise. What is
neither is `UnreadableError`, and what is no chat completion at all is `MalformedError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import frozen

Read = Literal["auto", "logprobs", "reply"]
Labels = tuple[str, str]

_WORD_START = "\u0120\u2581"  # how byte-level and SentencePiece vocabularies spell a leading space
_LINE_END = "\u010a"
_THOUGHT = re.compile(r"<think>.*?</think>|^.*?</think>", re.DOTALL)
_ROUNDING = (
    0.1  # a server that computes in half precision gives probabilities that exceed one by a few percent
)


class MalformedError(Exception):
    """The body is no chat completion."""


class UnreadableError(Exception):
    """The reply is a chat completion, but says neither label."""


@frozen
class Reply:
    """What of a chat completion matters here."""

    text: str
    top: Mapping[str, float] | None = None
    """Token and log-probability (nats) of the likeliest first answer tokens, where the server told."""
    tokens: int | None = None
    """Prompt and completion together, as the server counted them."""
    cut: bool = False
    """Whether `max_tokens` ended it."""


def parse_reply(body: str) -> Reply:
    """The first choice of a chat completion. Raises `MalformedError` where `body` is none."""
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        thought = message.get("reasoning_content") or message.get("reasoning")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedError from error
    if not isinstance(text, str):
        raise MalformedError
    top = None if thought or "</think>" in text else _first_token(choice.get("logprobs"))
    return Reply(text, top, _total_tokens(data.get("usage")), choice.get("finish_reason") == "length")


def read(reply: Reply, labels: Labels, how: Read, min_mass: float) -> float:
    """``P(first label) / (P(first label) + P(second label))``; 0 or 1 where only the reply's text says it.

    Raises `UnreadableError` where the reply does not tell.
    """
    probability = None if how == "reply" else label_probability(reply.top, labels, min_mass)
    if probability is None and how != "logprobs":
        probability = written_label(reply.text, labels)
    if probability is not None:
        return probability
    raise UnreadableError(_why(reply, labels, how))


def label_probability(top: Mapping[str, float] | None, labels: Labels, min_mass: float) -> float | None:
    """The first label's share among the two, or None where both together have less than `min_mass`.

    A label that is not among the likeliest tokens gets the most that it can have: what the least of them
    has, or what all of them leave.
    """
    if top is None:
        return None
    found = [_mass_of(label, top) for label in labels]
    listed = [math.exp(logprob) for logprob in top.values()]
    if sum(found) < min_mass or sum(found) == 0.0:
        return None
    unlisted = min(*listed, max(0.0, 1.0 - sum(listed)), *(p for p in found if p > 0))
    first, second = (p or unlisted for p in found)
    return first / (first + second)


def written_label(text: str, labels: Labels) -> float | None:
    """1.0 for the first label, 0.0 for the second, None for anything but one label and its wrapping."""
    answer = _THOUGHT.sub("", text, count=1).strip()
    for label, probability in zip(labels, (1.0, 0.0), strict=True):
        pattern = rf"(?:[Aa]nswer\s*:?\s*)?[*_`\"'(\[]*(?:[Aa]nswer\s+)?{re.escape(label)}[*_`\"')\].]*"
        if re.fullmatch(pattern, answer):
            return probability
    return None


def shown(text: str, limit: int = 80) -> str:
    """`text` as a message shows it: quoted, on one line and not long."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def _mass_of(label: str, top: Mapping[str, float]) -> float:
    return sum(math.exp(logprob) for token, logprob in top.items() if _plain(token) == label)


def _plain(token: str) -> str:
    return token.lstrip(_WORD_START).strip()


def _first_token(logprobs: Any) -> Mapping[str, float] | None:
    """The likeliest tokens where the answer begins, past blank ones; None where that is not to be had."""
    try:
        positions = [_candidates(position["top_logprobs"]) for position in logprobs["content"]]
    except (LookupError, TypeError, ValueError):
        return None
    for top in positions:
        if not top:
            return None
        if _plain(max(top, key=top.__getitem__)).strip(_LINE_END):
            return top
    return None


def _candidates(listed: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Token to log-probability. Raises `ValueError` where these are not probabilities."""
    top: dict[str, float] = {}
    for entry in listed:
        token, logprob = entry["token"], entry["logprob"]
        if not isinstance(token, str) or isinstance(logprob, bool) or not logprob < math.inf:
            raise ValueError("a log-probability that is none")
        top[token] = max(logprob, top.get(token, -math.inf))
    if sum(math.exp(min(logprob, 1.0)) for logprob in top.values()) > 1.0 + _ROUNDING:
        raise ValueError("probabilities that exceed one")
    return top


def _total_tokens(usage: Any) -> int | None:
    total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return total if type(total) is int and total >= 0 else None


def _why(reply: Reply, labels: Labels, how: Read) -> str:
    if how == "logprobs" and reply.top is None:
        return "the server gave no log-probabilities for the answer"
    if how == "logprobs":
        return f"{labels[0]} and {labels[1]} are not likely enough in the reply {shown(reply.text)}"
    cut = ", cut by 'max_tokens'," if reply.cut else ""
    return f"the reply {shown(reply.text)}{cut} is neither {labels[0]} nor {labels[1]}"
