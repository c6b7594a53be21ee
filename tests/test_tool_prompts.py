"""Conversations with tools, and contents in parts: read whole, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefloop import UserError
from prefloop.config import PromptsConfig
from prefloop.prompts.chat import encode_answer
from prefloop.prompts.loading import load_prompts
from prefloop.sampling.stops import Stops
from prefloop.types import Prompt
from support.tiny_tokenizer import CHATML, END, TURN, build_tokenizer

WITH_TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\\nTools: ' + (tools | tojson) + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content }}"
    "{%- for call in m.tool_calls or [] %}"
    "{{- 'CALL ' + call.function.name + ' ' + call.function.arguments.city }}"
    "{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As templates of models that call tools: arguments are an object."""
CALL = {"type": "function", "id": "1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TALK = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "How warm "}, {"type": "text", "text": "is Oslo?"}],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "4 degrees", "tool_call_id": "1"},
    {"role": "assistant", "content": "It has 4 degrees."},
]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return build_tokenizer(tmp_path / "with", chat_template=WITH_TOOLS)


def load(folder: Path, tokenizer: Any, *rows: object) -> tuple[Prompt, ...]:
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_prompts(PromptsConfig(path=str(folder / "p.jsonl")), tokenizer).prompts


def refused(folder: Path, tokenizer: Any, *rows: object) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, tokenizer, *rows)
    (problem,) = caught.value.problems
    return problem.replace(f"{folder}/", "")


def test_the_policy_answers_what_a_tool_said(tmp_path: Path, tokenizer: Any) -> None:
    (prompt,) = load(tmp_path, tokenizer, {"messages": TALK, "tools": [TOOL]})
    assert tokenizer.decode(list(prompt.tokens)) == (
        f'{TURN}system\nTools: [{{"type": "function", "function": {{"name": "weather", "parameters": '
        f'{{"type": "object"}}}}}}]{END}\n'
        f"{TURN}user\nHow warm is Oslo?{END}\n{TURN}assistant\nCALL weather Oslo{END}\n"
        f"{TURN}tool\n4 degrees{END}\n{TURN}assistant\n"
    )
    assert prompt.text == 'User: How warm is Oslo?\n\nAssistant: weather({"city": "Oslo"})\n\nTool: 4 degrees'


def test_tools_may_be_json_and_null(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"messages": TALK, "tools": tools} for tools in ([TOOL], json.dumps([TOOL]), None, [])]
    listed, written, null, none = load(tmp_path, tokenizer, *rows)
    assert listed.tokens == written.tokens
    assert null.tokens == none.tokens != listed.tokens


def test_an_answer_after_tools_is_what_the_template_writes(tmp_path: Path, tokenizer: Any) -> None:
    (prompt,) = load(tmp_path, tokenizer, {"messages": TALK, "tools": [TOOL]})
    ids = encode_answer(tokenizer, prompt, "Four.", Stops.of(tokenizer, ()))
    assert tokenizer.decode(list(ids)) == f"Four.{END}\n"


def test_another_column_called_tools_stays_one_beside_text(tmp_path: Path, tokenizer: Any) -> None:
    (prompt,) = load(tmp_path, tokenizer, {"prompt": "Hi", "tools": "hammer"})
    assert prompt.fields == {"tools": "hammer"}
    assert "hammer" not in tokenizer.decode(list(prompt.tokens))


IMAGE = {"type": "image_url", "image_url": {"url": "cow.png"}}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "What is it?"}]}]},
            "has a part of type 'image_url' in message 1 of its 'messages': only parts of text are read",
        ),
        (
            {"messages": [{"role": "user", "content": ["What?"]}]},
            "has text as a part of message 1 of its 'messages', not an object with 'type' and 'text'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "has a part without its 'text' in message 1 of its 'messages'",
        ),
        (
            {"messages": [{"role": "user", "content": "Hi"}], "tools": "hammer"},
            "has text as its 'tools', not a list of descriptions of tools",
        ),
        (
            {"messages": [*TALK[:1], {"role": "assistant", "tool_calls": [{"name": "weather"}]}, TALK[2]]},
            "has 'tool_calls' in message 2 of its 'messages' that are not a list of calls of functions",
        ),
        (
            {
                "messages": [
                    *TALK[:1],
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"function": {"name": "w", "arguments": "{city"}}],
                    },
                    TALK[2],
                ]
            },
            "has 'arguments' of a tool call in message 2 of its 'messages' that are no JSON",
        ),
        (
            {"messages": [TALK[0], {"role": "assistant", "content": None}, TALK[0]]},
            "has null as 'content' in message 2 of its 'messages', not text",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_place(
    tmp_path: Path, tokenizer: Any, row: object, problem: str
) -> None:
    assert refused(tmp_path, tokenizer, {"messages": TALK}, row) == f"p.jsonl:2 {problem}"


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ({"messages": TALK}, "it leaves out the tool calls of the assistant turn"),
        ({"messages": TALK[:1], "tools": [TOOL]}, "it leaves out the tools"),
    ],
)
def test_a_template_that_drops_tools_is_refused(tmp_path: Path, row: object, lost: str) -> None:
    plain = build_tokenizer(tmp_path / "plain", chat_template=CHATML)
    said = refused(tmp_path, plain, row)
    assert said == f"p.jsonl:1 does not go through the model's chat template: {lost}"


def test_a_model_without_a_template_takes_no_tools(tmp_path: Path) -> None:
    bare = build_tokenizer(tmp_path / "bare", chat_template=None)
    said = refused(tmp_path, bare, {"messages": TALK[:1], "tools": [TOOL]})
    assert said.endswith("chat template: the model has none, and so no way to be told of tools")
