"""Copies of a model that share its weights: the policy, its reference and a judge of the same base.

mlx arrays are values: training replaces a module's arrays and never writes into them. So a copy of the
module tree alone, holding the same arrays, is a picture of the model that costs no memory, stays as it
is while the other one is trained, and takes adapters without the other one getting them.
"""

from __future__ import annotations

import copy
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

_CHECKPOINTED = "_prefloop_checkpointed"


def view(model: nn.Module) -> nn.Module:
    """A frozen copy of the module tree that holds the same arrays."""
    tree = copy_module_tree(model)
    tree.freeze()
    tree.eval()
    return tree


def copy_module_tree(model: nn.Module) -> nn.Module:
    """A copy of the module tree that can be changed and trained without touching `model`."""
    tree: nn.Module = _copy(model, {})
    return tree


def arrays(tree: Any) -> dict[str, mx.array]:
    """The arrays of a tree of parameters, gradients or optimizer state, by their path."""
    return dict(tree_flatten(tree))


def checkpoint_layers(model: nn.Module) -> None:
    """mlx-lm's gradient checkpointing, for the layers of this model alone.

    It patches a class, so the layers get one of their own first, lest every model of the family have it.
    """
    from mlx_lm.tuner.trainer import grad_checkpoint

    if is_checkpointed(model):
        return
    for cls in {type(layer) for layer in model.layers}:
        own_class = type(cls.__name__, (cls,), {_CHECKPOINTED: True})
        layers = [layer for layer in model.layers if type(layer) is cls]
        for layer in layers:
            layer.__class__ = own_class
        grad_checkpoint(layers[0])


def is_checkpointed(model: nn.Module) -> bool:
    """Whether `checkpoint_layers` was called for this model."""
    return any(getattr(type(layer), _CHECKPOINTED, False) for layer in getattr(model, "layers", ()))


def _copy(node: Any, seen: dict[int, Any]) -> Any:
    if isinstance(node, nn.Module):
        if id(node) not in seen:
            seen[id(node)] = twin = copy.copy(node)
            twin._no_grad = set(getattr(twin, "_no_grad", ()))  # recurrent_gemma's model never made one
            for key, value in twin.items():
                twin[key] = _copy(value, seen)
        return seen[id(node)]
    if isinstance(node, (list, tuple)):
        return type(node)(_copy(value, seen) for value in node)
    if isinstance(node, dict):
        return {key: _copy(value, seen) for key, value in node.items()}
    return node
