"""The models that the recipes name: their shapes, and stand-ins that have the shape and no computed weight.

mlx is lazy: a model's parameters have shapes and sizes before anything is computed, and that is all a memory
plan reads.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import mlx.nn as nn
from benchmarks.harness.internals import loading, local_path
from benchmarks.speed.rows import Size

Shape = Mapping[str, Any]
_COMMON = {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 32_768}


def _shape(kind: str, size: Size, *, tied: bool = True, group: int | None = None) -> Shape:
    """``config.json``, as far as it decides about sizes; in 4 bits where `group` weights share a scale."""
    quantized = {"quantization": {"group_size": group, "bits": 4}} if group else {}
    return {**size.config, **_COMMON, "model_type": kind, "tie_word_embeddings": tied, **quantized}


_LLAMA_1B = Size(2048, 16, 8192, 32, 8, 64, 128_256)
_LLAMA_3B = Size(3072, 28, 8192, 24, 8, 128, 128_256)
_QWEN3_4B = Size(2560, 36, 9728, 32, 8, 128, 151_936)
_GEMMA_1B = {"sliding_window": 512, "sliding_window_pattern": 6, "query_pre_attn_scalar": 256}
MODELS: Mapping[str, Shape] = {
    "mlx-community/SmolLM2-135M-Instruct": _shape("llama", Size(576, 30, 1536, 9, 3, 64, 49_152)),
    "mlx-community/Llama-3.2-1B-Instruct-bf16": _shape("llama", _LLAMA_1B),
    "mlx-community/Llama-3.2-3B-Instruct-bf16": _shape("llama", _LLAMA_3B),
    "mlx-community/Llama-3.2-3B-Instruct-4bit": _shape("llama", _LLAMA_3B, group=64),
    "mlx-community/Qwen3-0.6B-bf16": _shape("qwen3", Size(1024, 28, 3072, 16, 8, 128, 151_936)),
    "Qwen/Qwen3-1.7B-MLX-4bit": _shape("qwen3", Size(2048, 28, 6144, 16, 8, 128, 151_936), group=128),
    "Qwen/Qwen3-4B": _shape("qwen3", _QWEN3_4B),
    "mlx-community/Qwen3-4B-4bit": _shape("qwen3", _QWEN3_4B, group=64),
    "mlx-community/Qwen3-8B-4bit": _shape(
        "qwen3", Size(4096, 36, 12_288, 32, 8, 128, 151_936), tied=False, group=64
    ),
    "lmstudio-community/Qwen3-14B-MLX-4bit": _shape(
        "qwen3", Size(5120, 40, 17_408, 40, 8, 128, 151_936), tied=False, group=64
    ),
    "mlx-community/gemma-3-1b-it-bf16": {  # its file has the output head beside the embedding
        **_shape("gemma3_text", Size(1152, 26, 6912, 4, 1, 256, 262_144), tied=False),
        **_GEMMA_1B,
    },
}
"""By id on the Hub. The tests compare the sizes of some with those of their files there."""


def size_of(shape: Shape) -> Size:
    """The widths that a step's arithmetic depends on."""
    return Size(
        shape["hidden_size"],
        shape["num_hidden_layers"],
        shape["intermediate_size"],
        shape["num_attention_heads"],
        shape["num_key_value_heads"],
        shape["head_dim"],
        shape["vocab_size"],
    )


def build(shape: Shape) -> nn.Module:
    """The model in bfloat16 with nothing computed, quantized where its shape says so."""
    module = importlib.import_module(f"mlx_lm.models.{shape['model_type']}")
    model: nn.Module = module.Model(module.ModelArgs.from_dict(shape))
    model.set_dtype(mx.bfloat16)
    if quantization := shape.get("quantization"):
        nn.quantize(model, **quantization)
    return model


@contextmanager
def on_metal() -> Iterator[None]:
    """Within, prefloop plans as it does on a Mac's GPU, and no array is computed.

    What would be computed to compare two ways of passing through a model is taken to agree, as the tests of
    each family show.
    """
    stand_ins = {
        "default_device": lambda: mx.Device(mx.gpu),
        "eval": lambda *_: None,
        "allclose": lambda *_, **__: mx.array(True),
    }
    with ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(patch.object(mx, name, stand_in))
        yield


class Shelf:
    """Folders that `load_model` takes for the real models. While it is held, their stand-ins are loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[Any] = []

    def put(self, name: str, quantize: str = "none") -> Path:
        """The folder of a model by its id, with the tokenizer of the quick start."""
        folder = self._folder / name.replace("/", "--")
        if not folder.exists():
            unwanted = shutil.ignore_patterns("*.safetensors", "config.json")
            shutil.copytree(local_path("embedded:policy"), folder, ignore=unwanted)
            (folder / "config.json").write_text(json.dumps(MODELS[name]), encoding="utf-8")
            (folder / "model.safetensors").touch()
        key = (str(folder.resolve()), quantize, "auto")
        if key not in loading._loaded:
            shape: Shape = MODELS[name]
            if quantize != "none":
                shape = {**shape, "quantization": loading._QUANTIZE[quantize]}
            loading._loaded[key] = pristine = loading._Pristine(build(shape), dict(shape))
            self._held.append(pristine)
        return folder
