"""What a model can read: the token ids that it has embeddings for, and how long a text may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import mlx.nn as nn

from prefloop.errors import UserError

_POSITIONS = ("wpe", "embed_positions", "position_embeddings")
"""What models call an embedding of positions: GPT-2 and its kin have one."""
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


def embedded_ids(model: Any) -> int | None:
    """For how many token ids it has embeddings; None where they cannot be found, as of a stand-in."""
    return max((rows for name, rows in _embeddings(model) if name not in _POSITIONS), default=None)


def learned_positions(model: nn.Module) -> int | None:
    """Tokens that a text can have at most, where positions are learned and not computed."""
    return min((rows for name, rows in _embeddings(model) if name in _POSITIONS), default=None)


def trained_length(config: Mapping[str, Any]) -> int | None:
    """Tokens of the longest text that it was trained for, as its ``config.json`` says."""
    config = config.get("text_config") or config
    found = (config.get(key) for key in _LENGTHS)
    length = next((length for length in found if isinstance(length, int) and length > 0), None)
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    factor = rope.get("factor")
    if length and length == rope.get("original_max_position_embeddings") and isinstance(factor, int | float):
        return int(length * factor)  # stretched, as Qwen does it: the configuration names the length before
    return length


def check_ids(model: Any, ids: Iterable[int], what: str) -> None:
    """Raises `UserError` where `what`, in words, has token ids that the model has no embedding for."""
    size = embedded_ids(model)
    beyond = sorted({i for i in ids if i < 0 or (size is not None and i >= size)})
    if beyond:
        raise UserError(
            f"{what} has the token id {beyond[0]}, and the model has embeddings for 0 to {(size or 0) - 1}: "
            "tokens were added to its tokenizer and the model was not resized. Use the tokenizer that it came"
            " with, or resize its embedding."
        )


def _embeddings(model: Any) -> Iterable[tuple[str, int]]:
    for path, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, nn.Embedding | nn.QuantizedEmbedding):
            yield path.rpartition(".")[2], int(module.weight.shape[0])
