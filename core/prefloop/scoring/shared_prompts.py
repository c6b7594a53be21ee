"""Hidden states of completions, with each prompt computed once for the completions that share it.

The prompts, all but their last token, go through the backbone with a cache of keys and values; the cache is
then repeated for each completion, which continues from the prompt's last token. Unlike a cache for
generating, this one is part of the graph, so gradients flow back through the prompt too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache, RotatingKVCache, make_prompt_cache

from prefloop.model.split import SplitModel, padded

Ids = Sequence[int]


class _GraphCache(BatchKVCache):  # type: ignore[misc]
    """mlx-lm's cache for prompts padded on the left, grown by concatenation rather than written into."""

    keys: Any
    values: Any
    offset: mx.array

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        if self.keys is not None:
            keys = mx.concatenate([self.keys, keys], axis=2)
            values = mx.concatenate([self.values, values], axis=2)
        added = keys.shape[2] - self._idx
        self.keys, self.values = keys, values
        self._idx += added
        self.offset = self.offset + added
        return keys, values

    def repeated(self, times: int) -> _GraphCache:
        """The same cache for `times` as many rows: all of them, then all of them again."""
        twin = _GraphCache([0])
        arrays = (self.keys, self.values, self.offset, self.left_padding)
        twin.state = (*(mx.concatenate([a] * times) for a in arrays), self._idx)
        return twin


def supports_prompt_sharing(model: SplitModel) -> bool:
    """Whether the model's prompts can be shared: its caches hold keys and values, and the result agrees.

    Recurrent and hybrid models keep other state; some attention code cannot take padded prompts.
    """
    kinds = {type(cache) for cache in make_prompt_cache(model.whole)}
    if not kinds <= {KVCache, RotatingKVCache}:
        return False
    prompts, completions = [[0, 1, 2], [1, 2]], [[3, 4], [4, 3], [1, 1], [2, 0]]
    try:
        found = shared_hidden(model, prompts, completions).astype(mx.float32)
        wanted = plain_hidden(model, prompts, completions).astype(mx.float32)
        return bool(mx.allclose(found, wanted, rtol=1e-2, atol=1e-2))
    except (AttributeError, TypeError, ValueError):
        return False


def shared_hidden(model: SplitModel, prompts: Sequence[Ids], completions: Sequence[Ids]) -> mx.array:
    """Hidden states that predict the completions' tokens, ``[N, T, H]``, as `plain_hidden` gives them.

    `completions` are the first completion of each prompt, then the second of each, and so on. Entries
    beyond a completion's end mean nothing.
    """
    before = [prompt[:-1] for prompt in prompts]
    longest = max(map(len, before))
    if longest == 0:
        return plain_hidden(model, prompts, completions)
    padding = [longest - len(row) for row in before]
    tokens = mx.array([[0] * pad + list(row) for pad, row in zip(padding, before, strict=True)])
    caches: list[Any] = [_GraphCache(padding) for _ in make_prompt_cache(model.whole)]
    model.backbone(tokens, cache=caches)
    times = len(completions) // len(prompts)
    last = [prompt[-1] for prompt in prompts] * times
    rows = [[first, *completion[:-1]] for first, completion in zip(last, completions, strict=True)]
    return model.backbone(padded(rows), cache=[cache.repeated(times) for cache in caches])


def plain_hidden(model: SplitModel, prompts: Sequence[Ids], completions: Sequence[Ids]) -> mx.array:
    """The same with one row for each completion, prompt and all: what every model can do."""
    times = len(completions) // len(prompts)
    asked = list(prompts) * times
    hidden = model.backbone(padded([[*p, *c[:-1]] for p, c in zip(asked, completions, strict=True)]))
    width = max(map(len, completions))
    # Position t of the output predicts token t + 1, so a completion starts at the prompt's last token.
    starts = mx.array([len(p) - 1 for p in asked])[:, None]
    positions = mx.minimum(starts + mx.arange(width)[None], hidden.shape[1] - 1)
    return mx.take_along_axis(hidden, positions[..., None], axis=1)
