"""The layers below the trained ones, which policy and reference have in common, computed once for both.

Adapters usually sit on the last layers, and the reference is the same model without them. Up to the first
trained layer both compute the same numbers from the same tokens. The reference goes first; what its last
common layer gives is kept, and the policy's pass goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from prefloop.model.split import evaluation_mode
from prefloop.model.weight_sharing import arrays
from prefloop.scoring.scorer import Scorer, lay_out
from prefloop.types import Completion, Prompt


class CommonLayers:
    """The first `count` layers of a policy and its reference; none where they cannot be left out."""

    def __init__(self, policy: Scorer, reference: Scorer) -> None:
        self._policy, self._reference = (_layers(scorer.model.whole) for scorer in (policy, reference))
        self._outputs: list[Any] = []
        self.count = _alike(policy.model.whole, reference.model.whole)
        if self.count and not self._agrees(policy, reference):
            self.count = 0

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Within, the reference's passes keep what the policy's begin with."""
        self._outputs = []
        common = self._reference[: self.count]
        recorder = [_Recorder(layer, self._outputs) for layer in common[-1:]]
        with _replaced(self._reference, [*common[:-1], *recorder]):
            yield

    @contextmanager
    def given(self) -> Iterator[list[Any]]:
        """Within, the policy's passes begin with what was recorded, in its order, if anything was.

        Gives what is not used yet.
        """
        kept, self._outputs = self._outputs, []
        common = self._policy[: self.count] if kept else []
        kinds = [_Skipped] * (len(common) - 1) + [_Given]
        stand_ins = [kind(layer, kept) for kind, layer in zip(kinds, common, strict=False)]
        with _replaced(self._policy, stand_ins):
            yield kept

    def _agrees(self, policy: Scorer, reference: Scorer) -> bool:
        """Whether the policy's hidden states stay the same, with prompts of unequal length.

        Not where one of both alone computes prompts once, as under gradient checkpointing.
        """
        if policy.shares_prompts != reference.shares_prompts:
            return False
        prompts = [Prompt((2, 0, 1, 3), ""), Prompt((1, 2), "")]
        ids: list[tuple[int, ...]] = [(3, 1), (0, 3), (2,), (0, 1)]
        rows = lay_out(prompts, [Completion(tokens, "") for tokens in ids])
        with evaluation_mode(policy.model.whole):
            wanted = policy.hidden(rows).states.astype(mx.float32)
            try:
                with self.recorded():
                    reference.hidden(rows)
                passes = len(self._outputs)
                with self.given() as left:
                    found = policy.hidden(rows).states.astype(mx.float32)
                return passes > 0 and not left and bool(mx.allclose(found, wanted, rtol=1e-2, atol=1e-2))
            except (AttributeError, TypeError, ValueError, IndexError):
                return False


class _StandIn:
    """In the place of a layer, whose attributes the model may read; `outputs` is what was recorded."""

    def __init__(self, layer: nn.Module, outputs: list[Any]) -> None:
        self._layer = layer
        self._outputs = outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class _Recorder(_StandIn):
    """Keeps what its layer gives."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._outputs.append(self._layer(*args, **kwargs))
        return self._outputs[-1]


class _Skipped(_StandIn):
    """Passes on what it gets."""

    def __call__(self, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        return hidden


class _Given(_StandIn):
    """Gives what was recorded."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._outputs.pop(0)


@contextmanager
def _replaced(layers: list[Any], stand_ins: Sequence[Any]) -> Iterator[None]:
    """Within, these stand in for as many of the first layers."""
    count = len(stand_ins)
    before = layers[:count]
    layers[:count] = stand_ins
    try:
        yield
    finally:
        layers[:count] = before


def _layers(model: nn.Module) -> list[Any]:
    """The list of layers that the model itself goes through."""
    if not isinstance(model, nn.Module):
        return []  # a function of tokens, or no reference at all, in a test
    found = (module.get("layers") for module in model.modules())
    return next((layers for layers in found if isinstance(layers, list)), [])


def _alike(policy: nn.Module, reference: nn.Module) -> int:
    """How many of the first layers hold the same arrays in both, with nothing trained in or before them."""
    ours, theirs = _layers(policy), _layers(reference)
    if not ours or not theirs:
        return 0
    trained = set(map(id, arrays(policy.trainable_parameters()).values()))

    def same(one: dict[str, int], other: dict[str, int]) -> bool:
        return one == other and trained.isdisjoint(one.values())

    if not same(_around(policy), _around(reference)):  # the embedding among them
        return 0
    pairs = zip(ours, theirs, strict=False)
    return len([*takewhile(lambda pair: same(*map(_ids, pair)) and not _drops(pair[0]), pairs)])


def _around(model: nn.Module) -> dict[str, int]:
    """What `_ids` gives for all that lies in no layer."""
    inside = {array for layer in _layers(model) for array in _ids(layer).values()}
    return {name: array for name, array in _ids(model).items() if array not in inside}


def _ids(module: nn.Module) -> dict[str, int]:
    """The arrays of a module by their path, as `id`."""
    return {name: id(array) for name, array in arrays(module.parameters()).items()}


def _drops(layer: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) for module in layer.modules())
