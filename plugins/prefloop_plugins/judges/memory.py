"""How much memory a language model takes while it reads questions, for the plan of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from attrs import frozen
from mlx_lm.models.cache import make_prompt_cache

from prefloop.model.mlx_lm_internals import CACHE_BLOCK, cache_bytes_per_token

ARRAYS = {"hidden_size": 7, "intermediate_size": 3}
"""Of each width, how many arrays of all tokens are there at the peak of a pass without a gradient: mlx makes
room for some operations ahead. Measured on its CPU back end, with Llama and Qwen3."""


@frozen
class Shape:
    """What a token takes, in bytes."""

    cached: int
    computed: int

    @classmethod
    def of(cls, loaded: Any) -> Shape:
        """That of a loaded model."""
        config: Mapping[str, Any] = loaded.config.get("text_config", loaded.config)
        caches = make_prompt_cache(loaded.model)
        logits = loaded.model(mx.array([[0]]), cache=caches)  # lazy: the shapes cost no pass
        widths = sum(count * int(np.max(config.get(width) or 0)) for width, count in ARRAYS.items())
        return cls(int(cache_bytes_per_token(caches)), widths * logits.itemsize)

    def reading(self, rows: int, before: int, tokens: int, *, room: int = 0) -> int:
        """So many rows of so many tokens, after what was read `before`, and with `room` for what is written.

        A cache grows by whole blocks.
        """
        cached = before + -(-(tokens + room) // CACHE_BLOCK) * CACHE_BLOCK
        return rows * (cached * self.cached + tokens * self.computed)
