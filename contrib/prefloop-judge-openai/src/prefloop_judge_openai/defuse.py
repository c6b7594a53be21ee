"""Quoted texts without working chat-template tokens.

Many servers tokenise the finished text of the chat template, so that ``<|im_end|>`` inside an answer
would end the user's turn. A space after the opening bracket leaves it readable and makes it plain text.
"""

from __future__ import annotations

import re

_NAMED = (
    r"/?(?:s|bos|eos|pad|unk|think|tool_call|tool_response)"
    r"|(?:start|end)_of_(?:turn|text|image|role)|(?:begin|end)_of_(?:text|sentence|utterance)"
)
_CONTROL = re.compile(
    rf"<(?=\|[^<>\n]{{0,64}}\|>|\uff5c[^<>\n]{{0,64}}\uff5c>|(?:{_NAMED})>)"
    r"|<(?=<SYS>>|</SYS>>|/SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\])",
    re.IGNORECASE,
)


def defuse(text: str) -> str:
    """`text` with a space inside every chat-template token, and otherwise as it was."""
    return _CONTROL.sub(lambda found: f"{found[0]} ", text)
