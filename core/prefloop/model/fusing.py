"""A model with its adapters folded into its weights, for as long as it is sampled from."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from prefloop.model.weight_sharing import arrays, copy_module_tree

FUSE_LIMIT = 64 << 20
"""Bytes of weights that are copied at most: beyond that two small products more per layer hardly matter."""


def fuse_adapters(model: nn.Module) -> nn.Module:
    """`model` itself, or the same with LoRA or DoRA folded in, where that costs little and loses nothing.

    A small model spends more on starting an adapter's products than on computing them. Weights of less than
    float32 would lose the small changes that adapters begin with, so they are left alone.
    """
    adapted = [(name, module) for name, module in model.named_modules() if "lora_a" in module]
    weights = [w for _, module in adapted for w in arrays(module.parameters()).values()]
    foldable = all(hasattr(module, "fuse") for _, module in adapted)
    if not adapted or not foldable or any(w.dtype != mx.float32 for w in weights):
        return model
    if sum(w.nbytes for w in weights) > FUSE_LIMIT:
        return model
    twin = copy_module_tree(model)
    twin.update_modules(tree_unflatten([(name, module.fuse()) for name, module in adapted]))
    twin.eval()
    return twin
