"""Sampling completions through mlx-lm, token ids in and token ids out.

mlx-lm's `BatchGenerator` does the work wherever the model allows it. Models whose attention cannot take
rows of unequal length are sampled in groups of equal length, and models whose cache cannot be batched one
prompt at a time; the first failure decides, and the choice is remembered for the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.sample_utils import make_sampler

from prefloop.types import Completion, Prompt, Sampling, Source

Tokens = tuple[int, ...]
Engine = Callable[[nn.Module, Sequence[Tokens], Sampling, set[int]], list[Tokens]]


class Generator:
    """Samples from one model.

    The model is read at each call, so what is sampled follows the policy as it is trained.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._engines: list[Engine] = [_together, _by_length, _one_by_one]

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, seed: int, source: Source = "policy"
    ) -> list[Completion]:
        """One completion per prompt, with the stop token where one was sampled. Seeded by `seed`."""
        if not prompts:
            return []
        self.model.eval()
        stop = {int(i) for i in self.tokenizer.eos_token_ids}
        rows = self._sample([p.tokens for p in prompts], sampling, stop, seed)
        return [self._completion(row, stop, source) for row in rows]

    def _sample(self, prompts: list[Tokens], sampling: Sampling, stop: set[int], seed: int) -> list[Tokens]:
        while True:
            mx.random.seed(seed)
            try:
                return self._engines[0](self.model, prompts, sampling, stop)
            except ValueError:
                # mlx-lm and mlx refuse what they cannot batch with a ValueError.
                if len(self._engines) == 1:
                    raise
                self._engines.pop(0)

    def _completion(self, tokens: Tokens, stop: set[int], source: Source) -> Completion:
        stopped = tokens[-1] in stop
        text = self.tokenizer.decode(list(tokens[:-1] if stopped else tokens), skip_special_tokens=True)
        return Completion(tokens, text, stopped, source)


def _together(
    model: nn.Module, prompts: Sequence[Tokens], sampling: Sampling, stop: set[int]
) -> list[Tokens]:
    """One batch of all rows; a row leaves as soon as it stops."""
    generator = BatchGenerator(
        model,
        max_tokens=sampling.max_tokens,
        stop_tokens=[[i] for i in sorted(stop)],
        sampler=_sampler(sampling),
        completion_batch_size=len(prompts),
        prefill_batch_size=len(prompts),
    )
    try:
        rows: dict[int, list[int]] = {uid: [] for uid in generator.insert([list(p) for p in prompts])}
        while responses := generator.next_generated():
            for response in responses:
                rows[response.uid].append(int(response.token))
    finally:
        generator.close()
    return [tuple(rows[uid]) for uid in sorted(rows)]


def _by_length(
    model: nn.Module, prompts: Sequence[Tokens], sampling: Sampling, stop: set[int]
) -> list[Tokens]:
    """One batch for each prompt length."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[len(prompt)].append(i)
    rows: dict[int, Tokens] = {}
    for group in groups.values():
        rows |= zip(group, _together(model, [prompts[i] for i in group], sampling, stop), strict=True)
    return [rows[i] for i in range(len(prompts))]


def _one_by_one(
    model: nn.Module, prompts: Sequence[Tokens], sampling: Sampling, stop: set[int]
) -> list[Tokens]:
    rows = []
    for prompt in prompts:
        row: list[int] = []
        steps = generate_step(
            mx.array(prompt), model, max_tokens=sampling.max_tokens, sampler=_sampler(sampling)
        )
        for token, _ in steps:
            row.append(int(token))
            if row[-1] in stop:
                break
        rows.append(tuple(row))
    return rows


def _sampler(sampling: Sampling) -> Callable[[mx.array], mx.array]:
    draw: Callable[[mx.array], mx.array] = make_sampler(
        temp=sampling.temperature, top_p=sampling.top_p, min_p=sampling.min_p, top_k=sampling.top_k
    )
    return draw
