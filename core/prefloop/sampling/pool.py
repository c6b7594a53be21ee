"""Sampling many rows together: each prompt passes through the model once, and rows leave as they stop.

mlx-lm's own caches hold the state, whatever its kind; they can be merged and can lose rows. Prompts are read
together, as mlx-lm's `BatchGenerator` reads them. Compared with that, this saves a log-softmax over the
vocabulary for every token, and padding and masks where prompts are equally long.

Shapes: ``R`` rows, ``V`` tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from attrs import Factory, define, evolve, field, frozen
from mlx_lm.generate import wired_limit
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

from prefloop.cpu import on_cpu
from prefloop.cpu.attention import inference_attention
from prefloop.cpu.kernels import NumpySampler
from prefloop.model import mlx_lm_internals as internals
from prefloop.model.mlx_lm_internals import CACHE_BLOCK, Caches
from prefloop.sampling.row_numbers import RowNumbers
from prefloop.types import Sampling

Tokens = tuple[int, ...]
Ends = Callable[[Sequence[int]], bool]
"""Whether a row ends with the last of its tokens."""

PREFILL_STEP = 2048
"""Tokens that pass through the model at a time: of one prompt, or of several with their padding."""
LOGIT_COPIES = 4
"""Arrays of the size of the logits that sampling a token makes."""


class TokenSampler:
    """Samples tokens ``[R]`` from logits ``[R, V]``. What is kept and how it is weighted is mlx-lm's way.

    A row's tokens depend on the seed and the row's number alone, whatever else is sampled beside it.
    """

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling = sampling
        self.sound = mx.array(True)
        """Whether all logits so far gave every row a distribution; NaN and infinity give none."""
        self._numpy = NumpySampler(sampling) if on_cpu() else None
        self._numbers = RowNumbers(seed)

    def __call__(self, logits: mx.array, rows: Sequence[int] | None = None) -> mx.array:
        """The next token of each row; `rows` are their numbers, by default those of their places."""
        self.sound = self.sound & mx.isfinite(logits.max(axis=-1)).all()
        mx.async_eval(self.sound)  # or it would hold the logits of every step
        return self._sample(logits, range(len(logits)) if rows is None else rows)

    def _sample(self, logits: mx.array, rows: Sequence[int]) -> mx.array:
        temperature = self.sampling.temperature
        if temperature == 0:
            return mx.argmax(logits, axis=-1)
        logits = logits.astype(mx.float32)
        if self._numpy:
            return self._numpy(logits, self._numbers.uniforms(rows, 2))
        kept = self._filtered(logits) / temperature
        return _draw(kept, self._numbers.keys(rows))

    def _filtered(self, logits: mx.array) -> mx.array:
        """The logits that the filters keep, in mlx-lm's order; the others are minus infinity."""
        s, vocabulary = self.sampling, logits.shape[-1]
        if not (s.top_p < 1 or s.min_p > 0 or 0 < s.top_k < vocabulary):
            return logits
        logits = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        if s.top_p < 1:
            logits = apply_top_p(logits, s.top_p)
        if s.min_p > 0:
            logits = apply_min_p(logits, s.min_p)
        if 0 < s.top_k < vocabulary:  # mlx-lm refuses to keep all of them
            logits = apply_top_k(logits, s.top_k)
        return logits


@mx.vmap
def _draw(logits: mx.array, key: mx.array) -> mx.array:
    """A token for each row of logits ``[R, V]``, with a key for each ``[R, 2]``."""
    return mx.random.categorical(logits, key=key)


def ignore(ended: int) -> None:
    """Tell nobody."""


Told = Callable[[int], object]
"""What is called with the number of rows that have just ended, at every token, which is mostly zero. What it
raises ends the sampling."""


@define
class Padding:
    """Whether rows of unequal length were seen not to disturb each other in a model."""

    sound: bool = False


@frozen(eq=False)
class Request:
    """The prompts, how tokens are sampled, and when a row ends."""

    prompts: Sequence[Tokens]
    sampler: TokenSampler
    ends: Ends
    pool_bytes: int
    told: Told = ignore
    numbers: Sequence[int] = field(
        default=Factory(lambda self: range(len(self.prompts)), takes_self=True), kw_only=True
    )
    """The number of each row, which its random numbers go by."""
    padding: Padding = field(factory=Padding, kw_only=True)

    def part(self, places: Sequence[int]) -> Request:
        """The same for the rows at these places."""
        prompts, numbers = [self.prompts[i] for i in places], [self.numbers[i] for i in places]
        return evolve(self, prompts=prompts, numbers=numbers)

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
            part = request.part(range(start, min(start + size, len(prompts))))
            prefilled: dict[Tokens, Caches] = {}
            for group in _groups(part.prompts):
                prefilled |= zip(group, _prefill(model, group), strict=True)
                request.told(0)
            rows += _Pool(model, part, prefilled).run()
    return rows


class _Pool:
    """Rows that are sampled together. `rows` are those that have not stopped."""

    def __init__(self, model: nn.Module, request: Request, prefilled: dict[Tokens, Caches]) -> None:
        self.model = model
        self.request = request
        prompts = request.prompts
        self.rows = list(range(len(prompts)))
        self.written: list[list[int]] = [[] for _ in prompts]
        layers = zip(*(prefilled[prompt] for prompt in prompts), strict=True)
        block = _block(request.max_tokens)
        self.caches = [internals.merge_caches(layer, block) for layer in layers]
        logits = self._logits(mx.array([prompt[-1] for prompt in prompts]))
        if len(set(map(len, prompts))) > 1 and not request.padding.sound:
            _check(model, prompts, logits)
            request.padding.sound = True
        self.tokens = self._sample(logits)  # [R], one token per row, on its way

    def run(self) -> list[Tokens]:
        """The tokens of all rows. Each step starts before the tokens of the previous step are read."""
        for left in reversed(range(self.request.max_tokens)):
            tokens = self.tokens
            if left:
                self.tokens = self._sample(self._logits(tokens))
            going_on = []
            read: Any = tokens.tolist()
            for position, (row, token) in enumerate(zip(self.rows, read, strict=True)):
                self.written[row].append(token)
                if left and not self.request.ends(self.written[row]):
                    going_on.append(position)
            self.request.told(len(self.rows) - len(going_on))
            if not going_on:
                break
            if len(going_on) < len(self.rows):
                self._keep(going_on)
        return [tuple(row) for row in self.written]

    def _logits(self, tokens: mx.array) -> mx.array:
        logits: mx.array = self.model(tokens[:, None], cache=self.caches)[:, -1]
        return logits  # [R, V]

    def _sample(self, logits: mx.array) -> mx.array:
        tokens = self.request.sampler(logits, [self.request.numbers[row] for row in self.rows])
        mx.async_eval(tokens)
        return tokens

    def _keep(self, positions: list[int]) -> None:
        self.rows = [self.rows[i] for i in positions]
        at = mx.array(positions)
        self.tokens = self.tokens[at]
        for cache in self.caches:
            internals.keep_rows(cache, at)


def _groups(prompts: Iterable[Tokens]) -> Iterator[list[Tokens]]:
    """The different prompts, in parts that are read together: those of similar length.

    Of a prompt of one token nothing is read, and mlx-lm makes no cache of that.
    """
    group: list[Tokens] = []
    for prompt in sorted(dict.fromkeys(prompts), key=len):
        if group and (len(group[0]) == 1 or (len(group) + 1) * len(prompt) > PREFILL_STEP):
            yield group
            group = []
        group.append(prompt)
    yield group


def _prefill(model: nn.Module, prompts: Sequence[Tokens]) -> list[Caches]:
    """The state of each prompt after all but its last token. The logits are never evaluated, so they cost
    nothing.
    """
    read = [prompt[:-1] for prompt in prompts]
    with inference_attention():
        if len(read) > 1:
            return internals.read_together(model, read, PREFILL_STEP)
        return [_read_alone(model, tokens) for tokens in read]


def _read_alone(model: nn.Module, tokens: Tokens) -> Caches:
    caches: Caches = make_prompt_cache(model)
    for start in range(0, len(tokens), PREFILL_STEP):
        model(mx.array([tokens[start : start + PREFILL_STEP]], dtype=mx.int32), cache=caches)
        mx.eval([cache.state for cache in caches])
    return caches


def _check(model: nn.Module, prompts: Sequence[Tokens], logits: mx.array) -> None:
    """Raises `ValueError` where padding changes the logits of the shortest row.

    mlx does not refuse a mask of the wrong shape if that happens to fit.
    """
    row = min(range(len(prompts)), key=lambda i: len(prompts[i]))
    (caches,) = _prefill(model, [prompts[row]])
    alone = model(mx.array([prompts[row][-1:]]), cache=caches)[0, -1].astype(mx.float32)
    difference = mx.abs(logits[row].astype(mx.float32) - alone).max()
    tolerance = (1e-3 if logits.dtype == mx.float32 else 1e-1) * mx.maximum(1, mx.abs(alone).max())
    if not (difference <= tolerance).item():
        raise ValueError("rows of unequal length disturb each other")


def cached_tokens(before: int, completion: int, prompts: int, rows: int) -> int:
    """Most tokens that the caches of `rows` have room for, `before` of each row read from one of `prompts`.

    Caches grow by blocks. While the first block is added, the prompts' caches and the copies are held too.
    """
    block = _block(completion)
    own = -(-before // CACHE_BLOCK) * CACHE_BLOCK
    written = -(-completion // block) * block
    return max(rows * (2 * before + block) + prompts * own, rows * (before + written))


def _block(completion: int) -> int:
    """Tokens by which the caches of a pool grow: no more than a completion has."""
    return min(CACHE_BLOCK, completion)


def _row_bytes(model: nn.Module, tokens: int) -> int:
    """Bytes of a row whose caches have so much room. mlx is lazy, so the shapes cost no pass."""
    caches = make_prompt_cache(model)
    logits = model(mx.array([[0]]), cache=caches)
    return int(tokens * internals.cache_bytes_per_token(caches) + LOGIT_COPIES * 4 * logits.shape[-1])
