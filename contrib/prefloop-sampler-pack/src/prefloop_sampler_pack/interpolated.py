"""A model between, or beyond, two others: the logits of one less or plus a share of what divides them.

With the logits of a policy and its reference, ``softmax(policy + extent (policy - reference))`` is in
proportion to ``policy^(1 + extent) reference^(-extent)``, token by token: what is divided by on the way to
probabilities is the same for all tokens, and cancels.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache


class Interpolated(nn.Module):
    """Two models that read the same tokens, as one that mlx-lm samples from.

    Its caches are those of the policy, then those of the reference. Its weights are theirs, not copies.
    """

    def __init__(self, policy: nn.Module, reference: nn.Module, extent: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.policy = policy
        self.reference = reference
        self.extent = extent
        self.own_caches = len(make_prompt_cache(policy))

    def make_cache(self) -> list[Any]:
        """Empty caches for both."""
        return [*make_prompt_cache(self.policy), *make_prompt_cache(self.reference)]

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        """Logits ``[R, T, V]`` in float32, for `tokens` ``[R, T]``."""
        ours = self.policy(tokens, cache=cache[: self.own_caches]).astype(mx.float32)
        theirs = self.reference(tokens, cache=cache[self.own_caches :]).astype(mx.float32)
        logits: mx.array = ours + self.extent * (ours - theirs)
        return logits
