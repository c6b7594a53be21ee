"""Reward models: a Hugging Face sequence-classification checkpoint with one output, run with mlx.

The trunk is mlx-lm's own for the checkpoint's `model_type`; the head is ``score.weight`` of shape
``[1, H]``, read at the last token that is not padding, as transformers does in
``GenericForSequenceClassification``.

Shapes: ``N`` rows, ``L`` tokens in the longest, ``H`` the hidden size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
from attrs import frozen

from prefloop import UserError
from prefloop.beginning import placed
from prefloop.model.limits import check_ids, trained_length
from prefloop.model.mlx_lm_internals import (
    download_model,
    model_classes,
    read_folder,
    read_weights,
    warn_of_window,
)
from prefloop.model.split import inference_attention, padded
from prefloop.prompts.chat import render
from prefloop_plugins.judges.question import cut_added_tokens, encode_quoted

Ids = Sequence[int]
Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]

QUANTIZE: Mapping[str, Mapping[str, Any]] = {
    "4bit": {"group_size": 64, "bits": 4},
    "6bit": {"group_size": 64, "bits": 6},
    "8bit": {"group_size": 64, "bits": 8},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
}
HEAD = "score.weight"


class RewardModel(nn.Module):
    """mlx-lm's trunk of a causal language model under a linear head with one output."""

    def __init__(self, language_model: nn.Module, hidden_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = language_model.model
        self.score = nn.Linear(hidden_size, 1, bias=False)
        # In a tuple, as this is no part of the model: it would be a child and have weights.
        self._sanitizers = tuple(s for s in (getattr(language_model, "sanitize", None),) if s)

    def __call__(self, tokens: mx.array, ends: mx.array) -> mx.array:
        """Scores ``[N]``, float32, of rows ``[N, L]`` read at the positions `ends` ``[N]``."""
        with inference_attention():
            hidden = self.model(tokens)  # [N, L, H]
        scores: mx.array = self.score(hidden[mx.arange(tokens.shape[0]), ends])
        return scores[:, 0].astype(mx.float32)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """The checkpoint's weights by the names they have here. Raises `ValueError` for another head."""
        head = weights.get(HEAD)
        if head is None:
            raise ValueError(f"it has no score head ('{HEAD}'), so it is no sequence-classification model")
        if head.shape[0] != 1:
            raise ValueError(
                f"its score head has {head.shape[0]} outputs, and a reward model has one, "
                "so this is a classifier or was saved with num_labels unset"
            )
        trunk = {name: array for name, array in weights.items() if name.startswith("model.")}
        for sanitize in self._sanitizers:
            trunk = sanitize(trunk)
        return {name: array for name, array in trunk.items() if not name.startswith("lm_head.")} | {
            HEAD: head
        }


def load_scorer(path: str, *, quantize: Quantize, batch_size: int, max_length: int) -> Scorer:
    """The reward model of a folder or Hub id.

    As for every model here, weights are float32 on the CPU back end and as stored elsewhere; the head is
    never quantized. Raises `UserError` where the checkpoint is missing, damaged or no reward model.
    """
    from transformers import AutoTokenizer

    folder = _folder(path)
    _check(folder, path)
    try:
        model: Any
        model, config = read_folder(folder, get_model_classes=_classes)
        if mx.default_device().type == mx.DeviceType.cpu:
            model.set_dtype(mx.float32)
        if quantize != "none":
            _quantize(model.model, config, quantize)
        model.eval()
        read_weights(model)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # whatever the libraries raise about a damaged checkpoint
        raise UserError(f"reward model '{path}' cannot be loaded: {_line(error)}.") from error
    if not tokenizer.chat_template:
        raise UserError(
            f"reward model '{path}': its tokenizer has no chat template, so how it wants to see a prompt "
            "and an answer is not known."
        )
    longest = min(max_length, trained_length(config) or max_length)
    warn_of_window(config, f"reward model '{path}'", longest)
    scorer = Scorer(model, tokenizer, config.get("pad_token_id"), longest, batch_size)
    probe = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        row = scorer.encode(probe)
    except ValueError as error:
        raise UserError(f"reward model '{path}': its chat template takes no answer: {error}.") from error
    check_ids(model, row, f"reward model '{path}': a conversation")
    return scorer


@frozen(eq=False)
class Scorer:
    """A reward model with its own tokenizer and chat template."""

    model: RewardModel
    tokenizer: Any
    """That of transformers."""
    pad: int | None
    max_length: int
    batch_size: int

    def encode(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """Token ids of a conversation that ends in the answer to be scored.

        Where a message spells out special or added tokens, it is encoded on its own, so that none of its
        text becomes one; every other conversation is encoded as transformers does. Raises `ValueError` where
        the chat template does not take the conversation, or leaves out a part of it.
        """
        texts = [str(message["content"]) for message in messages]
        if not any(len(cut_added_tokens(self.tokenizer, text)) > 1 for text in texts):
            return tuple(self._plain(render(self.tokenizer, messages)))
        marked = [{**message, "content": f"\ue000{i}\ue001"} for i, message in enumerate(messages)]
        ids: list[int] = []
        for piece in re.split("(\ue000[0-9]+\ue001)", render(self.tokenizer, marked)):
            if piece.startswith("\ue000"):
                ids += encode_quoted(self.tokenizer, texts[int(piece[1:-1])])
            elif piece:
                ids += self._plain(piece)
        return tuple(ids)

    def __call__(self, rows: Sequence[Ids]) -> list[float]:
        """One score per row of tokens, in their order; rows of similar length share a pass."""
        scores: dict[int, float] = {}
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(rows), self.batch_size):
            batch = by_length[start : start + self.batch_size]
            tokens = padded([rows[i] for i in batch])
            ends = mx.array([last_token(rows[i], self.pad) for i in batch])
            values: Any = self.model(tokens, ends).tolist()
            scores.update(zip(batch, values, strict=True))
        return [scores[i] for i in range(len(rows))]

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return ids


def last_token(row: Ids, pad: int | None) -> int:
    """Where transformers reads the score: the last token that is not `pad`, or the first of none."""
    if pad is None:
        return len(row) - 1
    return next((i for i in range(len(row) - 1, -1, -1) if row[i] != pad), 0)


def _classes(config: dict[str, Any]) -> tuple[Callable[[Any], RewardModel], type]:
    """What mlx-lm builds for a checkpoint: the reward model, and the settings of its trunk."""
    _name_rope_as_before(config)
    language_model, settings = model_classes(config)

    def build(arguments: Any) -> RewardModel:
        model = language_model(arguments)
        if not isinstance(getattr(model, "model", None), nn.Module):
            raise ValueError(
                f"mlx-lm's {config['model_type']} has no trunk of its own that a head could read"
            )
        return RewardModel(model, arguments.hidden_size)

    return build, settings


def _name_rope_as_before(config: dict[str, Any]) -> None:
    """Rotary settings by the names that mlx-lm looks for; transformers 5 writes one mapping of them."""
    rope = config.get("rope_parameters") or {}
    local, rope = rope.get("sliding_attention"), rope.get("full_attention", rope)
    if "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            config.setdefault("rope_scaling", rope)
    if local and "rope_theta" in local:
        config.setdefault("rope_local_base_freq", local["rope_theta"])


def _quantize(trunk: nn.Module, config: Mapping[str, Any], quantize: Quantize) -> None:
    if "quantization" in config or "quantization_config" in config:
        raise ValueError("it is quantized already: remove 'quantize'")
    options = QUANTIZE[quantize]

    def divisible(_: str, module: nn.Module) -> bool:
        return hasattr(module, "to_quantized") and module.weight.shape[-1] % options["group_size"] == 0

    nn.quantize(trunk, **options, class_predicate=divisible)


def _folder(path: str) -> Path:
    try:
        local = placed(Path(path).expanduser())
    except RuntimeError as error:  # the home of a user who is not there
        raise UserError(f"reward model '{path}': {error}.") from error
    if local.exists():
        return local
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise UserError(f"reward model '{path}': there is no such folder.")
    try:
        return download_model(path)
    except Exception as error:
        raise UserError(
            f"reward model '{path}': not a folder here, and not to be had from the Hub: {_line(error)}."
        ) from error


def _check(folder: Path, path: str) -> None:
    """Raises `UserError` where the folder's config.json is no reward model's."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except OSError as error:
        raise UserError(f"reward model '{path}': the folder has no config.json that can be read.") from error
    except ValueError as error:
        raise UserError(f"reward model '{path}': its config.json is broken JSON: {error}.") from error
    architectures = config.get("architectures") or [] if isinstance(config, dict) else []
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        named = ", ".join(map(str, architectures)) or "no architecture"
        raise UserError(
            f"reward model '{path}': its config.json names {named}, not a ...ForSequenceClassification one. "
            "For a model that answers in words use the llm judge."
        )


def _line(error: Exception) -> str:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "").rstrip(".")
    if said and isinstance(error, ValueError | RuntimeError | OSError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
