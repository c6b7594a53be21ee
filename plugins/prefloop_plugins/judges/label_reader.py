"""Reads off a language model which of two labels it would write next, without decoding.

A question costs one forward pass, and of its output only the answer position goes through the head. What
all questions begin with (the rubric) passes through the model once; its key-value cache is kept and every
batch continues from it, where the model's cache is of the plain kind. So do questions that go on alike, such
as the two orders of one pair, from where they part.

Shapes: ``N`` questions in a batch, ``L`` tokens in the longest, ``H`` the hidden size, ``V`` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx
from attrs import frozen

from prefloop.model.mlx_lm_internals import keys_and_values, plain_cache, plain_caches
from prefloop.model.split import SplitModel, inference_attention, padded
from prefloop_plugins.judges.question import encode_question

Ids = Sequence[int]

OUTPUT_BYTES = 1 << 30
"""Batches are cut so that ``[N, L, H]`` stays below this, or ``[N, L, V]`` where there is no other way."""
SHARED_TOKENS = 32
"""Tokens beyond the rubric from which on it pays to read questions that begin alike apart from the others."""


@frozen
class Reading:
    """What a model would write at the answer position."""

    first: float
    """``P(first label) / (P(first label) + P(second label))``."""
    mass: float
    """``P(first label) + P(second label)``: how much of what it would write is a label at all."""
    reply: str | None = None
    """What it wrote, where it was made to write."""


@frozen(eq=False)
class _Prefix:
    """The beginning of some questions, as the model has read it."""

    tokens: tuple[int, ...] = ()
    state: Sequence[tuple[mx.array, mx.array]] = ()
    """Keys and values of each layer, of one row."""

    def begins(self, question: Ids) -> bool:
        count = len(self.tokens)
        return len(question) > count and tuple(question[:count]) == self.tokens

    def caches(self, rows: int) -> list[Any] | None:
        """mlx-lm's caches that continue from here, for each of so many rows."""
        if not self.state:
            return None
        length = len(self.tokens)
        return [
            plain_cache(_repeat(keys, rows), _repeat(values, rows), length) for keys, values in self.state
        ]


class LabelReader:
    """One model, one rubric and two labels.

    `model` maps tokens ``[N, L]`` to logits ``[N, L, V]`` as mlx-lm's do; `tokenizer` is mlx-lm's
    wrapper. Raises `ValueError` where the labels are not single, different tokens for this tokenizer.
    """

    max_tokens = 0
    """Nothing is written after a question."""

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
        self._split = SplitModel(model)
        self._bytes_per_token = self._output_bytes()
        self._read_before = self._prefill() if reuse_prefix else _Prefix()

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
        """One reading per question, in their order."""
        readings: dict[int, Reading] = {}
        for rows, before in self._groups(questions):
            for batch in self._batches(questions, rows):
                read = self._read_batch([questions[i] for i in batch], before)
                readings.update(zip(batch, read, strict=True))
        return [readings[i] for i in range(len(questions))]

    def batches(
        self, questions: int, shortest: int, longest: int, answers: int, *, both_orders: bool
    ) -> Iterator[tuple[int, int, int]]:
        """The largest batches of so many questions: how many, tokens read before them, and tokens of each.

        Prompts have from `shortest` to `longest` tokens, and a pair's answers so many. The two orders of a
        pair that begin alike for long enough are a batch of their own.
        """
        known, fixed = len(self._read_before.tokens), len(self.encode("a", "b", "c")) - 3
        if not both_orders or not self._read_before.state:
            yield questions, known, fixed + longest + answers - known
            return
        alike = len(_common([self.encode("a", "b", "c"), self.encode("a", "c", "b")])) - 1
        enough = known + SHARED_TOKENS - alike
        if longest >= enough:
            yield 2, alike + longest, fixed - alike + answers
        if shortest < enough:
            yield questions, known, fixed + min(longest, enough) + answers - known

    def _groups(self, questions: Sequence[Ids]) -> Iterator[tuple[list[int], _Prefix]]:
        """Questions that continue from the same place; those that share only the rubric come late."""
        known = [i for i, question in enumerate(questions) if self._read_before.begins(question)]
        strange = sorted(set(range(len(questions))) - set(known))
        alone: list[int] = []
        for rows in self._families(questions, known):
            if len(rows) == 1 or not self._read_before.state:
                alone += rows
            else:
                yield rows, self._go_on(self._read_before, _common([questions[i] for i in rows]))
        yield alone, self._read_before
        yield strange, _Prefix()

    def _families(self, questions: Sequence[Ids], known: Sequence[int]) -> Iterator[list[int]]:
        """Neighbours in alphabetical order with much in common beyond the rubric."""
        enough = len(self._read_before.tokens) + SHARED_TOKENS
        rows = sorted(known, key=lambda i: tuple(questions[i]))
        family = rows[:1]
        for one, other in pairwise(rows):
            if len(_common([questions[one], questions[other]])) < enough:
                yield family
                family = []
            family.append(other)
        if family:
            yield family

    def _batches(self, questions: Sequence[Ids], group: Sequence[int]) -> Iterator[list[int]]:
        """Questions of similar length share a pass."""
        rows: list[int] = []
        for i in sorted(group, key=lambda i: len(questions[i])):
            too_large = (len(rows) + 1) * len(questions[i]) * self._bytes_per_token > OUTPUT_BYTES
            if rows and (len(rows) == self.batch_size or too_large):
                yield rows
                rows = []
            rows.append(i)
        if rows:
            yield rows

    def _read_batch(self, questions: Sequence[Ids], before: _Prefix) -> list[Reading]:
        rows = [question[len(before.tokens) :] for question in questions]
        ends = mx.array([len(row) - 1 for row in rows])
        with inference_attention():
            hidden = self._split.backbone(padded(rows), before.caches(len(rows)))  # [N, L, H]
        logits = self._split.lm_head(hidden[mx.arange(len(rows)), ends]).astype(mx.float32)  # [N, V]
        per_label = [mx.logsumexp(logits[:, mx.array(ids)], axis=-1) for ids in self.label_ids]
        first = mx.sigmoid(per_label[0] - per_label[1])
        mass = mx.exp(mx.logaddexp(*per_label) - mx.logsumexp(logits, axis=-1))
        both: Any = mx.stack([first, mass], axis=-1).tolist()
        return [Reading(*row) for row in both]

    def _prefill(self) -> _Prefix:
        """The prefix of all questions as the model has read it; nothing where it keeps other state."""
        caches = plain_caches(self.model)
        if not self.prefix or not caches:
            return _Prefix()
        return self._go_on(_Prefix(), self.prefix, caches)

    def _go_on(self, before: _Prefix, tokens: tuple[int, ...], caches: Any = None) -> _Prefix:
        """`before` gone on to `tokens`, which begin with it."""
        caches = caches or before.caches(1)
        with inference_attention():
            self._split.backbone(mx.array([tokens[len(before.tokens) :]]), caches)
        state = [keys_and_values(cache) for cache in caches]
        mx.eval(state)
        return _Prefix(tokens, state)

    def _find_prefix(self) -> tuple[int, ...]:
        """What all questions begin with; the probes differ in their texts and in their fences."""
        return _common([self.encode("a", "b", "c"), self.encode("=== x", "y", "z")])

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

    def _output_bytes(self) -> int:
        """Bytes of output per token; mlx is lazy, so the shape costs no pass."""
        output = self._split.backbone(mx.array([[0]]))
        return int(output.shape[-1] * output.itemsize)


def _common(questions: Sequence[Ids]) -> tuple[int, ...]:
    """What all begin with, short of their last tokens."""
    low, high = min(questions, key=tuple), max(questions, key=tuple)
    places = range(min(map(len, questions)) - 1)
    count = next((i for i in places if low[i] != high[i]), len(places))
    return tuple(low[:count])


def _repeat(state: mx.array, rows: int) -> mx.array:
    return mx.broadcast_to(state, (rows, *state.shape[1:]))
