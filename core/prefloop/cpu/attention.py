"""Attention without a gradient, its softmax with NumPy, for mlx's CPU back end.

There, the softmax of a long text costs more than all matrix products. NumPy traces no gradient, so this is
for what a judge reads, for the reference, and for prompts that will be continued.

Queries are taken a block at a time, with no more keys than the last query may see. So few scores are held,
and most of those that a causal mask hides are never computed.

Shapes: ``B`` rows, ``H`` heads in ``K`` groups that share keys and values, ``L`` queries, ``S`` keys, ``D``
numbers per head; ``l`` queries and ``s`` keys of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from prefloop.cpu import slow_exp

Mask = mx.array | str | None
Flags = NDArray[np.bool_]

MIN_SCORES = 1 << 16
"""Scores of a call from which on waiting for NumPy is worth it."""
QUERIES = 64
"""Queries of a block."""
_LOWEST = np.finfo(np.float32).min


@contextmanager
def inference_attention() -> Iterator[None]:
    """Within, no gradient can be taken, and NumPy computes attention where that is faster."""
    plain = mx.fast.scaled_dot_product_attention
    if slow_exp():
        mx.fast.scaled_dot_product_attention = _where_faster(plain)
    try:
        yield
    finally:
        mx.fast.scaled_dot_product_attention = plain


def attend(q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Mask = None) -> mx.array:
    """``softmax(scale * q k^T) v`` in float32: ``[B, H, L, D]``, as `q`; `k` and `v` are ``[B, K, S, D]``.

    `mask` is None, ``"causal"`` (the last query sees every key), or true where a query sees a key, of a shape
    that broadcasts to ``[B, H, L, S]``.
    """
    groups, keys = k.shape[1:3]
    grouped = (q * scale).reshape(q.shape[0], groups, -1, *q.shape[2:])  # [B, K, H/K, L, D]
    found: list[mx.array] = []
    for part, width, masked in _blocks(mask, (*grouped.shape[:-1], keys)):
        queries = grouped[..., part, :]
        # The heads of a group are rows of one product.
        flat = queries.reshape(*queries.shape[:2], -1, queries.shape[-1])
        scores = flat @ k[:, :, :width].swapaxes(-1, -2)
        weights, mass = _softmax(scores.reshape(*queries.shape[:-1], width), masked)
        mixed = weights.reshape(scores.shape) @ v[:, :, :width]
        found.append(mixed.reshape(*queries.shape[:-1], v.shape[-1]) / mass)
        mx.async_eval(found[-1])  # or the weights of all blocks would be held
    return mx.concatenate(found, axis=3).reshape(*q.shape[:3], v.shape[-1])


def _softmax(scores: mx.array, masked: Flags | None) -> tuple[mx.array, mx.array]:
    """Weights ``[..., l, s]`` and their sums ``[..., l, 1]``."""
    weights = np.array(scores)
    if masked is not None:
        np.copyto(weights[..., -masked.shape[-1] :], _LOWEST, where=masked)
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    return mx.array(weights), mx.array(weights.sum(axis=-1, keepdims=True))


def _blocks(mask: Mask, shape: tuple[int, ...]) -> Iterator[tuple[slice, int, Flags | None]]:
    """The queries of each block, how many keys they may see, and which of the last of these are masked.

    `shape` is that of all scores, ``[B, K, H/K, L, S]``.
    """
    *_, length, keys = shape
    allowed = _allowed(mask, shape)
    for start in range(0, length, QUERIES):
        stop = min(start + QUERIES, length)
        part = slice(start, stop)
        if mask is None:
            yield part, keys, None
        elif allowed is None:
            yield part, keys - length + stop, ~np.tri(stop - start, dtype=np.bool_)
        else:
            some = allowed[..., part, :]
            seen = np.flatnonzero(some.reshape(-1, keys).any(axis=0))
            width = int(seen[-1]) + 1 if len(seen) else 1
            yield part, width, ~some[..., :width]


def _allowed(mask: Mask, shape: tuple[int, ...]) -> Flags | None:
    """Which keys a query sees by an array mask, ``[B or 1, K or 1, H/K or 1, L, S]``; None for others."""
    if not isinstance(mask, mx.array):
        return None
    given = np.asarray(mask)
    given = given.reshape((1,) * (4 - given.ndim) + given.shape)
    heads = (1, 1) if given.shape[1] == 1 else shape[1:3]
    return given.reshape(given.shape[0], *heads, *shape[3:])


def _where_faster(plain: Callable[..., mx.array]) -> Callable[..., mx.array]:
    def attention(
        q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Mask = None, **others: Any
    ) -> mx.array:
        known = mask.dtype == mx.bool_ if isinstance(mask, mx.array) else mask in (None, "causal")
        simple = known and q.dtype == mx.float32 and all(value is None for value in others.values())
        if simple and q[..., 0].size * k.shape[2] >= MIN_SCORES:
            return attend(q, k, v, scale=scale, mask=mask)
        return plain(q, k, v, scale=scale, mask=mask, **others)

    return attention
