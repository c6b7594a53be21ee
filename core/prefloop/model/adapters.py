"""Adapters: which tensors of a model are trained, their files, and adapters fused into the weights.

The files are those that ``mlx_lm generate --adapter-path`` reads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from prefloop.embedded import local_path
from prefloop.errors import UserError, said_of
from prefloop.model.weight_sharing import arrays, copy_module_tree
from prefloop.settings import AdapterConfig

ADAPTERS = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

FUSE_LIMIT = 64 << 20
"""Fuse adapters for sampling only if the adapted weights fit in this many bytes."""


def make_trainable(model: nn.Module, adapter: AdapterConfig) -> None:
    """Freeze the model but for its adapters or, for full fine-tuning, its last layers.

    Raises `UserError` where the model cannot be trained like this.
    """
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model.freeze()
    if adapter.type == "full":
        _unfreeze(model, adapter.layers)
    else:
        parameters = _lora_parameters(adapter)
        try:
            linear_to_lora_layers(model, adapter.layers, parameters, use_dora=adapter.type == "dora")
        except (ValueError, AttributeError) as error:
            raise UserError(f"adapter.type: {adapter.type} does not fit this model: {error}") from error
    if not arrays(model.trainable_parameters()):
        raise UserError("adapter: nothing is trainable with these settings. Check adapter.keys and layers.")
    mx.eval(model.parameters())


def save_adapters(folder: Path, model: nn.Module, adapter: AdapterConfig, base: Path) -> None:
    """Write the trained tensors of `model`, which was loaded from the folder `base`."""
    mx.save_safetensors(str(folder / ADAPTERS), arrays(model.trainable_parameters()))
    config: dict[str, Any] = {"fine_tune_type": adapter.type, "num_layers": adapter.layers}
    config["model"] = str(base)
    if adapter.type != "full":
        config["lora_parameters"] = _lora_parameters(adapter)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load_adapters(model: nn.Module, source: str) -> None:
    """Start from a folder or file of adapters that mlx-lm or prefloop wrote.

    Raises `UserError` where they do not fit.
    """
    with said_of("adapter.resume_from"):
        path = local_path(source)
        file = path / ADAPTERS if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"there is no file '{file}'.")
        try:
            saved = arrays(mx.load(str(file)))
        except Exception as error:
            raise UserError(f"'{file}' is damaged: {error}") from error
        _check_fit(file, saved, arrays(model.trainable_parameters()))
    model.load_weights(list(saved.items()), strict=False)
    mx.eval(model.parameters())


def fuse_adapters(model: nn.Module) -> nn.Module:
    """A copy of `model` for sampling, with LoRA or DoRA fused into its weights, or `model` itself.

    A small model takes longer to start an adapter's products than to compute them. Weights of less than
    float32 would lose the small changes that adapters begin with, so they are never fused.
    """
    adapted = [module for _, module in model.named_modules() if "lora_a" in module]
    weights = [w for module in adapted for w in arrays(module.parameters()).values()]
    if not adapted or not all(hasattr(module, "fuse") for module in adapted):
        return model
    if any(w.dtype != mx.float32 for w in weights) or sum(w.nbytes for w in weights) > FUSE_LIMIT:
        return model
    return fused_copy(model)


def fused_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` with its adapters fused into the weights, whatever these are."""
    twin = copy_module_tree(model)
    fused = [(name, module.fuse()) for name, module in model.named_modules() if hasattr(module, "fuse")]
    twin.update_modules(tree_unflatten(fused))
    twin.eval()
    return twin


def _unfreeze(model: nn.Module, layers: int) -> None:
    if any("scales" in module for _, module in model.named_modules()):
        raise UserError(
            "adapter.type: full fine-tuning cannot train quantized weights. Use lora or dora, or "
            "a model that is not quantized."
        )
    if layers < 0:
        model.unfreeze()
    for layer in model.layers[-layers:] if layers > 0 else []:
        layer.unfreeze()


def _lora_parameters(adapter: AdapterConfig) -> dict[str, Any]:
    keys = {"keys": list(adapter.keys)} if adapter.keys else {}
    return {"rank": adapter.rank, "scale": adapter.scale, "dropout": adapter.dropout, **keys}


def _check_fit(file: Path, saved: dict[str, mx.array], wanted: dict[str, mx.array]) -> None:
    """Raises `UserError` where saved tensors do not fit the trained ones."""
    if strangers := sorted(saved.keys() - wanted.keys()):
        raise UserError(
            f"{len(strangers)} of {len(saved)} tensors in '{file}' have no place in the model, "
            f"'{strangers[0]}' for one. Check adapter.type, layers and keys."
        )
    if missing := sorted(wanted.keys() - saved.keys()):
        raise UserError(
            f"'{file}' lacks {len(missing)} of the {len(wanted)} tensors that are trained, "
            f"'{missing[0]}' for one. Check adapter.type, layers and keys."
        )
    for name in sorted(saved):
        if saved[name].shape != wanted[name].shape:
            raise UserError(
                f"'{name}' in '{file}' has shape {saved[name].shape}, the model wants "
                f"{wanted[name].shape}. Check adapter.rank."
            )
