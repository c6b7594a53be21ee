"""Tiny models of several families, with random weights, in the folder layout of Hugging Face."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from tiny import tokenizer_files

ModelFolder = Callable[[str], Path]
"""The fixture ``model_folder``: gives the folder of a tiny model of a family."""

_COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3", "tie_word_embeddings": True},
    "llama": {"model_type": "llama", "tie_word_embeddings": False},
    "gemma": {"model_type": "gemma"},
    "gemma2": {
        "model_type": "gemma2",
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "query_pre_attn_scalar": 16,
    },
}


def build(folder: Path, family: str = "qwen3", *, vocabulary: int = 320, seed: int = 0) -> Path:
    """Write a model folder with tokenizer and chat template, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_files(folder, vocab_size=vocabulary)
    size = max(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].values()) + 1
    config = {**_COMMON, **FAMILIES[family], "vocab_size": size}
    (folder / "config.json").write_text(json.dumps(config))
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    mx.random.seed(seed)
    model = module.Model(module.ModelArgs.from_dict(config))
    weights = {name: value.astype(mx.float32) for name, value in tree_flatten(model.parameters())}
    if family.startswith("gemma"):  # it scales embeddings up so far that all samples would be equal
        weights["model.embed_tokens.weight"] *= 0.2
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder
