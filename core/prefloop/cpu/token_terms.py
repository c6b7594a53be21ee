"""`prefloop.scoring.token_terms` of a chunk with NumPy: formulas and shapes are the same.

With a vocabulary of 150,000 its faster ``exp`` is worth the wait for each chunk.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from prefloop.cpu.backend import slow_exp

Floats = NDArray[np.float32]

WORTH_WAITING = 1 << 24
"""Logits of a batch from which on NumPy is used while a gradient is traced."""


def use_numpy(tokens: int, vocabulary: int) -> bool:
    """Whether so many logits are better left to NumPy."""
    return slow_exp() and tokens * vocabulary >= WORTH_WAITING


def detach(states: mx.array) -> mx.array:
    """The same as a constant, evaluated: while a gradient is traced, an array keeps what it came from."""
    return mx.array(np.asarray(states.astype(mx.float32))).astype(states.dtype)


def numpy_terms(
    logits: mx.array, targets: mx.array, theirs: mx.array | None
) -> tuple[list[mx.array], list[mx.array]]:
    """Values ``[m]`` and their grads ``[m, V]``: log-probabilities and, with the reference's logits, KL."""
    z, y = np.asarray(logits), np.asarray(targets)[:, None]
    p, normaliser = _softmax(z)
    logprobs = np.take_along_axis(z, y, axis=-1) - normaliser
    values, grads = [logprobs[:, 0]], []
    if theirs is not None:
        ratio = z - np.asarray(theirs) - (normaliser - _normaliser(np.asarray(theirs)))
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
    return mx.array((np.take_along_axis(z, y, axis=-1) - _normaliser(z))[:, 0])


def _softmax(z: Floats) -> tuple[Floats, Floats]:
    """Probabilities ``[m, V]`` and logsumexp ``[m, 1]``."""
    top = z.max(axis=-1, keepdims=True)
    p = z - top
    np.exp(p, out=p)
    mass = p.sum(axis=-1, keepdims=True)
    p /= mass
    return p, top + np.log(mass)


def _normaliser(z: Floats) -> Floats:
    return _softmax(z)[1]
