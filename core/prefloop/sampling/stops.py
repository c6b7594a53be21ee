"""Where a completion ends: at a stop token of the model, or at what `Sampling.stop` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

SPARE_TOKENS = 4
"""Tokens before a stop text that are decoded with it: a decoder may drop a space from the first."""


@frozen(eq=False)
class Stops:
    """The ids that end a row, and the texts that do. A text that is an added token counts as its id."""

    tokenizer: Any
    ids: frozenset[int]
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, tokenizer: Any, stop: Sequence[str | int] = ()) -> Stops:
        """Those of the model, whose `tokenizer` (mlx-lm's wrapper) knows them, and `stop`."""
        added = tokenizer.get_added_vocab()
        known = [added.get(one, one) for one in stop]
        ids = frozenset(int(i) for i in (*tokenizer.eos_token_ids, *known) if not isinstance(i, str))
        return cls(tokenizer, ids, tuple(text for text in known if isinstance(text, str)))

    def cut(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """`tokens` up to the first end in them, which is included; nothing where there is none."""
        ends = (k for k in range(1, len(tokens) + 1) if self.ends(tokens[:k]))
        return tuple(tokens[: next(ends, 0)])

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether a row ends with the last of its `tokens`."""
        return tokens[-1] in self.ids or any(text in self._end(tokens, text) for text in self.texts)

    def text(self, tokens: Sequence[int]) -> str:
        """What a row says, without what ended it and without special tokens."""
        if tokens[-1] in self.ids:
            return self._decode(tokens[:-1])
        said = self._decode(tokens)
        for text in self.texts:
            if text in self._end(tokens, text):
                starts = (k for k in reversed(range(len(tokens))) if text in self._decode_all(tokens[k:]))
                return said.partition(text)[0] if text in said else self._decode(tokens[: next(starts)])
        return said

    def _end(self, tokens: Sequence[int], text: str) -> str:
        """The end of a row, as far as `text` may reach: each of its tokens holds a byte of it or more."""
        return self._decode_all(tokens[-len(text.encode()) - SPARE_TOKENS :])

    def _decode(self, tokens: Sequence[int]) -> str:
        said: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return said

    def _decode_all(self, tokens: Sequence[int]) -> str:
        said: str = self.tokenizer.decode(list(tokens), skip_special_tokens=False)
        return said
