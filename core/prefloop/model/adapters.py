"""Adapters: which tensors of a model are trained, their files, and adapters fused into the weights.

The files are those that ``mlx_lm generate --adapter-path`` reads.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from prefloop.embedded import local_path
from prefloop.errors import UserError, did_you_mean, said_of
from prefloop.model.mlx_lm_internals import not_finite
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
        _check_keys(model, adapter)
        try:
            linear_to_lora_layers(model, adapter.layers, parameters, use_dora=adapter.type == "dora")
            model(mx.array([[0]]))  # lazy; a model may compute with a layer's weight itself
        except (ValueError, AttributeError) as error:
            said = str(error).rstrip(".")
            raise UserError(
                f"adapter.type: {adapter.type} does not fit this model: {said}. Name others in adapter.keys."
            ) from error
    if not arrays(model.trainable_parameters()):
        raise UserError("adapter: nothing is trainable with these settings. Check adapter.keys and layers.")
    mx.eval(model.parameters())


def _check_keys(model: nn.Module, adapter: AdapterConfig) -> None:
    """Raises `UserError` for a key that names no layer, and for a rank wider than every layer."""
    layers = model.layers[-max(adapter.layers, 0) :]
    places = dict(model.named_modules())
    places.update(place for layer in layers for place in layer.named_modules())
    known = {name: module for name, module in places.items() if "weight" in module and module.weight.ndim > 1}
    for key in adapter.keys or ():
        if key in places:
            continue
        if key == "lm_head":
            raise UserError(
                "adapter.keys: this model has no lm_head, its output layer is the embedding. Leave it out or "
                f"name that: {', '.join(n for n, m in known.items() if isinstance(m, nn.Embedding))}."
            )
        inside = [name for layer in layers for name, _ in layer.named_modules() if name in known]
        tail = sorted(name for name in set(inside) if name.endswith(f".{key}"))
        hint = f" Did you mean '{tail[0]}'?" if tail else did_you_mean(key, set(inside))
        raise UserError(f"adapter.keys: no layer that is trained is called '{key}'.{hint}")
    widest = max((size for module in known.values() for size in module.weight.shape), default=0)
    if adapter.rank > widest:
        raise UserError(
            f"adapter.rank: {adapter.rank} is more than the widest layer of this model has inputs or outputs "
            f"({widest}); 4 to 64 are usual."
        )


def check_origin(adapter: AdapterConfig, base: Path) -> None:
    """Raises `UserError` where the adapters to start from were trained otherwise than `adapter` says.

    mlx-lm writes beside them what they were trained with; without that, only their shapes can be compared.
    """
    path = local_path(adapter.resume_from or "")
    file = (path if path.is_dir() else path.parent) / ADAPTER_CONFIG
    if not (path.exists() and file.is_file()):
        return
    try:
        saved = dict(json.loads(file.read_bytes()))
        lora = dict(saved.get("lora_parameters") or {})
    except (TypeError, ValueError) as error:
        raise UserError(f"adapter.resume_from: '{file}' is damaged: {error}.") from error
    wanted: dict[str, Any] = {"type": (adapter.type, saved.get("fine_tune_type", "lora"))}
    if adapter.type != "full":
        wanted |= {name: (getattr(adapter, name), lora.get(name)) for name in ("rank", "scale")}
    for name, (asked, trained) in wanted.items():
        if trained is not None and asked != trained:
            raise UserError(
                f"adapter.resume_from: the adapters in '{file.parent}' were trained with {name} {trained}, "
                f"and adapter.{name} is {asked}. Set adapter.{name}: {trained}."
            )
    origin = Path(str(saved.get("model", "")))
    if origin.is_dir() and saved.get("model") and not _same_weights(origin, base):
        raise UserError(
            f"adapter.resume_from: the adapters in '{file.parent}' were trained on '{origin}', whose weights "
            f"are not those of '{base}'. Use that model, or adapters of this one."
        )


def _same_weights(one: Path, other: Path) -> bool:
    """Whether two model folders hold the same files of weights."""
    files = [sorted(folder.glob("model*.safetensors")) for folder in (one, other)]
    if one.resolve() == other.resolve():
        return True
    same_names = [f.name for f in files[0]] == [f.name for f in files[1]]
    return same_names and all(filecmp.cmp(a, b, shallow=False) for a, b in zip(*files, strict=True))


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
        check_fit(str(file), saved, arrays(model.trainable_parameters()))
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
    """A copy of `model` with its adapters fused into the weights, whatever these are.

    Of a quantized model, the layers that have adapters come out as full weights: rounding the sum to a few
    bits again loses what was learnt.
    """
    twin = copy_module_tree(model)
    fused = [
        (name, module.fuse(dequantize=True))
        for name, module in model.named_modules()
        if hasattr(module, "fuse")
    ]
    twin.update_modules(tree_unflatten(fused))
    twin.eval()
    return twin


def _unfreeze(model: nn.Module, layers: int) -> None:
    packed = (not mx.issubdtype(w.dtype, mx.floating) for w in arrays(model.parameters()).values())
    if any("scales" in module for _, module in model.named_modules()) or any(packed):
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


def check_fit(file: str, saved: Mapping[str, mx.array], wanted: Mapping[str, mx.array]) -> None:
    """Raises `UserError` where the tensors saved in `file`, a name, do not fit the trained ones."""
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
    if wrong := not_finite(saved):
        raise UserError(f"'{wrong[0]}' in '{file}' holds NaN or infinite numbers. Use other adapters.")
    for name in sorted(saved):
        if not mx.issubdtype(saved[name].dtype, mx.floating):
            raise UserError(f"'{name}' in '{file}' holds {saved[name].dtype}, not floating-point numbers.")
        if saved[name].shape != wanted[name].shape:
            raise UserError(
                f"'{name}' in '{file}' has shape {saved[name].shape}, the model wants "
                f"{wanted[name].shape}. Check adapter.rank."
            )
