"""Chat messages in a row of a data set: checked, and as a judge or a person reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefloop.prompts.files import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop.types import Message

SHOWN_PROBLEMS = 5
_SURROGATE = re.compile("[\ud800-\udfff]")


class RowError(Exception):
    """Why one row cannot be used, worded to follow its place: ``has no 'prompt'``."""


def conversation(value: object, column: str) -> list[Message]:
    """The messages of a prompt, up to and including the last user turn; text is one user turn.

    Raises `RowError` where `value`, found in `column`, is no prompt.
    """
    messages = messages_of([{"role": "user", "content": value}] if isinstance(value, str) else value, column)
    turns = [i for i, message in enumerate(messages) if message["role"] == "user"]
    if not turns:
        raise RowError(f"has no user message in its '{column}'")
    if not messages[turns[-1]]["content"].strip():
        raise RowError(f"has an empty text as its '{column}'")
    return messages[: turns[-1] + 1]


def messages_of(value: object, column: str) -> list[Message]:
    """The messages in a list of one or more. Raises `RowError` where `value` is no such list."""
    if not isinstance(value, list):
        raise RowError(f"has {describe(value)} as its '{column}', not text or a list of messages")
    if not value:
        raise RowError(f"has an empty list as its '{column}'")
    return [_message(m, f"message {i} of its '{column}'") for i, m in enumerate(value, 1)]


def _message(value: object, where: str) -> Message:
    """A message without its null keys, which tables add to give all rows the same shape."""
    if not isinstance(value, Mapping):
        raise RowError(f"has {describe(value)} as {where}, not an object with 'role' and 'content'")
    for key in ("role", "content"):
        if key not in value:
            raise RowError(f"has no '{key}' in {where}")
        if not isinstance(value[key], str):
            raise RowError(f"has {describe(value[key])} as '{key}' in {where}, not text")
    check_text(value["content"], where)
    return {key: part for key, part in value.items() if part is not None}


def check_text(text: str, where: str) -> None:
    """Raises `RowError` for a lone surrogate, which no tokenizer encodes."""
    if _SURROGATE.search(text):
        raise RowError(f"has half a character (a lone surrogate) in {where}")


def transcript(messages: Sequence[Message]) -> str:
    """What a judge reads: one turn as it is, several with their speakers, never the system message."""
    turns = [m for m in messages if m["role"] != "system"]
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in turns)


def first_few(problems: list[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - SHOWN_PROBLEMS
    return problems if more <= 0 else [*problems[:SHOWN_PROBLEMS], f"… and {more} more"]
