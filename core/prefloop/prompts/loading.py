"""Prompts: rows of a data set, checked, put through the chat template and counted in tokens.

A row holds its prompt as text or as a list of chat messages. What the policy reads and what a judge
reads both come from here, so that they cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve, frozen

from prefloop.errors import UserError, first_few, guess
from prefloop.prompts.chat import TOOLS, encode_prompt, tools_in, transcript
from prefloop.prompts.rows import read_rows, type_in_words
from prefloop.text import SURROGATE
from prefloop.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefloop.prompts.rows import Row, RowSet
    from prefloop.settings import PromptsConfig
    from prefloop.types import Message

T = TypeVar("T")
COLUMNS = ("prompt", "messages")
ASKING = ("user", "tool")
"""The roles of turns that the policy answers."""


class RowError(Exception):
    """Why one row cannot be used, worded to follow its place: ``has no 'prompt'``."""


@frozen
class PromptSet:
    """The prompts of a run, and what became of those that were too long."""

    prompts: tuple[Prompt, ...]
    dropped: int
    """Prompts left out for being longer than ``max_length`` tokens (``too_long: drop``)."""
    cut: int
    """Prompts that lost tokens on the left for that reason (``too_long: truncate_left``)."""
    source: str
    """The path, folder or Hub id as it was configured."""
    lengths: tuple[int, ...] = ()
    """The tokens of every prompt as it was read, those that were left out too."""


def load_prompts(config: PromptsConfig, tokenizer: Any, *, keep: Sequence[str] = ()) -> PromptSet:
    """Read the prompts that `config` names, as the `tokenizer` (mlx-lm's wrapper) encodes them.

    The prompt is the column ``config.column``, else ``prompt``, else ``messages``: text, which becomes
    one user turn, or chat messages up to and including the last turn of the user or of a tool (an answer
    after it is dropped). ``config.system`` goes in front of rows that have no system message of their own,
    and the chat template gets the tools in a column ``tools``. The other columns end up in `Prompt.fields`;
    those named in `keep` must be there in every row. ``config.limit`` counts rows, before any is dropped.

    A prompt of more than ``config.max_length`` tokens is dropped, or keeps its last ``max_length``
    tokens; its `text` stays whole either way, so a judge reads what the policy saw only the end of.

    Raises `UserError` where nothing is found or left, and for bad rows, the first few together.
    """
    found = read_rows(config)
    columns = list(dict.fromkeys(name for row in found.rows for name in row.values))
    column = _column(found, columns, config)
    _check_kept(found, columns, column, keep)
    prompts = each_row(found, lambda row: _prompt(row, found.name, column, config, tokenizer, keep))
    return _fit(prompts, config)


def _column(found: RowSet, columns: list[str], config: PromptsConfig) -> str:
    wanted = COLUMNS if config.column is None else (config.column,)
    present = [name for name in wanted if name in columns]
    if present or all(row.problem for row in found.rows):
        return (present or wanted)[0]
    missing = " or ".join(f"'{name}'" for name in wanted)
    message = f"{found.label} has no column {missing}; {_what_is_there(wanted, columns)}"
    if config.column is None:
        message += " Name the column that holds the prompts in prompts.column."
    if found.label.lower().endswith((".csv", ".tsv")):
        message += " The first line of such a file names its columns."
    raise UserError(message)


def _check_kept(found: RowSet, columns: list[str], column: str, keep: Sequence[str]) -> None:
    missing = [name for name in keep if name not in columns]
    if columns and missing:
        raise UserError(
            f"{found.label} has no column '{missing[0]}', which this run reads beside '{column}'; "
            + _what_is_there(missing, columns)
        )


def _what_is_there(wanted: Sequence[str], columns: list[str]) -> str:
    hint = next(filter(None, (guess(name, columns) for name in wanted)), "")
    return f"it has {', '.join(repr(name) for name in columns) or 'none'}.{hint}"


def _prompt(
    row: Row, name: str, column: str, config: PromptsConfig, tokenizer: Any, keep: Sequence[str]
) -> Prompt:
    for needed in (column, *keep):
        if needed not in row.values:
            raise RowError(f"has no '{needed}'")
    messages = conversation(row.values[column], column)
    if config.system is not None and all(m["role"] != "system" for m in messages):
        messages = [{"role": "system", "content": config.system}, *messages]
    fields = {key: _json_like(value) for key, value in row.values.items() if key != column}
    if tools := _tools(fields.get(TOOLS), strict=isinstance(row.values[column], list)):
        fields[TOOLS] = tools
    return Prompt(
        tokens=_encode(messages, tools, config, tokenizer),
        text=transcript(messages),
        messages=tuple(messages),
        id=name + row.place,
        fields=fields,
        conversational=not isinstance(row.values[column], str),
    )


def _encode(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], config: PromptsConfig, tokenizer: Any
) -> tuple[int, ...]:
    try:
        return encode_prompt(tokenizer, messages, thinking=config.thinking, tools=tools)
    except ValueError as error:
        raise RowError(f"does not go through the model's chat template: {error}") from error


def _json_like(value: object) -> Any:
    """The value as JSON can hold it; dates and the like become text."""
    if isinstance(value, Mapping):
        return {str(key): _json_like(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_json_like(part) for part in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _fit(prompts: list[Prompt], config: PromptsConfig) -> PromptSet:
    limit, lengths = config.max_length, tuple(len(prompt.tokens) for prompt in prompts)
    long = sum(length > limit for length in lengths)
    if config.too_long == "truncate_left":
        cut = tuple(evolve(p, tokens=p.tokens[-limit:]) for p in prompts)
        return PromptSet(cut, dropped=0, cut=long, source=config.path, lengths=lengths)
    if long == len(prompts):
        raise UserError(
            f"{config.path}: all {long} prompts are longer than prompts.max_length, {limit} tokens; the "
            f"shortest has {min(lengths)}. Raise it, or set prompts.too_long: truncate_left."
        )
    kept = tuple(prompt for prompt in prompts if len(prompt.tokens) <= limit)
    return PromptSet(kept, dropped=long, cut=0, source=config.path, lengths=lengths)


def conversation(value: object, column: str) -> list[Message]:
    """The messages of a prompt, up to and including the last turn of the user or of a tool; text is one user
    turn.

    Raises `RowError` where `value`, found in `column`, is no prompt.
    """
    messages = messages_of([{"role": "user", "content": value}] if isinstance(value, str) else value, column)
    turns = [i for i, message in enumerate(messages) if message["role"] in ASKING]
    if all(messages[i]["role"] != "user" for i in turns):
        raise RowError(f"has no user message in its '{column}'")
    last = messages[turns[-1]]
    if last["role"] == "user" and not last["content"].strip():
        raise RowError(f"has an empty text as its '{column}'")
    return messages[: turns[-1] + 1]


def messages_of(value: object, column: str) -> list[Message]:
    """The messages in a list of one or more. Raises `RowError` where `value` is no such list."""
    if not isinstance(value, list):
        raise RowError(f"has {type_in_words(value)} as its '{column}', not text or a list of messages")
    if not value:
        raise RowError(f"has an empty list as its '{column}'")
    return [_message(m, f"message {i} of its '{column}'") for i, m in enumerate(value, 1)]


def _message(value: object, where: str) -> Message:
    """A message without its null keys, which tables add to give all rows the same shape.

    Its content is text: parts are joined, and that of a turn which calls tools may be left out.
    """
    if not isinstance(value, Mapping):
        raise RowError(f"has {type_in_words(value)} as {where}, not an object with 'role' and 'content'")
    calls = value.get("tool_calls")
    given = {"content": None, **value} if calls else value
    for key in ("role", "content"):
        if key not in given:
            raise RowError(f"has no '{key}' in {where}")
    content = given["content"]
    if isinstance(content, list):
        content = "".join(_text_part(part, where) for part in content)
    elif content is None and calls:
        content = ""
    for key, part in (("role", given["role"]), ("content", content)):
        if not isinstance(part, str):
            raise RowError(f"has {type_in_words(part)} as '{key}' in {where}, not text")
    check_text(content, where)
    message = {**value, "content": content}
    if calls:
        message["tool_calls"] = _tool_calls(calls, where)
    return {key: part for key, part in message.items() if part is not None}


def _text_part(part: object, where: str) -> str:
    """The text of a part of a message. Raises `RowError` for a part that is none, such as a picture."""
    if not isinstance(part, Mapping):
        raise RowError(
            f"has {type_in_words(part)} as a part of {where}, not an object with 'type' and 'text'"
        )
    if part.get("type") != "text":
        raise RowError(f"has a part of type {part.get('type')!r} in {where}: only parts of text are read")
    if not isinstance(part.get("text"), str):
        raise RowError(f"has a part without its 'text' in {where}")
    return str(part["text"])


def _tool_calls(calls: object, where: str) -> list[dict[str, Any]]:
    """Calls of tools with their arguments as objects, as chat templates take them. Raises `RowError`."""
    wrong = RowError(f"has 'tool_calls' in {where} that are not a list of calls of functions")
    if not isinstance(calls, list):
        raise wrong
    found = []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise wrong
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except ValueError as error:
                raise RowError(f"has 'arguments' of a tool call in {where} that are no JSON") from error
        found.append({**call, "function": {**function, "arguments": arguments or {}}})
    return found


def _tools(value: object, *, strict: bool) -> list[Mapping[str, Any]]:
    """The tools in a row's column ``tools``, a list or the JSON of one; none where it holds something else.

    Raises `RowError` for that where it is `strict`, as beside messages.
    """
    if isinstance(value, str) and value.strip():
        with suppress(ValueError):
            value = json.loads(value)
    if value and strict and not tools_in({TOOLS: value}):
        raise RowError(f"has {type_in_words(value)} as its '{TOOLS}', not a list of descriptions of tools")
    return tools_in({TOOLS: value})


def check_text(text: str, where: str) -> None:
    """Raises `RowError` for a lone surrogate, which no tokenizer encodes."""
    if SURROGATE.search(text):
        raise RowError(f"has half a character (a lone surrogate) in {where}")


def each_row(found: RowSet, read: Callable[[Row], T]) -> list[T]:
    """What `read` makes of every row. Raises `UserError` for those that it or their file refuses, the first
    few together.
    """
    made: list[T] = []
    problems: list[str] = []
    for row in found.rows:
        try:
            if row.problem:
                raise RowError(row.problem)
            made.append(read(row))
        except RowError as bad:
            problems.append(f"{found.label}{row.place} {bad}")
    if problems:
        raise UserError(*first_few(problems))
    return made
