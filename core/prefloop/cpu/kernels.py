"""NumPy kernels for the terms of a chunk of tokens and for the next token of each row.

The terms are those of `prefloop.scoring.token_terms`, with the same formulas and shapes: ``m`` tokens in a
chunk, ``V`` tokens in the vocabulary. For the next token there are ``R`` rows.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from prefloop.cpu import slow_exp
from prefloop.types import Sampling

Floats = NDArray[np.float32]

MIN_TRACED_LOGITS = 1 << 24
"""Logits of a batch from which on waiting for NumPy is worth it while a gradient is traced."""
MIN_TRACED_WIDTH = 32
"""Logits of a token for each number that the layers hand on, from which on NumPy is worth its memory there.

NumPy looks into the pass while its gradient is traced, and mlx then keeps all that the layers computed. With
99 such logits that saved a quarter of scoring's time and took no more memory. With 16 to 23 it took up to 2.2
times the memory, and saved a quarter at best, in most cases next to nothing.
"""
BLOCK = 128
"""Block size of the two-level cumulative sum (limits float32 rounding)."""
CANDIDATES = 1024
"""The smallest set of tokens that holds `top_p` is first looked for among so many of the likeliest."""


def use_numpy(tokens: int, vocabulary: int, widths: int) -> bool:
    """Whether NumPy is better at the terms of so many tokens; `widths` is the sum of the layers' widths."""
    return suits_numpy(vocabulary, widths) and tokens * vocabulary >= MIN_TRACED_LOGITS


def suits_numpy(vocabulary: int, widths: int) -> bool:
    """Whether that is so as soon as there are enough tokens."""
    return slow_exp() and vocabulary >= MIN_TRACED_WIDTH * widths


def detach(states: mx.array) -> mx.array:
    """The same values as a constant. While a gradient is traced, an array keeps what it was computed from."""
    return mx.array(np.asarray(states.astype(mx.float32))).astype(states.dtype)


def numpy_terms(
    logits: mx.array, targets: mx.array, theirs: mx.array | None
) -> tuple[list[mx.array], list[mx.array]]:
    """Values ``[m]`` and their gradients ``[m, V]``: log-probability and, given a reference's logits, KL."""
    z, y = np.asarray(logits), np.asarray(targets)[:, None]
    p, normaliser = _softmax(z)
    logprobs = np.take_along_axis(z, y, axis=-1) - normaliser
    values, grads = [logprobs[:, 0]], []
    if theirs is not None:
        ratio = z - np.asarray(theirs) - (normaliser - _softmax(np.asarray(theirs))[1])
        kl = np.einsum("mv,mv->m", p, ratio)
        ratio -= kl[:, None]
        ratio *= p
        values.append(kl)
        grads.append(mx.array(ratio))
    np.negative(p, out=p)
    np.put_along_axis(p, y, 1 + np.take_along_axis(p, y, axis=-1), axis=-1)
    return [mx.array(value) for value in values], [mx.array(p), *grads]


def numpy_logprobs(logits: mx.array, targets: mx.array) -> mx.array:
    """Log-probabilities ``[m]`` alone."""
    z, y = np.asarray(logits), np.asarray(targets)[:, None]
    return mx.array((np.take_along_axis(z, y, axis=-1) - _softmax(z)[1])[:, 0])


def _softmax(z: Floats) -> tuple[Floats, Floats]:
    """Probabilities ``[m, V]`` and logsumexp ``[m, 1]``."""
    top = z.max(axis=-1, keepdims=True)
    p = z - top
    np.exp(p, out=p)
    mass = p.sum(axis=-1, keepdims=True)
    p /= mass
    return p, top + np.log(mass)


class NumpySampler:
    """Samples tokens ``[R]`` from float32 logits ``[R, V]``.

    mlx's CPU back end sorts one number at a time (80 ns). Each of the three filters keeps what lies at or
    above some logit, so the highest of these decides. Then a block of tokens is sampled by its weight, and a
    token of it, each by inverting its cumulative distribution.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def __call__(self, logits: mx.array, uniforms: NDArray[np.float64]) -> mx.array:
        """A token for each row; `uniforms` are two numbers for each, from 0 to below 1, ``[R, 2]``."""
        z = np.asarray(logits)
        below_top = z - z.max(axis=-1, keepdims=True)
        rows, vocabulary = z.shape
        weights = np.zeros((rows, -(-vocabulary // BLOCK) * BLOCK), dtype=np.float32)
        kept = weights[:, :vocabulary]
        np.exp(below_top / np.float32(self.sampling.temperature), out=kept)
        for lowest in lowest_kept(below_top, self.sampling):
            kept[below_top < lowest] = 0
        blocks = weights.reshape(rows, -1, BLOCK)
        block = _pick(blocks.sum(axis=-1), uniforms[:, :1])
        tokens = block * BLOCK + _pick(blocks[np.arange(rows), block], uniforms[:, 1:])
        return mx.array(np.asarray(tokens, dtype=np.int32))


def _pick(weights: Floats, uniforms: NDArray[np.float64]) -> NDArray[Any]:
    """An index for each row of weights ``[R, N]``, in proportion to them; `uniforms` are ``[R, 1]``."""
    mass = np.cumsum(weights, axis=-1, dtype=np.float64)
    index: NDArray[Any] = (mass <= uniforms * mass[:, -1:]).sum(axis=-1)
    return index


def lowest_kept(below_top: Floats, sampling: Sampling) -> list[Floats]:
    """The lowest logit that each filter which is on keeps, ``[R, 1]``; logits are relative to the highest."""
    vocabulary = below_top.shape[-1]
    lowest = []
    if sampling.top_p < 1:
        lowest.append(_nucleus(below_top, sampling.top_p))
    if sampling.min_p > 0:
        lowest.append(np.array([[math.log(sampling.min_p)]], dtype=np.float32))
    if 0 < sampling.top_k < vocabulary:
        place = vocabulary - sampling.top_k
        lowest.append(np.partition(below_top, place, axis=-1)[:, place : place + 1])
    return lowest


def _nucleus(below_top: Floats, top_p: float) -> Floats:
    """The lowest logit in the smallest set of tokens that holds `top_p`, at temperature one."""
    vocabulary = below_top.shape[-1]
    wanted = top_p * np.exp(below_top).sum(axis=-1, keepdims=True, dtype=np.float64)
    count = min(CANDIDATES, vocabulary)
    while True:
        rest = vocabulary - count
        likeliest = np.sort(np.partition(below_top, rest, axis=-1)[:, rest:], axis=-1)[:, ::-1]
        held = np.cumsum(np.exp(likeliest), axis=-1, dtype=np.float64)
        if count == vocabulary or bool((held[:, -1:] >= wanted).all()):
            break
        count = min(16 * count, vocabulary)
    last = np.minimum((held < wanted).sum(axis=-1, keepdims=True), count - 1)
    lowest: Floats = np.take_along_axis(likeliest, last, axis=-1)
    return lowest
