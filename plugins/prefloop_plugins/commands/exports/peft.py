"""A run's adapters as PEFT has them, for transformers, vLLM and whatever else reads those.

mlx-lm computes ``x W + scale (x A) B`` with A of (inputs, rank) and B of (rank, outputs); PEFT transposes
both and divides its ``lora_alpha`` by the rank. DoRA's magnitudes are the same vector in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from prefloop.errors import UserError
from prefloop.model.policy import Policy
from prefloop.model.weight_sharing import arrays

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_TENSORS = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "m": "lora_magnitude_vector"}


def write_peft(folder: Path, policy: Policy, base: str) -> None:
    """Write the adapters into `folder`, for the model that transformers finds under `base`.

    Raises `UserError` where the policy has none, or has them on layers that PEFT cannot have them on.
    """
    config = peft_config(policy, base)
    weights = {peft_name(name): mx.contiguous(value.T) for name, value in policy.trainable().items()}
    mx.save_safetensors(str(folder / WEIGHTS), weights, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def peft_config(policy: Policy, base: str) -> dict[str, Any]:
    """What PEFT has to know of the policy's adapters besides their numbers. Raises what `write_peft` does."""
    adapter = policy.adapter
    if adapter.type == "full":
        raise UserError(
            "the run trained the full weights, so it has no adapters: export the whole model with "
            "'prefloop export fuse'."
        )
    modules = dict(policy.model.named_modules())
    adapted = {name: module for name, module in modules.items() if "lora_a" in module}
    _refuse_strangers(adapted, _stored_names(policy.loaded.folder))
    targets, layers = _targets(list(adapted), [n for n, m in modules.items() if _has_weight(m)])
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.scale * adapter.rank,
        "lora_dropout": adapter.dropout,
        "target_modules": targets,
        "layers_to_transform": layers,
        "use_dora": adapter.type == "dora",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def peft_name(name: str) -> str:
    """What PEFT calls the tensor that mlx-lm calls `name`, whose transpose it has."""
    module, _, tensor = name.rpartition(".")
    return f"base_model.model.{module}.{_TENSORS[tensor]}"


def _refuse_strangers(adapted: Mapping[str, nn.Module], stored: set[str]) -> None:
    """Raises `UserError` for a layer that transformers does not have, or not by this name.

    The tensors in a model's files are named as transformers names them; mlx-lm renames some when it loads.
    """
    for name, module in adapted.items():
        kind = type(module).__name__
        if kind not in ("LoRALinear", "DoRALinear"):
            raise UserError(
                f"PEFT has no adapter like that of '{name}' ({kind}): use 'prefloop export fuse'."
            )
        if f"{name}.weight" not in stored:
            raise UserError(
                f"'{name}' is called otherwise in the model's own files, so PEFT would not find it: use "
                "'prefloop export fuse'."
            )


def _stored_names(folder: Path) -> set[str]:
    files = folder.glob("model*.safetensors")
    return {name for file in files for name in arrays(mx.load(str(file)))}  # lazy: only the names are read


def _has_weight(module: nn.Module) -> bool:
    return "weight" in module or "lora_a" in module


def _targets(adapted: list[str], known: list[str]) -> tuple[list[str], list[int] | None]:
    """PEFT's ``target_modules`` and ``layers_to_transform`` that name these modules and no others.

    Last names and numbers of layers, as most tools expect, or else the whole names.
    """
    places = [_LAYER.search(name) for name in adapted]
    layers = sorted({int(place[1]) for place in places if place})
    leaves = sorted({name.rpartition(".")[2] for name in adapted})
    named = {
        name
        for name in known
        if name.rpartition(".")[2] in leaves and (place := _LAYER.search(name)) and int(place[1]) in layers
    }
    return (leaves, layers) if named == set(adapted) else (sorted(adapted), None)
