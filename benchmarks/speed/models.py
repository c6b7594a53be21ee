"""Worker that makes models: seeded random weights, a tokenizer of whole words, and a judge that answers.

A policy's stop token lies outside its vocabulary, so that every completion has its full length. The
judge's last block is made so that it says a label after ``assistant:`` and ends its turn after a label:
one that reads its probability and one that decodes until the end then both get an answer at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from benchmarks.harness import smollm2, worker
from benchmarks.speed import words
from benchmarks.speed.rows import Size
from mlx.utils import tree_flatten

LOUD = 8.0
"""Factor on the judge's embeddings, so that a block knows the token it stands on whatever came before."""


def make(folder: Path, size: Size, *, judge: bool = False, bits: int | None = None) -> None:
    """Write a model folder in the layout of Hugging Face, unless it is there."""
    if (folder / "model.safetensors").exists():
        return
    from mlx_lm.models import qwen3

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = words.vocabulary(size.vocabulary)
    stop = vocabulary[words.END] if judge else size.vocabulary
    config = {**size.config, "eos_token_id": stop}
    mx.random.seed(1 if judge else 0)
    model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
    if judge:
        _teach(model, vocabulary)
    if bits:
        from mlx_lm.utils import quantize_model

        model, config = quantize_model(model, config, 64, bits)
    _write_tokenizer(folder, vocabulary)
    (folder / "config.json").write_text(json.dumps(config))
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def _teach(model: Any, vocabulary: dict[str, int]) -> None:
    """Give three neurons of the last block to: assistant: -> a label, each label -> the end of the turn."""
    zero, one = (vocabulary[label] for label in words.LABELS)
    end, reply = vocabulary[words.END], vocabulary[words.REPLY]
    embedding = model.model.embed_tokens
    direction = embedding.weight / mx.linalg.norm(embedding.weight, axis=-1, keepdims=True)
    embedding.weight = LOUD * embedding.weight
    mlp = model.layers[-1].mlp
    answers = [(reply, direction[zero] + direction[one]), (zero, direction[end]), (one, direction[end])]
    for neuron, (token, answer) in enumerate(answers):
        mlp.gate_proj.weight[neuron] = direction[token]
        mlp.up_proj.weight[neuron] = direction[token]
        mlp.down_proj.weight[:, neuron] = answer


def _write_tokenizer(folder: Path, vocabulary: dict[str, int]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    settings = {"chat_template": words.TEMPLATE, "clean_up_tokenization_spaces": False}
    fast(tokenizer_object=tokenizer, **settings).save_pretrained(folder, save_jinja_files=False)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Make the models of a job."""
    for wanted in job["models"]:
        folder, judge, bits = Path(wanted["folder"]), wanted["judge"], wanted["bits"]
        if wanted["pretrained"]:
            smollm2.make(folder, Path(wanted["cache"]), endless=not judge, bits=bits)
        else:
            make(folder, Size(**wanted["size"]), judge=judge, bits=bits)
    return {}


if __name__ == "__main__":
    worker.serve(run, ("mlx", "mlx-lm"))
