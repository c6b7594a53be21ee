"""Tiny models of several families, with random weights, in the folder layout of Hugging Face."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from support.tiny_tokenizer import tokenizer_files

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
    "gemma3_text": {  # sliding windows in turn with full attention
        "model_type": "gemma3_text",
        "sliding_window": 8,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 16,
    },
    "deepseek_v3": {  # latent attention, mixture of experts
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "n_shared_experts": 1,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "n_group": 1,
        "topk_group": 1,
    },
    "gpt_oss": {  # attention sinks, sliding windows
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 8,
    },
    "mamba2": {  # recurrent
        "model_type": "mamba2",
        "num_heads": 8,
        "state_size": 16,
        "n_groups": 1,
        "conv_kernel": 4,
        "layer_norm_epsilon": 1e-5,
        "use_bias": False,
        "use_conv_bias": True,
        "tie_word_embeddings": True,
        "time_step_limit": [0.0, 1e6],
        "time_step_rank": "auto",
    },
    "lfm2": {  # convolution in turn with attention
        "model_type": "lfm2",
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 64,
        "block_ff_dim": 128,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1],
    },
    "qwen3_next": {  # linear attention in turn with full attention, mixture of experts
        "model_type": "qwen3_next",
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 64,
        "mlp_only_layers": [],
        "moe_intermediate_size": 64,
        "partial_rotary_factor": 0.25,
        "full_attention_interval": 2,
    },
    "gemma3": {  # the same inside a model that sees
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "sliding_window": 8,
            "sliding_window_pattern": 2,
            "query_pre_attn_scalar": 16,
        },
    },
    "cohere2": {  # sliding windows in turn with full attention, logits scaled
        "model_type": "cohere2",
        "sliding_window": 8,
        "sliding_window_pattern": 2,
    },
    "llama4": {  # attention in chunks, mixture of experts
        "model_type": "llama4",
        "text_config": {
            "model_type": "llama4_text",
            "attention_bias": False,
            "attention_chunk_size": 8,
            "num_hidden_layers": 4,
            "interleave_moe_layer_step": 2,
            "intermediate_size_mlp": 128,
            "num_experts_per_tok": 1,
            "num_local_experts": 4,
            "rope_scaling": None,
            "use_qk_norm": True,
        },
    },
    "baichuan_m1": {  # convolution and attention in each layer, one of them with a sliding window
        "model_type": "baichuan_m1",
        "sliding_window": 8,
        "sliding_window_layers": [1],
        "conv_window": 2,
    },
    "recurrent_gemma": {  # recurrent in turn with sliding windows
        "model_type": "recurrent_gemma",
        "attention_bias": False,
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "attention_window_size": 8,
        "block_types": ["recurrent", "attention"],
    },
}


def build(folder: Path, family: str = "qwen3", *, vocabulary: int = 320, seed: int = 0) -> Path:
    """Write a model folder with tokenizer and chat template, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer_files(folder, vocab_size=vocabulary)
    size = max(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"].values()) + 1
    config = {**_COMMON, **FAMILIES[family], "vocab_size": size}
    if "text_config" in config:
        config["text_config"] = {**_COMMON, **config["text_config"], "vocab_size": size}
    (folder / "config.json").write_text(json.dumps(config))
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    mx.random.seed(seed)
    model = module.Model(module.ModelArgs.from_dict(config))
    weights = {name: value.astype(mx.float32) for name, value in tree_flatten(model.parameters())}
    for name in weights:
        if "gemma" in family and name.endswith("embed_tokens.weight"):
            weights[name] *= 0.2  # it scales embeddings up so far that all samples would be equal
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder
