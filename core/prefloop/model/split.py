"""A language model in two parts: the trunk, which gives hidden states, and the output head.

mlx-lm's models take token ids and give logits at every position. Only a few of these positions are ever
wanted here (a completion's, or the one where a judge answers), and with a vocabulary of 150,000 the head is
most of the work. So the model's own class is called with its trunk replaced by a stand-in, which either
records the hidden states (the logits, being lazy, then cost nothing) or hands in some that were chosen. That
way every family keeps its own head, with its scale and its soft cap, and no family needs code of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from prefloop.cpu.attention import without_gradient

__all__ = ["Trunk", "padded", "without_gradient"]

_TRUNKS = ("model", "transformer", "backbone")


class Trunk:
    """The two parts of an mlx-lm `model`, which stays as it is.

    Where its class cannot be divided, `hidden` gives the logits and `head` gives back what it gets, so that
    callers need not ask. Made after the model has its adapters; from then on it follows their training.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._shell, self._stub = _divide(model)
        self.divided = self._stub is not None and self._agrees()

    def hidden(self, tokens: mx.array, cache: Sequence[Any] | None = None) -> mx.array:
        """``[N, L]`` token ids to ``[N, L, H]`` hidden states. `cache` is mlx-lm's, one for each layer."""
        if not self.divided:
            logits: mx.array = self.model(tokens, cache=cache)
            return logits
        assert self._stub is not None
        return self._stub.record(lambda: self._shell(tokens, cache=cache))

    def head(self, hidden: mx.array) -> mx.array:
        """``[M, H]`` hidden states, from any positions, to ``[M, V]`` logits."""
        if not self.divided:
            return hidden
        assert self._stub is not None
        tokens = mx.zeros((1, len(hidden)), dtype=mx.int32)
        return self._stub.given(hidden[None], lambda: self._shell(tokens))[0]

    def head_modules(self) -> list[nn.Module]:
        """The modules that the head computes with: the output layer or, where that is tied, the embedding."""
        if not self.divided:
            return []
        assert self._stub is not None
        self.head(self._stub.example)
        own = [child for child in self._shell.children().values() if isinstance(child, nn.Module)]
        return own + [m for m in self._stub.lent.values() if isinstance(m, nn.Module)]

    def _agrees(self) -> bool:
        """Whether the parts together give the model's own logits."""
        tokens = mx.array([[0, 1]], dtype=mx.int32)
        whole = self.model(tokens).astype(mx.float32)
        try:
            self.divided = True
            assert self._stub is not None
            hidden = self.hidden(tokens)[0]
            self._stub.example = mx.zeros_like(hidden[:1])
            parts = self.head(hidden).astype(mx.float32)
            return parts.shape == whole.shape[1:] and bool(mx.allclose(parts, whole[0], rtol=1e-2, atol=1e-2))
        except (AttributeError, TypeError, ValueError, IndexError):
            return False


def padded(rows: Sequence[Sequence[int]]) -> mx.array:
    """Rows of token ids padded on the right, where a causal model cannot look: ``[N, L]`` int32."""
    longest = max(map(len, rows))
    return mx.array([[*row, *[0] * (longest - len(row))] for row in rows], dtype=mx.int32)


class _StandIn:
    """Takes the trunk's place: calls it and records what comes out, or gives what it was given instead."""

    def __init__(self, trunk: nn.Module) -> None:
        self._trunk = trunk
        self._given: mx.array | None = None
        self._recorded: mx.array | None = None
        self.lent: dict[str, Any] = {}
        self.example = mx.zeros((1, 1))

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        if self._given is not None:
            return self._given
        self._recorded = self._trunk(*args, **kwargs)
        return self._recorded

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.lent[name] = getattr(self._trunk, name)
        return self.lent[name]

    def record(self, call: Any) -> mx.array:
        try:
            call()
            if not isinstance(self._recorded, mx.array):
                raise TypeError("the trunk gave no array")
            return self._recorded
        finally:
            self._recorded = None

    def given(self, hidden: mx.array, call: Any) -> mx.array:
        self.lent.clear()
        self._given = hidden
        try:
            logits: mx.array = call()
            return logits
        finally:
            self._given = None


def _divide(model: nn.Module) -> tuple[nn.Module, _StandIn | None]:
    """A shallow copy of the model with a stand-in where its trunk was; None where no trunk was found."""
    if not isinstance(model, nn.Module):
        return model, None  # a function of tokens, such as a scripted stand-in
    shell = copy.copy(model)
    if isinstance(inner := model.get("language_model"), nn.Module):
        twin, stub = _divide(inner)
        shell["language_model"] = twin
        return shell, stub
    name = next((n for n in _TRUNKS if isinstance(model.get(n), nn.Module)), None)
    if name is None or any(isinstance(value, mx.array) for value in model.values()):
        return shell, None  # arrays at the top would be left behind when the model is updated
    stub = _StandIn(model[name])
    setattr(shell, name, stub)
    return shell, stub
