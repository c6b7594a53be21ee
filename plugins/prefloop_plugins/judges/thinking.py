"""Lets a reasoning judge think before its label is read, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefloop_plugins.judges.decoding import decode, ends_with

Ids = Sequence[int]


class Thinker:
    """Continues questions by the model's own thought, each closed where the budget ran out.

    `tokenizer` is mlx-lm's wrapper. Raises `ValueError` where it has no tokens for a thought.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, max_thinking: int, temperature: float, batch_size: int
    ) -> None:
        if not tokenizer.has_thinking:
            raise ValueError(
                "its tokenizer has no tokens that open and close a thought, so it is no reasoning model: "
                "set 'thinking' to false"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.max_thinking = max_thinking
        self.temperature = temperature
        self.batch_size = batch_size
        self._end = tuple(tokenizer.think_end_tokens)
        self._stops = [(int(token),) for token in sorted(tokenizer.eos_token_ids)]

    def __call__(self, questions: Sequence[Ids]) -> list[tuple[int, ...]]:
        """Each question with its thought, up to where the label comes."""
        thoughts = decode(
            self.model,
            questions,
            stop=[self._end, *self._stops],
            max_tokens=self.max_thinking,
            temperature=self.temperature,
            batch_size=self.batch_size,
        )
        return [self._close(tuple(q), thought) for q, thought in zip(questions, thoughts, strict=True)]

    @property
    def overhead(self) -> int:
        """How many tokens a question grows by, at most."""
        return self.max_thinking + len(self._encode("\n")) + len(self._end) + len(self._encode("\n\n"))

    def _close(self, question: tuple[int, ...], thought: tuple[int, ...]) -> tuple[int, ...]:
        blank = self._encode("\n\n")
        if ends_with(thought, self._end):
            return (*question, *thought, *blank)
        if any(ends_with(thought, stop) for stop in self._stops):
            thought = thought[:-1]
        if self._opens(question) or self._opens(thought):
            return (*question, *thought, *self._encode("\n"), *self._end, *blank)
        return question  # it answers without a thought, so its label comes right here

    def _opens(self, tokens: Ids) -> bool:
        """Whether a thought is open at the end of `tokens`; no quoted text holds the tokens that do it."""
        start: int = self.tokenizer.rfind_think_start(tokens)
        end: int = self.tokenizer.rfind_think_end(tokens)
        return start > end

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))
