"""A language model in two parts: the backbone, which gives hidden states, and the output head.

mlx-lm's models take token ids and give logits at every position. Only a few positions are needed here (those
of a completion, or the one where a judge answers), and with a vocabulary of 150,000 the head is most of the
work. So the model's own class is called with a stand-in for its backbone, which either records the hidden
states (the logits are lazy and then cost nothing) or returns chosen ones. So every family keeps its own
head, with its scale and its soft cap, and no family needs code of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from prefloop.cpu.attention import inference_attention
from prefloop.model.mlx_lm_internals import replace_backbone

__all__ = ["SplitModel", "evaluation_mode", "inference_attention", "padded"]


class SplitModel:
    """An mlx-lm model as a `backbone`, which gives hidden states, and an `lm_head`, which gives logits.

    If the model cannot be split, `backbone` returns logits and `lm_head` is the identity. `whole` is the
    unchanged model itself. Split a model after it has got its adapters; the parts follow their training.
    """

    def __init__(self, model: nn.Module) -> None:
        self.whole = model
        self._shell, stand_in = replace_backbone(model, _StandIn)
        self._stand_in: _StandIn = stand_in
        with evaluation_mode(model):
            self.is_split = stand_in is not None and self._agrees()

    def backbone(self, tokens: mx.array, cache: Sequence[Any] | None = None) -> mx.array:
        """``[N, L]`` token ids to ``[N, L, H]`` hidden states. `cache` is mlx-lm's, one for each layer."""
        if not self.is_split:
            logits: mx.array = self.whole(tokens, cache=cache)
            return logits
        return self._stand_in.record(lambda: self._shell(tokens, cache=cache))

    def lm_head(self, hidden: mx.array) -> mx.array:
        """``[M, H]`` hidden states, from any positions, to ``[M, V]`` logits."""
        if not self.is_split:
            return hidden
        tokens = mx.zeros((1, len(hidden)), dtype=mx.int32)
        return self._stand_in.substitute(hidden[None], lambda: self._shell(tokens))[0]

    def head_modules(self) -> list[nn.Module]:
        """The modules that the head computes with: the output layer or, where that is tied, the embedding."""
        if not self.is_split:
            return []
        self.lm_head(self._stand_in.example)
        own = [child for child in self._shell.children().values() if isinstance(child, nn.Module)]
        return own + [m for m in self._stand_in.accessed.values() if isinstance(m, nn.Module)]

    def _agrees(self) -> bool:
        """Whether the parts together give the model's own logits."""
        tokens = mx.array([[0, 1]], dtype=mx.int32)
        whole = self.whole(tokens).astype(mx.float32)
        mx.eval(whole)  # by itself: ranks that share a model must not meet in two passes at once
        try:
            self.is_split = True
            hidden = self.backbone(tokens)[0]
            self._stand_in.example = mx.zeros_like(hidden[:1])
            parts = self.lm_head(hidden).astype(mx.float32)
            return parts.shape == whole.shape[1:] and bool(mx.allclose(parts, whole[0], rtol=1e-2, atol=1e-2))
        except (AttributeError, TypeError, ValueError, IndexError):
            return False


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Within, the model drops nothing out, so that it can be compared with itself."""
    trains = isinstance(model, nn.Module) and model.training
    if trains:
        model.eval()
    try:
        yield
    finally:
        if trains:
            model.train()


def padded(rows: Sequence[Sequence[int]]) -> mx.array:
    """Rows of token ids padded on the right, where a causal model cannot look: ``[N, L]`` int32."""
    longest = max(map(len, rows))
    return mx.array([[*row, *[0] * (longest - len(row))] for row in rows], dtype=mx.int32)


class _StandIn:
    """Calls the backbone and records its output, or returns given hidden states in its place."""

    def __init__(self, backbone: nn.Module) -> None:
        self._backbone = backbone
        self._given: mx.array | None = None
        self._recorded: mx.array | None = None
        self.accessed: dict[str, Any] = {}
        self.example = mx.zeros((1, 1))

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        if self._given is not None:
            return self._given
        self._recorded = self._backbone(*args, **kwargs)
        return self._recorded

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.accessed[name] = getattr(self._backbone, name)
        return self.accessed[name]

    def record(self, call: Callable[[], Any]) -> mx.array:
        """What the backbone gives in `call`."""
        call()
        recorded, self._recorded = self._recorded, None
        if not isinstance(recorded, mx.array):
            raise TypeError("the backbone gave no array")
        return recorded

    def substitute(self, hidden: mx.array, call: Callable[[], mx.array]) -> mx.array:
        """What `call` makes of these hidden states."""
        self.accessed.clear()
        self._given = hidden
        try:
            return call()
        finally:
            self._given = None
