"""Conversations as the token ids that a model reads and writes, through its chat template."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefloop.beginning import dated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefloop.sampling.stops import Stops
    from prefloop.types import Message, Prompt


TOOLS = "tools"
"""The column with the tools that a conversation may call."""


def encode_prompt(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    thinking: bool = False,
    tools: Sequence[Mapping[str, Any]] = (),
) -> tuple[int, ...]:
    """What the model reads before it answers; `tokenizer` is mlx-lm's wrapper.

    Without a chat template that is the text of the system and then that of the others, after what the
    tokenizer puts in front of every text; nothing ends it. Raises `ValueError` where the template refuses
    the messages or tools, or leaves any of them out.
    """
    if tokenizer.has_chat_template:
        return _ids(tokenizer, _asked(tokenizer, messages, thinking, tools))
    if tools:
        raise ValueError("the model has none, and so no way to be told of tools")
    system = [str(m["content"]) for m in messages if m["role"] == "system"]
    text = "\n\n".join([*system, transcript(messages)])
    begun = tokenizer.bos_token and text.startswith(tokenizer.bos_token)
    return (*(() if begun else beginning(tokenizer)), *_ids(tokenizer, text))


def encode_answer(tokenizer: Any, prompt: Prompt, text: str, stops: Stops) -> tuple[int, ...]:
    """What the chat template writes after `prompt` for an answer, its end of turn included where that is one
    of `stops`.

    Some tokenizers write a text otherwise after a prompt than on its own. Where the template writes another
    text, such as one without the answer's thought, the answer follows the prompt as it is. A thought that the
    prompt has opened goes on with the answer's own, or is closed before an answer without one.
    """
    thoughts = (False, True) if prompt.messages and tokenizer.has_chat_template else ()
    tools = tools_in(prompt.fields)
    options = {TOOLS: tools} if tools else {}
    for thinking in thoughts:
        with suppress(ValueError):
            asked = _asked(tokenizer, prompt.messages, thinking, tools)
            before = _ids(tokenizer, asked)
            if before[-len(prompt.tokens) :] != prompt.tokens:  # of a long prompt only the end is left
                continue
            messages = [*prompt.messages, {"role": "assistant", "content": text}]
            whole = render(tokenizer, messages, enable_thinking=thinking, **options)
            after = _after(before, _ids(tokenizer, whole))
            if after and text.strip() in whole and stops.cut(after):
                return after
            if after := _after(before, _ids(tokenizer, asked + _after_thought(tokenizer, asked, text))):
                return after
    return _ids(tokenizer, text)


def end_of_turn(tokenizer: Any) -> str:
    """What the chat template writes after an answer; empty without a template."""
    if not tokenizer.has_chat_template:
        return ""
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    try:
        return render(tokenizer, turns).rpartition("answer")[2].strip()
    except ValueError:  # one that takes no such conversation says so where it is given one
        return ""


def close_thought(tokenizer: Any, asked: str) -> str:
    """`asked` with an empty thought where the template opened one, whatever ``enable_thinking`` says."""
    if not opens_thought(tokenizer, asked):
        return asked
    return f"{asked.rstrip()}\n\n{tokenizer.think_end}\n\n"


def opens_thought(tokenizer: Any, asked: str) -> bool:
    """Whether what is asked ends in a thought that the model is to go on with."""
    return bool(tokenizer.has_thinking and asked.rstrip().endswith(tokenizer.think_start))


def render(tokenizer: Any, messages: Sequence[Message], **options: Any) -> str:
    """The text that the chat template makes of `messages`, with every turn's own text in it.

    Templates of models that see pictures may take contents only as a list of parts. Raises `ValueError`
    where the template refuses the messages or leaves out the text of one.
    """
    problems = []
    in_parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    for form in ([dict(m) for m in messages], in_parts):
        try:
            text: str = tokenizer.apply_chat_template(form, tokenize=False, **options, **dated(tokenizer))
        except Exception as error:  # a template is a program that came with the model
            problems.append(next(iter(str(error).splitlines()), type(error).__name__))
            continue
        if lost := _lost(messages, text):
            problems.append(f"it leaves out {lost} turn")
        elif any(name not in text for name in _names(options.get(TOOLS, ()))):
            problems.append("it leaves out the tools")
        else:
            return text
    raise ValueError(problems[0])


def tools_in(fields: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tools in the other columns of a prompt, where the column ``tools`` is a list of objects."""
    given = fields.get(TOOLS)
    found = isinstance(given, list) and all(isinstance(tool, dict) for tool in given)
    return given if found and given is not None else []


def _names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of tools, which stand in their function, or beside its other parts."""
    functions = (inner if isinstance(inner := tool.get("function"), dict) else tool for tool in tools)
    return [name for function in functions if isinstance(name := function.get("name"), str)]


def beginning(tokenizer: Any) -> tuple[int, ...]:
    """The ids that begin every text: a chat template writes its own."""
    if tokenizer.has_chat_template:
        return ()
    whole, own = tuple(tokenizer.encode("a")), _ids(tokenizer, "a")
    before = next((k for k in range(len(whole)) if whole[k : k + len(own)] == own), 0)
    return whole[:before]


def transcript(messages: Sequence[Message]) -> str:
    """`Prompt.text`: one turn as it is, several with their speakers, never the system message."""
    turns = [m for m in messages if m["role"] != "system"]
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "\n\n".join(f"{m['role'].capitalize()}: {_with_calls(m)}" for m in turns)


def _with_calls(message: Message) -> str:
    """The text of a turn, and the tools that it calls."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    shown = (f"{call['name']}({json.dumps(call.get('arguments'), ensure_ascii=False)})" for call in calls)
    return "\n".join(filter(None, (str(message["content"]), *shown)))


def _asked(
    tokenizer: Any, messages: Sequence[Message], thinking: bool, tools: Sequence[Mapping[str, Any]] = ()
) -> str:
    # Left out, enable_thinking would be true for every model that can think.
    options = {TOOLS: list(tools)} if tools else {}
    return render(tokenizer, messages, add_generation_prompt=True, enable_thinking=thinking, **options)


def _after_thought(tokenizer: Any, asked: str, text: str) -> str:
    """`text` as it goes on after `asked`, in which a thought may be open."""
    if not opens_thought(tokenizer, asked):
        return text
    if tokenizer.think_end in text:
        return text.lstrip().removeprefix(tokenizer.think_start).lstrip("\n")
    return close_thought(tokenizer, asked)[len(asked) :] + text


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _after(before: tuple[int, ...], ids: tuple[int, ...]) -> tuple[int, ...]:
    """What follows `before` in `ids`; nothing where they do not begin with it."""
    return ids[len(before) :] if ids[: len(before)] == before else ()


def _lost(messages: Sequence[Message], text: str) -> str | None:
    """Of which turn the text is not in `text`, in words; of turns but the system's in their order.

    A template may drop earlier thoughts, move the system's words, and quote what a tool said as JSON.
    """
    place = 0
    for message in messages:
        content = str(message["content"])
        if message["role"] == "assistant":
            content = content.rpartition("</think>")[2]
        content = content.strip()
        forms = (content, json.dumps(content, ensure_ascii=False)[1:-1])
        start = 0 if message["role"] == "system" else place
        found = next(((at, form) for form in forms if (at := text.find(form, start)) >= 0), None)
        calls = (call["function"]["name"] for call in message.get("tool_calls", ()))
        if found is None:
            return f"the text of the {message['role']}"
        if any(name not in text for name in calls):
            return f"the tool calls of the {message['role']}"
        if message["role"] != "system":
            place = found[0] + len(found[1])
    return None
