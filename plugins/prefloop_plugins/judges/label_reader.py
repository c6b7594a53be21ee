"""Reads off a language model which of two labels it would write next, without decoding.

A question costs one forward pass, and of its output only the answer position is read. What all
questions begin with (the rubric) passes through the model once; its key-value cache is kept and every
batch continues from it, where the model's cache is of the plain kind.

Shapes: ``N`` questions in a batch, ``L`` tokens in the longest, ``V`` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

import mlx.core as mx
from attrs import frozen

from prefloop_plugins.judges.question import encode_question

Ids = Sequence[int]

LOGITS_BYTES = 1 << 30
"""Batches are cut so that the ``[N, L, V]`` logits stay below this."""


@frozen
class Reading:
    """What a model would write at the answer position."""

    first: float
    """``P(first label) / (P(first label) + P(second label))``."""
    mass: float
    """``P(first label) + P(second label)``: how much of what it would write is a label at all."""
    reply: str | None = None
    """What it wrote, where it was made to write."""


class LabelReader:
    """One model, one rubric and two labels.

    `model` maps tokens ``[N, L]`` to logits ``[N, L, V]`` as mlx-lm's do; `tokenizer` is mlx-lm's
    wrapper. Raises `ValueError` where the labels are not single, different tokens for this tokenizer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        rubric: str,
        labels: tuple[str, str],
        batch_size: int = 16,
        thinking: bool = False,
        reuse_prefix: bool = True,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.rubric = rubric
        self.labels = labels
        self.batch_size = batch_size
        self.thinking = thinking
        self.label_ids = self._find_label_ids()
        self.prefix = self._find_prefix()
        self._bytes_per_token = self._logits_bytes()
        self._prefix_state = self._prefill() if reuse_prefix else None

    def encode(self, prompt: str, first: str, second: str) -> tuple[int, ...]:
        """Token ids of the question, up to where the label comes, or the thought before it."""
        return self._encode(prompt, first, second, thinking=self.thinking)

    def _encode(
        self, prompt: str, first: str, second: str, *, thinking: bool = False, reply: str = ""
    ) -> tuple[int, ...]:
        return tuple(
            encode_question(
                self.tokenizer,
                rubric=self.rubric,
                prompt=prompt,
                first=first,
                second=second,
                labels=self.labels,
                thinking=thinking,
                reply=reply,
            )
        )

    def read(self, questions: Sequence[Ids]) -> list[Reading]:
        """One reading per question, in their order; questions of similar length share a pass."""
        readings: dict[int, Reading] = {}
        for rows in self._batches(questions):
            batch = [questions[i] for i in rows]
            readings.update(zip(rows, self._read_batch(batch), strict=True))
        return [readings[i] for i in range(len(questions))]

    def _batches(self, questions: Sequence[Ids]) -> Iterator[list[int]]:
        rows: list[int] = []
        for i in sorted(range(len(questions)), key=lambda i: len(questions[i])):
            too_large = (len(rows) + 1) * len(questions[i]) * self._bytes_per_token > LOGITS_BYTES
            if rows and (len(rows) == self.batch_size or too_large):
                yield rows
                rows = []
            rows.append(i)
        if rows:
            yield rows

    def _read_batch(self, questions: Sequence[Ids]) -> list[Reading]:
        cache, skip = self._continue_prefix(questions)
        rows = [question[skip:] for question in questions]
        ends = mx.array([len(row) - 1 for row in rows])
        output = self.model(_pad(rows), cache=cache)
        logits = output[mx.arange(len(rows)), ends].astype(mx.float32)  # [N, V]
        per_label = [mx.logsumexp(logits[:, mx.array(ids)], axis=-1) for ids in self.label_ids]
        first = mx.sigmoid(per_label[0] - per_label[1])
        mass = mx.exp(mx.logaddexp(*per_label) - mx.logsumexp(logits, axis=-1))
        both: Any = mx.stack([first, mass], axis=-1).tolist()
        return [Reading(*row) for row in both]

    def _continue_prefix(self, questions: Sequence[Ids]) -> tuple[list[Any] | None, int]:
        """A cache that holds the prefix for each question, and how many tokens that spares."""
        count = len(self.prefix)
        if self._prefix_state is None or any(tuple(q[:count]) != self.prefix for q in questions):
            return None, 0
        from mlx_lm.models.cache import KVCache

        caches = []
        for keys, values in self._prefix_state:
            cache = KVCache()
            cache.state = (_repeat(keys, len(questions)), _repeat(values, len(questions)), count)
            caches.append(cache)
        return caches, count

    def _prefill(self) -> list[tuple[mx.array, mx.array]] | None:
        """Keys and values of the prefix in each layer, or None where the model keeps other state."""
        from mlx_lm.models.cache import KVCache, make_prompt_cache

        caches = make_prompt_cache(self.model)
        if not self.prefix or not caches or any(type(cache) is not KVCache for cache in caches):
            return None
        self.model(mx.array([self.prefix]), cache=caches)
        state: list[tuple[mx.array, mx.array]] = [cache.keys_and_values() for cache in caches]
        mx.eval(state)
        return state

    def _find_prefix(self) -> tuple[int, ...]:
        """What all questions begin with; the probes differ in their texts and in their fences."""
        probes = zip(self.encode("a", "b", "c"), self.encode("=== x", "y", "z"), strict=False)
        return tuple(one for one, _ in takewhile(lambda both: both[0] == both[1], probes))

    def _find_label_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        first, second = (self._ids_of(label) for label in self.labels)
        if set(first) & set(second):
            raise ValueError(f"the labels {self.labels[0]!r} and {self.labels[1]!r} are the same token")
        return first, second

    def _ids_of(self, label: str) -> tuple[int, ...]:
        """The tokens that write `label`, with or without a space, right after the question."""
        question = self._encode("a", "b", "c")
        count = len(question)
        replies = (self._encode("a", "b", "c", reply=space + label) for space in ("", " "))
        ids = {ids[-1] for ids in replies if len(ids) == count + 1 and ids[:count] == question}
        if not ids:
            raise ValueError(
                f"the label {label!r} is not a single token for its tokenizer: "
                "set 'labels' to single letters or digits, such as [A, B], or 'read' to reply"
            )
        return tuple(sorted(ids))

    def _logits_bytes(self) -> int:
        """Bytes of logits per token; mlx is lazy, so the shape costs no pass."""
        output = self.model(mx.array([[0]]))
        return int(output.shape[-1] * output.itemsize)


def _pad(rows: Sequence[Ids]) -> mx.array:
    """Rows padded on the right, where a causal model cannot look: ``[N, L]`` int32."""
    longest = max(len(row) for row in rows)
    return mx.array([[*row, *[0] * (longest - len(row))] for row in rows], dtype=mx.int32)


def _repeat(state: mx.array, rows: int) -> mx.array:
    return mx.broadcast_to(state, (rows, *state.shape[1:]))
