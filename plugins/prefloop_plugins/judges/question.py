"""The question an LLM judge is asked, as token ids.

Its words are those of `prefloop_plugins.questions`. What it quotes can neither close its fence nor open a
chat turn: no quoted text becomes a special or added token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from prefloop.prompts.chat import beginning, close_thought, encode_prompt, render
from prefloop.types import Message
from prefloop_plugins.questions import fence_for, user_message

_MARK = "\ue000{}\ue001"  # private-use characters stand for the quoted texts in the template
_MARKED = re.compile("(\ue000(?:prompt|first|second)\ue001)")


def encode_question(
    tokenizer: Any,
    *,
    rubric: str,
    prompt: str,
    first: str,
    second: str,
    labels: tuple[str, str] = ("A", "B"),
    thinking: bool = False,
    reply: str = "",
) -> list[int]:
    """Token ids of the question up to the place where the judge writes its label.

    `tokenizer` is mlx-lm's wrapper. `reply` is what the judge is taken to have written so far. Raises
    `ValueError` where the chat template does not carry the rubric and the question.
    """
    texts = {"prompt": prompt, "first": first, "second": second}
    user = user_message(*map(_MARK.format, texts), labels=labels, fence=fence_for(*texts.values()))
    template = _render(tokenizer, rubric, user, thinking) + reply
    ids = [*beginning(tokenizer)]
    for piece in _MARKED.split(template):
        quoted = _MARKED.fullmatch(piece)
        if quoted:
            ids += encode_quoted(tokenizer, texts[piece[1:-1]])
        elif piece:
            ids += tokenizer.encode(piece, add_special_tokens=False)
    return ids


def _render(tokenizer: Any, rubric: str, user: str, thinking: bool) -> str:
    """The chat template's text; a template without a system role gets the rubric in the user turn."""
    if not tokenizer.has_chat_template:
        return f"{rubric}\n\n{user}\nAnswer:"
    both = [{"role": "system", "content": rubric}, {"role": "user", "content": user}]
    merged = [{"role": "user", "content": f"{rubric}\n\n{user}"}]
    refused = ""
    for messages in (both, merged):
        try:
            text = render(tokenizer, messages, add_generation_prompt=True, enable_thinking=thinking)
        except ValueError as error:
            refused = str(error)
            continue
        return text if thinking else close_thought(tokenizer, text)
    raise ValueError(f"its chat template does not take the judge's question: {refused}")


def encode_quoted(tokenizer: Any, text: str) -> list[int]:
    """Ids of a quoted text in which nothing counts as a special or added token."""
    quietly = {"verbose": False}  # whoever asks checks the length of the whole question
    ids: list[int] = []
    for piece in cut_added_tokens(tokenizer, text):
        ids += tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=True, **quietly)
    return ids


def encode_answered(
    tokenizer: Any, messages: Sequence[Message], answer: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of a conversation as a model is asked to answer it, and of an `answer` without its end of turn.

    Nothing in the answer counts as a special token. Raises `ValueError` where the chat template does not take
    the conversation.
    """
    return encode_prompt(tokenizer, messages), tuple(encode_quoted(tokenizer, answer))


def cut_added_tokens(tokenizer: Any, text: str) -> list[str]:
    """`text` in pieces that hold no added token, such as ``<think>``, whole.

    ``split_special_tokens`` covers only those added tokens that are marked as special. Runs of white
    space stay whole: as added tokens they are ordinary vocabulary.
    """
    added = [token for token in tokenizer.get_added_vocab() if len(token) > 1 and not token.isspace()]
    present = [re.escape(token) for token in added if token in text]
    if not present:
        return [text]
    starts = [found.start() for found in re.finditer(f"(?={'|'.join(present)})", text)]
    cuts = [0, *(start + 1 for start in starts), len(text)]
    return [text[i:j] for i, j in pairwise(cuts)]
