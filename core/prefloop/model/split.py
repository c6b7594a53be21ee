"""A language model in two parts: the backbone, which gives hidden states, and the output head.

mlx-lm's models take token ids and give logits at every position. Only a few of these positions are ever
wanted here (a completion's, or the one where a judge answers), and with a vocabulary of 150,000 the head is
most of the work. So the model's own class is called with its backbone replaced by a stand-in, which either
records the hidden states (the logits, being lazy, then cost nothing) or hands in some that were chosen. That
way every family keeps its own head, with its scale and its soft cap, and no family needs code of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from prefloop.cpu.attention import inference_attention

__all__ = ["SplitModel", "inference_attention", "padded"]

_BACKBONES = ("model", "transformer", "backbone")


class SplitModel:
    """An mlx-lm model as a `backbone`, which gives hidden states, and an `lm_head`, which gives logits.

    If the model cannot be split, `backbone` returns logits and `lm_head` is the identity. `whole` is the
    unchanged model itself. Split a model after it has got its adapters; the parts follow their training.
    """

    def __init__(self, model: nn.Module) -> None:
        self.whole = model
        self._shell, self._stub = _split(model)
        self.is_split = self._stub is not None and self._agrees()

    def backbone(self, tokens: mx.array, cache: Sequence[Any] | None = None) -> mx.array:
        """``[N, L]`` token ids to ``[N, L, H]`` hidden states. `cache` is mlx-lm's, one for each layer."""
        if not self.is_split:
            logits: mx.array = self.whole(tokens, cache=cache)
            return logits
        assert self._stub is not None
        return self._stub.record(lambda: self._shell(tokens, cache=cache))

    def lm_head(self, hidden: mx.array) -> mx.array:
        """``[M, H]`` hidden states, from any positions, to ``[M, V]`` logits."""
        if not self.is_split:
            return hidden
        assert self._stub is not None
        tokens = mx.zeros((1, len(hidden)), dtype=mx.int32)
        return self._stub.given(hidden[None], lambda: self._shell(tokens))[0]

    def head_modules(self) -> list[nn.Module]:
        """The modules that the head computes with: the output layer or, where that is tied, the embedding."""
        if not self.is_split:
            return []
        assert self._stub is not None
        self.lm_head(self._stub.example)
        own = [child for child in self._shell.children().values() if isinstance(child, nn.Module)]
        return own + [m for m in self._stub.accessed.values() if isinstance(m, nn.Module)]

    def _agrees(self) -> bool:
        """Whether the parts together give the model's own logits."""
        tokens = mx.array([[0, 1]], dtype=mx.int32)
        whole = self.whole(tokens).astype(mx.float32)
        try:
            self.is_split = True
            assert self._stub is not None
            hidden = self.backbone(tokens)[0]
            self._stub.example = mx.zeros_like(hidden[:1])
            parts = self.lm_head(hidden).astype(mx.float32)
            return parts.shape == whole.shape[1:] and bool(mx.allclose(parts, whole[0], rtol=1e-2, atol=1e-2))
        except (AttributeError, TypeError, ValueError, IndexError):
            return False


def padded(rows: Sequence[Sequence[int]]) -> mx.array:
    """Rows of token ids padded on the right, where a causal model cannot look: ``[N, L]`` int32."""
    longest = max(map(len, rows))
    return mx.array([[*row, *[0] * (longest - len(row))] for row in rows], dtype=mx.int32)


class _StandIn:
    """Takes the backbone's place: calls it and records what comes out, or gives what it was given instead."""

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

    def record(self, call: Any) -> mx.array:
        try:
            call()
            if not isinstance(self._recorded, mx.array):
                raise TypeError("the backbone gave no array")
            return self._recorded
        finally:
            self._recorded = None

    def given(self, hidden: mx.array, call: Any) -> mx.array:
        self.accessed.clear()
        self._given = hidden
        try:
            logits: mx.array = call()
            return logits
        finally:
            self._given = None


def _split(model: nn.Module) -> tuple[nn.Module, _StandIn | None]:
    """A shallow copy of the model with a stand-in for its backbone; None where no backbone was found."""
    if not isinstance(model, nn.Module):
        return model, None  # a function of tokens, such as a scripted stand-in
    shell = copy.copy(model)
    if isinstance(inner := model.get("language_model"), nn.Module):
        twin, stub = _split(inner)
        shell["language_model"] = twin
        return shell, stub
    name = next((n for n in _BACKBONES if isinstance(model.get(n), nn.Module)), None)
    if name is None or any(isinstance(value, mx.array) for value in model.values()):
        return shell, None  # arrays at the top would be left behind when the model is updated
    stub = _StandIn(model[name])
    setattr(shell, name, stub)
    return shell, stub
