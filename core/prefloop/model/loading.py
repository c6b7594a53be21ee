"""Loads models and tokenizers through mlx-lm, one copy of the weights for each.

A policy and a judge that name the same folder, quantization and dtype share their weights.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import mlx.core as mx
import mlx.nn as nn
from attrs import frozen

from prefloop.beginning import looked
from prefloop.embedded import local_path
from prefloop.errors import UserError, guess_neighbour, said_of
from prefloop.model.mlx_lm_internals import download_model, read_folder, read_weights
from prefloop.model.weight_sharing import copy_module_tree
from prefloop.settings import Dtype, Quantize

_QUANTIZE: dict[str, dict[str, Any]] = {
    "4bit": {"group_size": 64, "bits": 4},
    "6bit": {"group_size": 64, "bits": 6},
    "8bit": {"group_size": 64, "bits": 8},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
}


@frozen(eq=False)
class _Pristine:
    """A model as loaded, which is never trained, with its ``config.json``."""

    model: nn.Module
    config: dict[str, Any]


_loaded: WeakValueDictionary[tuple[str, str, str], _Pristine] = WeakValueDictionary()


@frozen(eq=False)
class LoadedModel:
    """A model with its tokenizer (mlx-lm's wrapper) and its ``config.json``."""

    model: nn.Module
    tokenizer: Any
    config: dict[str, Any]
    folder: Path
    pristine: _Pristine
    """`model` shares its arrays. While it is held, the next load finds it."""


def load_model(
    path: str, *, quantize: Quantize = "none", dtype: Dtype = "auto", trust_remote_code: bool = False
) -> LoadedModel:
    """Load a folder, a Hub id or an ``embedded:`` model.

    ``dtype="auto"`` is float32 on the CPU back end, where half precision is slow, and as stored
    elsewhere. Raises `UserError` where the model is missing, damaged or of an unknown type.
    """
    folder = model_folder(path)
    key = (str(folder.resolve()), quantize, dtype)
    try:
        pristine = _loaded.get(key) or _load(folder, quantize, dtype, trust_remote_code)
        _loaded[key] = pristine
    except Exception as error:  # whatever the libraries raise about a bad model folder
        raise UserError(f"model '{path}' cannot be loaded: {_line(error)}") from error
    tokenizer = _tokenizer(path, folder, pristine.config, trust_remote_code)
    return LoadedModel(copy_module_tree(pristine.model), tokenizer, pristine.config, folder, pristine)


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model (mlx-lm's wrapper), without its weights. Raises `UserError`."""
    folder = model_folder(path)
    return _tokenizer(path, folder, json.loads((folder / "config.json").read_bytes()), trust_remote_code)


def _tokenizer(path: str, folder: Path, config: Mapping[str, Any], trust_remote_code: bool) -> Any:
    import mlx_lm.utils

    extra = {"trust_remote_code": trust_remote_code}
    try:
        found = mlx_lm.utils.load_tokenizer(folder, extra, eos_token_ids=config.get("eos_token_id"))
    except Exception as error:  # whatever the libraries raise about a bad model folder
        raise UserError(f"model '{path}' cannot be loaded: {_line(error)}") from error
    if len(found.get_vocab()) <= len(found.get_added_vocab()):  # what transformers makes of no files
        raise UserError(f"model '{path}': the folder holds no tokenizer.")
    return found


def _load(folder: Path, quantize: str, dtype: str, trust_remote_code: bool) -> _Pristine:
    model, config = read_folder(folder, trust_remote_code=trust_remote_code)
    if dtype != "auto":
        model.set_dtype(getattr(mx, dtype))
    elif mx.default_device().type == mx.DeviceType.cpu:
        model.set_dtype(mx.float32)
    if quantize != "none":
        config = _quantize(model, config, quantize)
    read_weights(model)
    mx.eval(model(mx.array([[0]])))  # fails where a layer has no kernel for this device or type
    return _Pristine(model, config)


def _quantize(model: nn.Module, config: dict[str, Any], quantize: str) -> dict[str, Any]:
    from mlx_lm.utils import quantize_model

    if "quantization" in config or "quantization_config" in config:
        raise ValueError("it is quantized already. Remove 'quantize'.")
    with contextlib.redirect_stdout(io.StringIO()):  # mlx-lm prints the bits per weight
        _, quantized = quantize_model(model, config, **_QUANTIZE[quantize])
    if not any("scales" in module for _, module in model.named_modules()):
        group = _QUANTIZE[quantize]["group_size"]
        raise ValueError(f"no layer can be quantized to {quantize}: no width is a multiple of {group}")
    return dict(quantized)


def model_folder(path: str) -> Path:
    """The local folder of `path`, downloaded from the Hub if it is not local."""
    with said_of("model"):
        local = local_path(path)
    if local.exists():
        _check_folder(local, path)
        return local
    if not looks_like_hub_id(path):
        raise UserError(f"model '{path}': there is no such folder.{guess_neighbour(local)}{looked(local)}")
    try:
        return download_model(path)
    except Exception as error:
        raise UserError(
            f"model '{path}': not a folder here, and not to be had from the Hub: {_line(error)}"
        ) from error


def _check_folder(folder: Path, path: str) -> None:
    """Raise `UserError` for what the libraries that load models report less clearly."""
    if not folder.is_dir():
        raise UserError(f"model '{path}': it is a file, not a model folder.")
    if not (folder / "config.json").is_file():
        raise UserError(f"model '{path}': the folder has no config.json, so it is not a model folder.")
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except ValueError as error:
        raise UserError(f"model '{path}': its config.json is broken JSON: {error}.") from error
    if not isinstance(config, dict) or not config.keys() & {"model_type", "model_file"}:
        raise UserError(f"model '{path}': its config.json names no model_type.")
    if not any(folder.glob("model*.safetensors")):
        raise UserError(f"model '{path}': the folder holds no weights (model*.safetensors).")


def looks_like_hub_id(path: str) -> bool:
    """Whether it may name a model on the Hub: ``owner/name``."""
    return path.count("/") == 1 and not path.startswith((".", "/", "~", os.sep))


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    if said and isinstance(error, ValueError | RuntimeError | OSError):
        return said  # raised to be read; of others, such as a KeyError, the type says more
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
