"""Copies of a model that share its weights: the policy, its reference and a judge of the same base.

mlx arrays are values: training replaces a module's arrays and never writes into them. A copy of the module
tree that holds the same arrays therefore costs no memory. It does not change while the model is trained, and
it takes adapters that the model does not get.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from prefloop.model.mlx_lm_internals import copy_module


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


def _copy(node: Any, seen: dict[int, Any]) -> Any:
    if isinstance(node, nn.Module):
        if id(node) not in seen:
            seen[id(node)] = twin = copy_module(node)
            for key, value in twin.items():
                twin[key] = _copy(value, seen)
        return seen[id(node)]
    if isinstance(node, (list, tuple)):
        return type(node)(_copy(value, seen) for value in node)
    if isinstance(node, dict):
        return {key: _copy(value, seen) for key, value in node.items()}
    return node
