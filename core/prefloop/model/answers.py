"""Answers that the policy did not sample, in the tokens with which it would have said the same."""

from __future__ import annotations

from typing import Any

from prefloop.types import Completion

_MARK = "answer"


def encode_answer(text: str, tokenizer: Any, max_tokens: int | None = None) -> Completion:
    """`text` and the stop token that ends a turn, as `tokenizer` (mlx-lm's wrapper) encodes them.

    No token stands before the text, as the chat template's own are part of the prompt. What is longer than
    `max_tokens` is cut, as sampling would have cut it, and so is what follows a stop token in the text.
    """
    stops = {int(i) for i in tokenizer.eos_token_ids}
    tokens = [int(i) for i in tokenizer.encode(text, add_special_tokens=False)]
    end = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
    whole = (*tokens[:end], _end_of_turn(tokenizer, stops))
    if max_tokens is not None and len(whole) > max_tokens:
        return Completion(whole[:max_tokens], text, stopped=False, source="file")
    return Completion(whole, text, source="file")


def _end_of_turn(tokenizer: Any, stops: set[int]) -> int:
    """The stop token that the chat template puts after an answer; without a template, the first there is."""
    if tokenizer.has_chat_template:
        turns = [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}]
        for token in reversed(list(tokenizer.apply_chat_template(turns))):
            if token in stops:
                return int(token)
    own = tokenizer.eos_token_id
    return int(own) if own in stops else min(stops)
