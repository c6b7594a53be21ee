"""Sampling many rows together: each prompt passes through the model once, and rows leave as they stop.

mlx-lm's own caches hold the state, whatever its kind, and know how to be put together (`merge`) and how to
lose a row (`filter`). Against mlx-lm's `BatchGenerator` this spares a log-softmax over the vocabulary for
every token, and padding and masks where prompts are equally long.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from attrs import frozen
from mlx_lm.generate import wired_limit
from mlx_lm.models.cache import KVCache, make_prompt_cache

from prefloop.cpu.attention import inference_attention
from prefloop.cpu.threads import limit_threads
from prefloop.sampling.token_sampler import TokenSampler

Tokens = tuple[int, ...]
Caches = list[Any]
"""mlx-lm's caches, one for each layer."""

PREFILL_STEP = 2048
"""Tokens of a prompt that pass through the model at a time."""
LOGIT_COPIES = 4
"""Arrays of the size of the logits that drawing makes."""


@frozen(eq=False)
class Request:
    """What is to be sampled, and when a row ends."""

    prompts: Sequence[Tokens]
    sampler: TokenSampler
    stop: Set[int]
    pool_bytes: int

    @property
    def max_tokens(self) -> int:
        return self.sampler.sampling.max_tokens


def sample_pool(model: nn.Module, request: Request) -> list[Tokens]:
    """One row of tokens per prompt. Raises `ValueError` where the model's rows cannot be batched."""
    prompts = request.prompts
    longest = max(map(len, prompts)) - 1
    of_a_row = _row_bytes(model, cached_tokens(longest, request.max_tokens, 1, 1))
    size = max(1, request.pool_bytes // of_a_row)
    rows: list[Tokens] = []
    with wired_limit(model):
        for start in range(0, len(prompts), size):
            part = prompts[start : start + size]
            prefilled = {prompt: _prefill(model, prompt) for prompt in dict.fromkeys(part)}
            with limit_threads(model, len(part)):
                rows += _Pool(model, part, prefilled, request.sampler).run(request.max_tokens, request.stop)
    return rows


class _Pool:
    """Rows that are sampled together; `rows` are those that have not stopped."""

    def __init__(
        self,
        model: nn.Module,
        prompts: Sequence[Tokens],
        prefilled: dict[Tokens, Caches],
        sampler: TokenSampler,
    ) -> None:
        self.model = model
        self.sampler = sampler
        self.rows = list(range(len(prompts)))
        self.written: list[list[int]] = [[] for _ in prompts]
        self.caches = _fork([prefilled[prompt] for prompt in prompts])
        logits = self._logits(mx.array([prompt[-1] for prompt in prompts]))
        if len(set(map(len, prompts))) > 1:
            _check(model, prompts, prefilled, logits)
        self.drawn = self._sample(logits)  # [R], one token per row, on its way

    def run(self, max_tokens: int, stop: Set[int]) -> list[Tokens]:
        """Each step is started before the tokens of the one before are looked at."""
        for count in range(1, max_tokens + 1):
            drawn = self.drawn
            if count < max_tokens:
                self.drawn = self._sample(self._logits(drawn))
            going_on = []
            for place, (row, token) in enumerate(zip(self.rows, _ints(drawn), strict=True)):
                self.written[row].append(token)
                if token not in stop:
                    going_on.append(place)
            if not going_on:
                break
            if len(going_on) < len(self.rows):
                self._keep(going_on)
        return [tuple(row) for row in self.written]

    def _logits(self, tokens: mx.array) -> mx.array:
        logits: mx.array = self.model(tokens[:, None], cache=self.caches)[:, -1]
        return logits  # [R, V]

    def _sample(self, logits: mx.array) -> mx.array:
        drawn = self.sampler(logits)
        mx.async_eval(drawn)
        return drawn

    def _keep(self, places: list[int]) -> None:
        self.rows = [self.rows[place] for place in places]
        at = mx.array(places)
        self.drawn = self.drawn[at]
        for cache in self.caches:
            if type(cache) is KVCache:
                cache.state = (cache.keys[at], cache.values[at], cache.offset)
            else:
                cache.filter(at)


def _prefill(model: nn.Module, prompt: Tokens) -> Caches:
    """The state after all but the last token. The logits are never asked for, so they cost nothing."""
    caches: Caches = make_prompt_cache(model)
    tokens = mx.array([prompt[:-1]], dtype=mx.int32)
    with inference_attention():
        for start in range(0, len(prompt) - 1, PREFILL_STEP):
            model(tokens[:, start : start + PREFILL_STEP], cache=caches)
            mx.eval([cache.state for cache in caches])
    return caches


def _fork(rows: Sequence[Caches]) -> Caches:
    """One cache for all rows from the caches of each; these stay as they are."""
    return [_merge(layer) for layer in zip(*rows, strict=True)]


def _merge(caches: Sequence[Any]) -> Any:
    kind = type(caches[0])
    if not hasattr(kind, "merge"):
        raise ValueError(f"a {kind.__name__} cannot be batched")
    if kind is not KVCache or len({cache.offset for cache in caches}) > 1 or caches[0].empty():
        return kind.merge(caches)
    even = KVCache()  # rows of one length need neither padding nor a mask
    states = [cache.keys_and_values() for cache in caches]
    even.state = (*(mx.concatenate(list(part)) for part in zip(*states, strict=True)), caches[0].offset)
    return even


def _check(
    model: nn.Module, prompts: Sequence[Tokens], prefilled: dict[Tokens, Caches], logits: mx.array
) -> None:
    """Raises `ValueError` where padding changes the logits of the shortest row.

    A mask of the wrong shape is refused by mlx only where it does not happen to fit.
    """
    row = min(range(len(prompts)), key=lambda i: len(prompts[i]))
    alone = model(mx.array([prompts[row][-1:]]), cache=prefilled[prompts[row]])[0, -1].astype(mx.float32)
    difference = mx.abs(logits[row].astype(mx.float32) - alone).max()
    tolerance = (1e-3 if logits.dtype == mx.float32 else 1e-1) * mx.maximum(1, mx.abs(alone).max())
    if not (difference <= tolerance).item():
        raise ValueError("rows of unequal length disturb each other")


def cached_tokens(before: int, completion: int, prompts: int, rows: int) -> int:
    """Tokens for which there is room at most in the caches of `rows`, `before` of them read from `prompts`.

    Caches grow by blocks. While a row's first grows, those of the prompts and the copies are still there.
    """
    block = int(KVCache.step)
    own, written = (-(-tokens // block) * block for tokens in (before, completion))
    return max(rows * (2 * before + block) + prompts * own, rows * (before + written))


def _row_bytes(model: nn.Module, tokens: int) -> int:
    """What a row takes for which caches have so much room; mlx is lazy, so the shapes cost no pass."""
    caches = make_prompt_cache(model)
    logits = model(mx.array([[0]]), cache=caches)
    per_token = sum(cache.nbytes for cache in caches) / KVCache.step  # the first token takes a block
    return int(tokens * per_token + LOGIT_COPIES * 4 * logits.shape[-1])


def _ints(tokens: mx.array) -> list[int]:
    values: Any = tokens.tolist()
    return [int(value) for value in values]
