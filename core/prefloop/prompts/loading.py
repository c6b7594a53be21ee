"""Prompts: rows of a data set, checked, put through the chat template and counted in tokens.

A row holds its prompt as text or as a list of chat messages. What the policy reads and what a judge
reads both come from here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from prefloop.errors import UserError
from prefloop.prompts.conversations import RowError, conversation, first_few, transcript
from prefloop.prompts.order import PromptOrder, split_held_out
from prefloop.prompts.sources import guess, read_rows
from prefloop.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop.prompts.files import Row
    from prefloop.prompts.sources import Rows
    from prefloop.settings import PromptsConfig
    from prefloop.types import Message

__all__ = ["PromptOrder", "PromptSet", "load_prompts", "split_held_out"]

COLUMNS = ("prompt", "messages")


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


def load_prompts(config: PromptsConfig, tokenizer: Any, *, keep: Sequence[str] = ()) -> PromptSet:
    """Read the prompts that `config` names, as the `tokenizer` (mlx-lm's wrapper) encodes them.

    The prompt is the column ``config.column``, else ``prompt``, else ``messages``: text, which becomes
    one user turn, or chat messages up to and including the last user turn (an answer after it is
    dropped). ``config.system`` goes in front of rows that have no system message of their own. The
    other columns end up in `Prompt.fields`; those named in `keep` must be there in every row.
    ``config.limit`` counts rows, before any is dropped.

    A prompt of more than ``config.max_length`` tokens is dropped, or keeps its last ``max_length``
    tokens; its `text` stays whole either way, so a judge reads what the policy saw only the end of.

    Raises `UserError` where nothing is found or left, and for bad rows, the first few together.
    """
    found = read_rows(config)
    column = _column(found, config)
    _check_kept(found, column, keep)
    prompts: list[Prompt] = []
    problems: list[str] = []
    for row in found.rows:
        try:
            prompts.append(_prompt(row, found.name, column, config, tokenizer, keep))
        except RowError as bad:
            problems.append(f"{found.label}{row.place} {bad}")
    if problems:
        raise UserError(*first_few(problems))
    return _fit(prompts, config)


def _columns(found: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in found.rows for name in row.values))


def _column(found: Rows, config: PromptsConfig) -> str:
    wanted = COLUMNS if config.column is None else (config.column,)
    columns = _columns(found)
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


def _check_kept(found: Rows, column: str, keep: Sequence[str]) -> None:
    columns = _columns(found)
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
    if row.problem:
        raise RowError(row.problem)
    for needed in (column, *keep):
        if needed not in row.values:
            raise RowError(f"has no '{needed}'")
    messages = conversation(row.values[column], column)
    if config.system is not None and all(m["role"] != "system" for m in messages):
        messages = [{"role": "system", "content": config.system}, *messages]
    return Prompt(
        tokens=_encode(messages, config, tokenizer),
        text=transcript(messages),
        messages=tuple(messages),
        id=name + row.place,
        fields={key: _json_like(value) for key, value in row.values.items() if key != column},
    )


def _encode(messages: Sequence[Message], config: PromptsConfig, tokenizer: Any) -> tuple[int, ...]:
    """Through the chat template, or, where the model has none, as plain text after the system's."""
    if not tokenizer.has_chat_template:
        system = [str(m["content"]) for m in messages if m["role"] == "system"]
        return tuple(tokenizer.encode("\n\n".join([*system, transcript(messages)])))
    try:
        # Left out, enable_thinking would be true for every model that can think.
        tokens = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, enable_thinking=config.thinking
        )
    except Exception as error:  # a template is a program that came with the model
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RowError(f"is refused by the model's chat template: {reason}") from error
    return tuple(tokens)


def _json_like(value: object) -> Any:
    """The value as JSON can hold it; dates and the like become text."""
    if isinstance(value, Mapping):
        return {str(key): _json_like(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_json_like(part) for part in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _fit(prompts: list[Prompt], config: PromptsConfig) -> PromptSet:
    limit = config.max_length
    long = sum(len(p.tokens) > limit for p in prompts)
    if config.too_long == "truncate_left":
        cut = tuple(evolve(p, tokens=p.tokens[-limit:]) for p in prompts)
        return PromptSet(cut, dropped=0, cut=long, source=config.path)
    if long == len(prompts):
        raise UserError(
            f"{config.path}: all {long} prompts are longer than prompts.max_length, {limit} tokens; the "
            f"shortest has {min(len(p.tokens) for p in prompts)}. Raise it, or set prompts.too_long: "
            "truncate_left."
        )
    kept = tuple(p for p in prompts if len(p.tokens) <= limit)
    return PromptSet(kept, dropped=long, cut=0, source=config.path)
