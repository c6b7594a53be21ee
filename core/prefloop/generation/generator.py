"""Completions of prompts, from whatever model it is.

All rows are sampled in one pool where the model allows it. Models whose attention cannot take rows of unequal
length are sampled in pools of equal length, and models whose cache cannot be batched one prompt at a time;
the first failure decides, and the choice is remembered for the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import generate_step

from prefloop.generation.drawing import Drawer
from prefloop.generation.merging import merged
from prefloop.generation.pool import sample_pool
from prefloop.types import Completion, Prompt, Sampling, Source

Tokens = tuple[int, ...]
Engine = Callable[[nn.Module, Sequence[Tokens], Sampling, set[int], Drawer, int], list[Tokens]]

POOL_BYTES = 8 << 30
"""Caches and logits of a pool stay below this; more rows than fit are sampled in several pools."""


class Generator:
    """Samples from one model.

    The model is read at each call, so what is sampled follows the policy as it is trained. `pool_bytes` is
    what the caches and logits of the rows that are sampled together may take.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, *, pool_bytes: int = POOL_BYTES) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pool_bytes = pool_bytes
        self._engines: list[Engine] = [sample_pool, _by_length, _one_by_one]

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int, source: Source = "policy"
    ) -> list[Completion]:
        """One completion per prompt, with the stop token where one was sampled. Seeded by `seed`.

        Equal prompts pass through the model once.
        """
        if not prompts:
            return []
        self.model.eval()
        stop = {int(i) for i in self.tokenizer.eos_token_ids}
        rows = self._sample([p.tokens for p in prompts], sampling, stop, seed)
        return [self._completion(row, stop, source) for row in rows]

    def _sample(self, prompts: list[Tokens], sampling: Sampling, stop: set[int], seed: int) -> list[Tokens]:
        model = merged(self.model)
        while True:
            drawer = Drawer(sampling, seed)
            try:
                return self._engines[0](model, prompts, sampling, stop, drawer, self.pool_bytes)
            except ValueError:
                # mlx-lm, mlx and the pool refuse what they cannot batch with a ValueError.
                if len(self._engines) == 1:
                    raise
                self._engines.pop(0)

    def _completion(self, tokens: Tokens, stop: set[int], source: Source) -> Completion:
        stopped = tokens[-1] in stop
        text = self.tokenizer.decode(list(tokens[:-1] if stopped else tokens), skip_special_tokens=True)
        return Completion(tokens, text, stopped, source)


def _by_length(
    model: nn.Module,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    stop: set[int],
    drawer: Drawer,
    pool_bytes: int,
) -> list[Tokens]:
    """One pool for each prompt length."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[len(prompt)].append(i)
    rows: dict[int, Tokens] = {}
    for group in groups.values():
        pool = sample_pool(model, [prompts[i] for i in group], sampling, stop, drawer, pool_bytes)
        rows |= zip(group, pool, strict=True)
    return [rows[i] for i in range(len(prompts))]


def _one_by_one(
    model: nn.Module,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    stop: set[int],
    drawer: Drawer,
    pool_bytes: int,
) -> list[Tokens]:
    rows = []
    for prompt in prompts:
        row: list[int] = []
        for token, _ in generate_step(
            mx.array(prompt), model, max_tokens=sampling.max_tokens, sampler=drawer
        ):
            row.append(int(token))
            if row[-1] in stop:
                break
        rows.append(tuple(row))
    return rows
