"""Reads the label that a judge writes, for models whose labels are not single tokens.

It has the interface of `LabelReader`, and costs a decoded reply where that one costs a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from prefloop_plugins.judges.decoding import decode, ends_with
from prefloop_plugins.judges.label_reader import Reading
from prefloop_plugins.judges.question import encode_question

Ids = Sequence[int]

AROUND = " \t\r\n*_`\"'()[].:"
"""What may stand around a label in a reply, and nothing else may."""
SPARE_TOKENS = 8
"""Tokens that a reply may have beyond those of the longer label."""


class ReplyReader:
    """One model, one rubric and two labels, as for `LabelReader`; the labels may be any texts."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        rubric: str,
        labels: tuple[str, str],
        batch_size: int = 16,
        thinking: bool = False,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.labels = labels
        self.batch_size = batch_size
        self.max_tokens = SPARE_TOKENS + max(len(tokenizer.encode(label)) for label in labels)
        self._stop = [(int(token),) for token in sorted(tokenizer.eos_token_ids)]
        self._encode = partial(encode_question, tokenizer, rubric=rubric, labels=labels, thinking=thinking)
        self.encode("", "", "")  # raises where the chat template does not take a question

    def encode(self, prompt: str, first: str, second: str) -> tuple[int, ...]:
        """Token ids of the question, up to where the reply comes."""
        return tuple(self._encode(prompt=prompt, first=first, second=second))

    def read(self, questions: Sequence[Ids]) -> list[Reading]:
        """One reading per question, in their order: all of the probability on the label that was written."""
        replies = decode(
            self.model,
            questions,
            stop=self._stop,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
        )
        return [self._parse(reply) for reply in replies]

    def _parse(self, tokens: tuple[int, ...]) -> Reading:
        stopped = any(ends_with(tokens, stop) for stop in self._stop)
        text = self.tokenizer.decode(list(tokens[:-1] if stopped else tokens))
        named = [text.strip(AROUND) == label.strip(AROUND) for label in self.labels]
        if not stopped or sum(named) != 1:
            return Reading(0.5, 0.0, text)
        return Reading(float(named[0]), 1.0, text)
