"""Small Qwen3 models: build, train, sample from and save them as mlx-lm model folders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten
from mlx_lm.generate import BatchGenerator
from mlx_lm.models import qwen3
from mlx_lm.sample_utils import make_sampler

from tokenizer import MAX_LENGTH, save_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Size:
    """Width and depth; heads are 32 wide."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int


def build(size: Size, tokenizer: Any) -> tuple[Any, dict[str, Any]]:
    """An untrained model and its `config.json`."""
    config: dict[str, Any] = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.intermediate,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": MAX_LENGTH,
        "vocab_size": len(tokenizer.get_vocab()),
        "tie_word_embeddings": True,
        "attention_bias": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "torch_dtype": "float16",
    }
    return qwen3.Model(qwen3.ModelArgs.from_dict(config)), config


def save(model: Any, config: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    """Write the model in float16 with its configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.astype(mx.float16) for name, value in _parameters(model)}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    text = json.dumps(config, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    save_tokenizer(tokenizer, folder)


def count_parameters(model: Any) -> int:
    return sum(value.size for _, value in _parameters(model))


def _parameters(model: Any) -> list[tuple[str, mx.array]]:
    flat: Any = tree_flatten(model.parameters())
    return list(flat)


def optimizer(steps: int, matrix_rate: float, rate: float) -> Any:
    """Muon for the blocks' matrices and AdamW for embeddings and norms, both decaying to zero."""

    def is_matrix(path: str, value: mx.array) -> bool:
        return value.ndim == 2 and "embed_tokens" not in path

    muon = optim.Muon(optim.cosine_decay(matrix_rate, steps), weight_decay=0.0)
    adamw = optim.AdamW(optim.cosine_decay(rate, steps), weight_decay=0.0)
    return optim.MultiOptimizer([muon, adamw], [is_matrix])


def train(
    model: Any,
    loss: Callable[..., mx.array],
    batches: Callable[[], Sequence[mx.array]],
    *,
    steps: int,
    matrix_rate: float = 0.03,
    rate: float = 3e-3,
) -> None:
    """Minimise `loss(model, *batch)`, drawing a new batch at every step."""
    update = optimizer(steps, matrix_rate, rate)
    loss_and_gradient = value_and_grad(model, loss)
    for step in range(1, steps + 1):
        value, gradient = loss_and_gradient(model, *batches())
        update.update(model, gradient)
        mx.eval(model.parameters(), update.state)
        if step % 50 == 0 or step == steps:
            print(f"  step {step:4d}  loss {value.item():.3f}", flush=True)


def pad(rows: Sequence[Sequence[int]], value: int = 0) -> mx.array:
    """Rows of ids, padded on the right to the longest: (B, T)."""
    table = np.full((len(rows), max(map(len, rows))), value, dtype=np.int32)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return mx.array(table)


def sample(
    model: Any,
    prompts: Sequence[list[int]],
    stop: int,
    *,
    temperature: float,
    top_p: float = 0.95,
    max_length: int = 32,
) -> list[list[int]]:
    """One sampled completion for each prompt, as token ids without the stop token."""
    generator = BatchGenerator(
        model,
        max_tokens=max_length,
        stop_tokens=[[stop]],
        sampler=make_sampler(temp=temperature, top_p=top_p),
        completion_batch_size=64,
        prefill_batch_size=64,
    )
    completions: dict[int, list[int]] = {uid: [] for uid in generator.insert(list(prompts))}
    while responses := generator.next_generated():
        for response in responses:
            if response.token != stop:
                completions[response.uid].append(response.token)
    generator.close()
    return list(completions.values())
