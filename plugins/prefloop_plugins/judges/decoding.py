"""Greedy or sampled decoding for judges: what a model writes after each question, as token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

Ids = Sequence[int]
Sampler = Callable[[mx.array], mx.array]

TOP_P = 0.95


def decode(
    model: Any,
    questions: Sequence[Ids],
    *,
    stop: Sequence[Ids],
    max_tokens: int,
    temperature: float = 0.0,
    batch_size: int = 16,
) -> list[tuple[int, ...]]:
    """At most `max_tokens` tokens for each question, up to and with a sequence of `stop`.

    A temperature of zero is greedy. Otherwise each row draws from a random state of its own, seeded by
    its question: the global one stays as it is, and what is drawn does not depend on the other rows.
    """
    if not questions:
        return []
    try:
        return _together(model, questions, stop, max_tokens, temperature, batch_size)
    except ValueError:  # so mlx-lm and mlx refuse caches and masks that they cannot batch
        return [_alone(model, question, stop, max_tokens, temperature) for question in questions]


def ends_with(tokens: Ids, sequence: Ids) -> bool:
    return len(sequence) > 0 and tuple(tokens[-len(sequence) :]) == tuple(sequence)


def _together(
    model: Any, questions: Sequence[Ids], stop: Sequence[Ids], max_tokens: int, temperature: float, rows: int
) -> list[tuple[int, ...]]:
    from mlx_lm.generate import BatchGenerator

    generator = BatchGenerator(
        model,
        max_tokens=max_tokens,
        stop_tokens=[list(sequence) for sequence in stop],
        completion_batch_size=rows,
        prefill_batch_size=rows,
    )
    try:
        uids = generator.insert(
            [list(question) for question in questions],
            samplers=[_sampler(question, temperature) for question in questions],
        )
        written: dict[int, list[int]] = {uid: [] for uid in uids}
        while responses := generator.next_generated():
            for response in responses:
                written[response.uid].append(int(response.token))
    finally:
        generator.close()
    return [tuple(written[uid]) for uid in uids]


def _alone(
    model: Any, question: Ids, stop: Sequence[Ids], max_tokens: int, temperature: float
) -> tuple[int, ...]:
    from mlx_lm.generate import generate_step

    sampler = _sampler(question, temperature)
    written: list[int] = []
    for token, _ in generate_step(mx.array(list(question)), model, max_tokens=max_tokens, sampler=sampler):
        written.append(int(token))
        if any(ends_with(written, sequence) for sequence in stop):
            break
    return tuple(written)


def _greedy(logprobs: mx.array) -> mx.array:
    return mx.argmax(logprobs, axis=-1)


def _sampler(question: Ids, temperature: float) -> Sampler:
    if temperature == 0:
        return _greedy  # one function for all rows, which mlx-lm then calls once for the batch
    from mlx_lm.sample_utils import apply_top_p

    seed = hashlib.sha256(repr(tuple(question)).encode()).digest()
    key = mx.random.key(int.from_bytes(seed[:8]))

    def draw(logprobs: mx.array) -> mx.array:
        nonlocal key
        key, now = mx.random.split(key)
        return mx.random.categorical(apply_top_p(logprobs, TOP_P) / temperature, key=now)

    return draw
