"""A tiny model that thinks: it draws every token by chances that are set here, whatever stands before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from support.tiny_models import build
from support.tiny_tokenizer import ANSWER, CHATML, END, build_tokenizer

OPENS = CHATML.replace(
    "{{- '<think>\\n\\n</think>\\n\\n' }}\n{%- endif %}",
    "{{- '<think>\\n\\n</think>\\n\\n' }}\n{%- else %}\n{{- '<think>\\n' }}\n{%- endif %}",
)
"""A chat template that opens the thought itself, unless thinking is switched off."""
CHANCES = {ANSWER: 0.15, END: 0.06, "a": 0.3, "b": 0.2, "c": 0.15, " ": 0.14}


def build_thinking(folder: Path, chances: Mapping[str, float] = CHANCES) -> Path:
    """Write a model folder whose template opens a thought, and return it.

    Every hidden state is nearly one and the same, and a row of the head is that state times a token's logit.
    """
    build(folder, "llama")
    tokenizer = build_tokenizer(folder, chat_template=OPENS)
    ids = {tokenizer.convert_tokens_to_ids("Ġ" if text == " " else text): p for text, p in chances.items()}
    weights = dict(mx.load(str(folder / "model.safetensors")))  # type: ignore[arg-type]
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    size, width = weights[embedding].shape
    weights[embedding] = 1.0 + 0.01 * mx.random.normal((size, width))
    logits = mx.array([[math.log(ids[i]) if i in ids else -12.0] for i in range(size)])
    weights[head] = logits / width + mx.zeros((size, width))
    for name in weights:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] *= 0.01
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder
