"""A run's policy as one GGUF file, for llama.cpp, Ollama and LM Studio, by llama.cpp's own package `gguf`.

mlx-lm's own export knows only SentencePiece vocabularies and writes no chat template, so that most of today's
models would answer wrongly. What is not known here is refused: a GGUF of a wrong shape loads, and babbles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.utils import dequantize_model

from prefloop.errors import UserError
from prefloop.model.adapters import fused_copy
from prefloop.model.weight_sharing import arrays
from prefloop_plugins.commands.exports.trained import Trained
from prefloop_plugins.commands.exports.vocabulary import pre_tokenizer, tokens_of

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""By mlx-lm's type of a model. Other families differ in their layout, not in their names alone."""
TYPES = ("auto", "f32", "f16", "bf16", "q8_0")
_OF_DTYPE = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_ELSEWHERE = (
    "'prefloop export fuse --dequantize' writes a folder for llama.cpp's convert_hf_to_gguf.py, "
    "which knows more."
)


def write_gguf(file: Path, trained: Trained, *, name: str, kind: str = "auto") -> None:
    """Write the policy, adapters fused and nothing quantized as mlx quantizes, with its chat template.

    `kind` is one of `TYPES`; ``auto`` is the type of the weights, which loses nothing. Raises `UserError` for
    a model whose layout, positions or vocabulary are not known here.
    """
    gguf, policy = _library(), trained.policy
    family = str(policy.loaded.config.get("model_type"))
    if family not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"GGUF is written of the types {known}, not of '{family}'. {_ELSEWHERE}")
    arch = gguf.MODEL_ARCH[ARCHITECTURES[family]]
    model: Any = dequantize_model(fused_copy(policy.model))
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[arch])
    quantization = gguf.GGMLQuantizationType[(_type(model) if kind == "auto" else kind).upper()]
    writer.add_name(name)
    _add_shape(writer, model.args)
    _add_file_type(writer, gguf, quantization)
    _add_vocabulary(writer, gguf, policy.tokenizer, len(_embedding(model)))
    tensors = dict(_tensors(gguf.get_tensor_name_map(arch, model.args.num_hidden_layers), model))
    tensors |= _rope(writer, gguf, model)
    _write(writer, gguf, tensors, quantization)


def _library() -> Any:
    try:
        import gguf
    except ImportError:
        raise UserError(
            "writing GGUF needs llama.cpp's package gguf: python -m pip install 'prefloop[gguf]'"
        ) from None
    return gguf


def _type(model: nn.Module) -> str:
    return _OF_DTYPE[str(_embedding(model).dtype).removeprefix("mlx.core.")]


def _embedding(model: Any) -> mx.array:
    weight: mx.array = model.model.embed_tokens.weight
    return weight


def _add_shape(writer: Any, args: Any) -> None:
    head = getattr(args, "head_dim", None) or args.hidden_size // args.num_attention_heads
    writer.add_context_length(args.max_position_embeddings or 4096)
    writer.add_embedding_length(args.hidden_size)
    writer.add_block_count(args.num_hidden_layers)
    writer.add_feed_forward_length(args.intermediate_size)
    writer.add_head_count(args.num_attention_heads)
    writer.add_head_count_kv(args.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(args.rope_theta)
    writer.add_layer_norm_rms_eps(args.rms_norm_eps)
    if "sliding_attention" in (getattr(args, "layer_types", None) or ()):
        raise UserError(f"GGUF is not written of models with sliding windows. {_ELSEWHERE}")


def _add_file_type(writer: Any, gguf: Any, quantization: Any) -> None:
    file_type = "ALL_F32" if quantization.name == "F32" else f"MOSTLY_{quantization.name}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _rope(writer: Any, gguf: Any, model: Any) -> dict[str, mx.array]:
    """Say how positions are scaled; Llama 3's way is a tensor of factors."""
    rope, args = model.layers[0].self_attn.rope, model.args
    kind = type(rope).__name__
    if kind == "Llama3RoPE":
        dims = rope.dims
        unscaled = args.rope_theta ** (mx.arange(0, dims, 2, dtype=mx.float32) / dims)
        return {"rope_freqs.weight": rope._freqs / unscaled}
    if kind != "RoPE" or rope.traditional:
        raise UserError(f"GGUF is not written of models whose positions are scaled so ({kind}). {_ELSEWHERE}")
    if rope.scale != 1:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(1 / rope.scale)
    return {}


def _add_vocabulary(writer: Any, gguf: Any, tokenizer: Any, size: int) -> None:
    """The tokens, merges, special tokens and the chat template."""
    with TemporaryDirectory() as place:
        tokenizer.save_pretrained(place)
        about = json.loads((Path(place) / "tokenizer.json").read_bytes())
        pre = pre_tokenizer(about)
        if pre is None:
            raise UserError(f"GGUF is not written of models with this kind of vocabulary. {_ELSEWHERE}")
        special = gguf.SpecialVocab(place, load_merges=True)
    texts, kinds = tokens_of(about, size)
    writer.add_vocab_size(size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(texts)
    writer.add_token_types([gguf.TokenType[kind] for kind in kinds])
    special.chat_template = tokenizer.chat_template
    special.add_to_gguf(writer, quiet=True)


def _tensors(names: Any, model: Any) -> Iterator[tuple[str, mx.array]]:
    """The tensors by their names in GGUF."""
    args = model.args
    heads = {"q_proj": args.num_attention_heads, "k_proj": args.num_key_value_heads}
    for name, value in arrays(model.parameters()).items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise UserError(f"GGUF has no place for '{name}' in a model like this. {_ELSEWHERE}")
        turned = heads.get(name.split(".")[-2]) if args.model_type in ("llama", "mistral") else None
        yield known, _interleaved(value, turned) if turned else value


def _interleaved(value: mx.array, heads: int) -> mx.array:
    """llama.cpp rotates neighbours in Llama's queries and keys, and MLX the halves of a head."""
    halves = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
    return halves.swapaxes(1, 2).reshape(value.shape)


def _write(writer: Any, gguf: Any, tensors: dict[str, mx.array], quantization: Any) -> None:
    """One tensor at a time, so that no second copy of the model is held."""
    kinds = {name: _kind(gguf, value, quantization) for name, value in tensors.items()}
    for name, value in tensors.items():
        block, size = gguf.GGML_QUANT_SIZES[kinds[name]]
        nbytes = value.size // block * size
        writer.add_tensor_info(name, value.shape, np.dtype(np.float32), nbytes, kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, value in tensors.items():
        plain = np.array(value.astype(mx.float32), copy=False)
        writer.write_tensor_data(gguf.quantize(plain, kinds[name]))
    writer.close()


def _kind(gguf: Any, value: mx.array, quantization: Any) -> Any:
    """Vectors stay float32, as llama.cpp wants them; rows that no blocks fit into, half precision."""
    if value.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    fits = value.shape[-1] % gguf.GGML_QUANT_SIZES[quantization][0] == 0
    return quantization if fits else gguf.GGMLQuantizationType.F16
