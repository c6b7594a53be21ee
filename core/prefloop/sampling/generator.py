"""Samples completions of prompts from any model.

If the model can do it, all rows are sampled in one pool. Models whose attention cannot take rows of unequal
length are sampled in pools of equal length, and models whose cache cannot be batched one prompt at a time.
The first failure decides, and the generator remembers it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import generate_step

from prefloop.errors import StopRun, UserError
from prefloop.model.adapters import fuse_adapters
from prefloop.model.limits import check_ids, embedded_ids, learned_positions
from prefloop.sampling.pool import (
    Ends,
    Padding,
    Request,
    Tokens,
    TokenSampler,
    Told,
    ignore,
    sample_pool,
)
from prefloop.sampling.stops import Stops
from prefloop.sampling.thoughts import with_answer_read
from prefloop.types import Completion, Prompt, Sampling, Source

Engine = Callable[[nn.Module, Request], list[Tokens]]

NOT_FINITE = (
    "the logits that completions are sampled from became NaN or infinite, so they say nothing. Try a lower "
    "training.learning_rate, or model.dtype: float32."
)
POOL_BYTES = 8 << 30
"""Most bytes that the caches and logits of a pool take. Rows that do not fit are sampled in further pools."""


class Generator:
    """Samples from one model.

    Each call reads the model's weights, so samples follow the policy as it is trained. `pool_bytes` limits
    the caches and logits of the rows that are sampled together.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, *, pool_bytes: int = POOL_BYTES) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pool_bytes = pool_bytes
        self._engines: list[Engine] = [sample_pool, _by_length, _one_by_one]
        self._padding = Padding()

    def __call__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        seed: int,
        source: Source = "policy",
        told: Told = ignore,
        first: int = 0,
    ) -> list[Completion]:
        """One completion per prompt, with the stop token where one was sampled.

        What is drawn for a row depends on `seed` and the row's number, its place after `first`. Equal prompts
        pass through the model once. `told` hears at every token how many have just ended.
        Raises `StopRun` where logits are not finite.
        """
        if not prompts:
            return []
        self.model.eval()
        stops = Stops.of(self.tokenizer, sampling.stop)
        rows = self._sample([p.tokens for p in prompts], sampling, stops.ends, seed, told=told, first=first)
        return [_said(row, prompt, stops, source) for row, prompt in zip(rows, prompts, strict=True)]

    def read(self, rows: Sequence[Tokens], prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """The completions whose tokens are these rows, one for each prompt, sampled elsewhere."""
        stops = Stops.of(self.tokenizer, sampling.stop)
        return [_said(row, prompt, stops, "policy") for row, prompt in zip(rows, prompts, strict=True)]

    def check(self, prompts: Sequence[Prompt], sampling: Sampling) -> None:
        """Raises `UserError` for prompts, completions and tokens to stop at that the model cannot read."""
        known = embedded_ids(self.model)
        for prompt in prompts:
            if known is None or not all(0 <= token < known for token in prompt.tokens):
                check_ids(self.model, prompt.tokens, f"prompts: {prompt.id or repr(prompt.text)}")
        stop = (i for i in Stops.of(self.tokenizer, sampling.stop).ids - {*self.tokenizer.eos_token_ids})
        check_ids(self.model, stop, "sampler: stop")
        longest, positions = max((len(p.tokens) for p in prompts), default=0), learned_positions(self.model)
        if positions is not None and longest + sampling.max_tokens > positions:
            raise UserError(
                f"model: it has learned {positions:,} positions, and prompts of up to {longest:,} tokens "
                f"with completions of up to {sampling.max_tokens:,} need {longest + sampling.max_tokens:,}. "
                "Lower sampler.max_completion_length or prompts.max_length."
            )

    def likeliest(self, prompt: Prompt, count: int) -> tuple[Completion, mx.array]:
        """The `count` likeliest tokens one after another, and the logits ``[count, V]`` that gave them."""
        self.model.eval()
        recorder = _Recorder(Sampling(temperature=0.0, max_tokens=count), 0)
        (row,) = self._sample(
            [prompt.tokens], recorder.sampling, lambda _: False, 0, lambda *_: recorder.start()
        )
        return Completion(row, "", stopped=False), mx.concatenate(recorder.logits[:count])

    def _sample(
        self,
        prompts: list[Tokens],
        sampling: Sampling,
        ends: Ends,
        seed: int,
        make_sampler: Callable[[Sampling, int], TokenSampler] = TokenSampler,
        told: Told = ignore,
        first: int = 0,
    ) -> list[Tokens]:
        numbers = range(first, first + len(prompts))
        model = fuse_adapters(self.model)
        while True:
            sampler = make_sampler(sampling, seed)
            request = Request(
                prompts, sampler, ends, self.pool_bytes, told, numbers=numbers, padding=self._padding
            )
            try:
                rows = self._engines[0](model, request)
                if not sampler.sound.item():
                    raise StopRun(NOT_FINITE, failed=True, resumable=False)
                return rows
            except ValueError:
                # mlx-lm, mlx and the pool refuse what they cannot batch with a ValueError.
                if len(self._engines) == 1:
                    raise
                self._engines.pop(0)


def _said(row: Tokens, prompt: Prompt, stops: Stops, source: Source) -> Completion:
    said = Completion(row, stops.text(row), stops.ends(row), source)
    return with_answer_read(said, prompt.tokens, stops)


class _Recorder(TokenSampler):
    """Keeps the logits of every step, since `start` was last called."""

    def start(self) -> _Recorder:
        self.logits: list[mx.array] = []
        return self

    def __call__(self, logits: mx.array, rows: Sequence[int] | None = None) -> mx.array:
        self.logits.append(logits)
        return super().__call__(logits, rows)


def _by_length(model: nn.Module, request: Request) -> list[Tokens]:
    """One pool for each prompt length."""
    prompts = request.prompts
    rows: dict[int, Tokens] = {}
    for length in dict.fromkeys(map(len, prompts)):
        group = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        pool = sample_pool(model, request.part(group))
        rows |= zip(group, pool, strict=True)
    return [rows[i] for i in range(len(prompts))]


def _one_by_one(model: nn.Module, request: Request) -> list[Tokens]:
    rows = []
    for number, prompt in zip(request.numbers, request.prompts, strict=True):
        row: list[int] = []
        sampler = partial(request.sampler, rows=[number])
        for token, _ in generate_step(
            mx.array(prompt), model, max_tokens=request.max_tokens, sampler=sampler
        ):
            row.append(int(token))
            request.told(0)
            if request.ends(row):
                break
        rows.append(tuple(row))
        request.told(1)
    return rows
