"""Drawing the next token of each row from its logits.

Shapes: ``R`` rows, ``V`` tokens in the vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import make_sampler
from numpy.typing import NDArray

from prefloop.cpu.backend import on_cpu
from prefloop.types import Sampling

Floats = NDArray[np.float32]

BLOCK = 128
"""Tokens whose weights are added up first, so that rounding takes nothing from the small ones."""
WORTH_WAITING = 1 << 18
"""Logits from which on NumPy's faster ``exp`` makes up for waiting for each token."""
CANDIDATES = 1024
"""The likeliest tokens, among which the smallest set that holds `top_p` is looked for first."""


class TokenSampler:
    """Draws tokens ``[R]`` from logits ``[R, V]``, the same ones for the same seed and calls.

    What is kept and how it is weighted is mlx-lm's ``make_sampler``. mlx draws lazily, while the next step is
    prepared. On x86 its CPU back end takes ``exp`` (10 ns) and ``sort`` (80 ns) one number at a time; NumPy
    is 25 times faster at both; there, NumPy draws wherever there is much to sort or to weigh.
    """

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling = sampling
        self._on_cpu = on_cpu()
        self._host = NumpySampler(sampling, seed)
        mx.random.seed(seed)

    def __call__(self, logits: mx.array) -> mx.array:
        s = self.sampling
        if s.temperature == 0:
            return mx.argmax(logits, axis=-1)
        top_k = s.top_k if s.top_k < logits.shape[-1] else 0  # mlx-lm refuses to keep all of them
        filtered = s.top_p < 1 or top_k > 0 or s.min_p > 0
        logits = logits.astype(mx.float32)
        if self._on_cpu and (filtered or logits.size >= WORTH_WAITING):
            return mx.array(self._host(np.asarray(logits)))
        if not filtered:
            return mx.random.categorical(logits / s.temperature)
        draw = make_sampler(s.temperature, top_p=s.top_p, min_p=s.min_p, top_k=top_k)
        drawn: mx.array = draw(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        return drawn


class NumpySampler:
    """The same with NumPy: ``[R, V]`` float32 logits to ``[R]`` int32 tokens.

    All three filters keep what lies at or above some logit, so the highest of these decides. Then a block of
    tokens is drawn by its weight, and a token of it, each by inverting its cumulative distribution.
    """

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling = sampling
        self._random = np.random.default_rng(seed)

    def __call__(self, logits: Floats) -> NDArray[np.int32]:
        below_top = logits - logits.max(axis=-1, keepdims=True)
        rows, vocabulary = logits.shape
        weights = np.zeros((rows, -(-vocabulary // BLOCK) * BLOCK), dtype=np.float32)
        kept = weights[:, :vocabulary]
        np.exp(below_top / np.float32(self.sampling.temperature), out=kept)
        for lowest in lowest_kept(below_top, self.sampling):
            kept[below_top < lowest] = 0
        blocks = weights.reshape(rows, -1, BLOCK)
        block = self._pick(blocks.sum(axis=-1))
        drawn = block * BLOCK + self._pick(blocks[np.arange(rows), block])
        return np.asarray(drawn, dtype=np.int32)

    def _pick(self, weights: Floats) -> NDArray[Any]:
        """An index for each row of weights ``[R, N]``, drawn in proportion to them."""
        mass = np.cumsum(weights, axis=-1, dtype=np.float64)
        drawn = self._random.random((len(weights), 1)) * mass[:, -1:]
        index: NDArray[Any] = (mass <= drawn).sum(axis=-1)
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
