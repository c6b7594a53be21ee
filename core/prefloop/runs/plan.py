"""What a run is going to do and need, worked out before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
from attrs import frozen

from prefloop.config import Config
from prefloop.errors import UserError
from prefloop.evaluation import sampling_of
from prefloop.loop import Loop
from prefloop.modules import arrays
from prefloop.prompts.loading import PromptSet
from prefloop.types import Prompt


@frozen
class Memory:
    """Estimated bytes. Activations and caches are those of the largest step, all completions full length."""

    weights: int
    trained: int
    optimizer: int
    caches: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.trained + self.optimizer + max(self.caches, self.activations)

    def words(self) -> str:
        """The estimate in a sentence."""
        return (
            f"about {_size(self.total)}: weights {_size(self.weights)}, trained {_size(self.trained)}, "
            f"optimizer {_size(self.optimizer)}, caches {_size(self.caches)} or activations "
            f"{_size(self.activations)}; a judge's weights come on top unless it shares them"
        )


@frozen
class Plan:
    """The size of a run."""

    parameters: int
    trained_parameters: int
    trained_tensors: int
    prompts: int
    held_out: int
    dropped: int
    cut: int
    steps: int
    prompts_per_step: int
    epochs: float
    longest_prompt: int
    tokens_per_step: int
    """At most, prompts and completions together."""
    memory: Memory

    def lines(self) -> list[tuple[str, str]]:
        """The plan as titles and texts, for a terminal."""
        share = 100 * self.trained_parameters / self.parameters
        prompts = f"{self.prompts:,} to train on, {self.held_out:,} held out"
        prompts += f", {self.dropped:,} dropped as too long" if self.dropped else ""
        prompts += f", {self.cut:,} cut from the left" if self.cut else ""
        trains = f"{self.trained_parameters:,} of {self.parameters:,} parameters ({share:.2f} %)"
        steps = f"{self.steps:,} of {self.prompts_per_step} prompts, {self.epochs:.2f} epochs"
        return [
            ("trains", f"{trains} in {self.trained_tensors} tensors"),
            ("prompts", prompts),
            ("steps", f"{steps}, at most {self.tokens_per_step:,} tokens a step"),
            ("memory", self.memory.words()),
        ]


def check_memory(plan: Plan, limit_gb: float | None) -> None:
    """Raises `UserError` where the run would need more memory than `limit_gb`, or than the machine has."""
    limit = machine_memory() if limit_gb is None else limit_gb * 1e9
    allowed = "The machine has" if limit_gb is None else "training.memory_limit_gb allows"
    if limit and plan.memory.total > limit:
        raise UserError(
            f"this run needs {plan.memory.words()}. {allowed} {_size(int(limit))}. "
            "Lower training.batch_size or sampler.max_completion_length, quantize the model, or set "
            "training.memory_limit_gb: 0 to try all the same."
        )


def machine_memory() -> int:
    """Bytes of memory of this machine; on a Mac the GPU uses the same."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def make_plan(config: Config, loop: Loop, prompts: PromptSet, held_out: Sequence[Prompt]) -> Plan:
    """The plan of a loop that has not started."""
    model = loop.policy.model
    trained = loop.policy.trainable()
    longest = max(len(p.tokens) for p in loop.prompts)
    length = longest + sampling_of(config.sampler, None).max_tokens
    return Plan(
        parameters=_parameters(model),
        trained_parameters=sum(v.size for v in trained.values()),
        trained_tensors=len(trained),
        prompts=len(loop.prompts),
        held_out=len(held_out),
        dropped=prompts.dropped,
        cut=prompts.cut,
        steps=loop.steps,
        prompts_per_step=loop.batch_size,
        epochs=loop.total / len(loop.prompts),
        longest_prompt=longest,
        tokens_per_step=2 * loop.batch_size * length,
        memory=_memory(config, loop, trained.values(), arrays(model.parameters()).values(), length),
    )


def _memory(
    config: Config, loop: Loop, trained: Iterable[mx.array], everything: Iterable[mx.array], length: int
) -> Memory:
    trained_bytes = sum(v.nbytes for v in trained)
    shape = _shape(loop.policy.loaded.config)
    width = 4 if mx.default_device().type == mx.DeviceType.cpu else 2
    completion = sampling_of(config.sampler, None).max_tokens
    sampled = 2 * loop.batch_size * length
    scored = 2 * loop.training.batch_size * length
    # A layer keeps its attention and feed-forward inputs for the backward pass: about eight hidden and
    # three intermediate widths a token. Logits, float32, live in about four copies.
    per_layer = width * (8 * shape["hidden"] + 3 * shape["intermediate"])
    layers = 1 if loop.training.gradient_checkpointing else shape["layers"]
    logits = 4 * 4 * 2 * loop.training.batch_size * completion * shape["vocabulary"]
    return Memory(
        weights=sum(v.nbytes for v in everything) - trained_bytes,
        trained=trained_bytes,
        optimizer=sum(v.nbytes for v in arrays(loop.optimizer.state).values()),
        caches=sampled * shape["layers"] * 2 * shape["key_value"] * width,
        activations=scored * layers * per_layer + logits,
    )


def _shape(config: dict[str, Any]) -> dict[str, int]:
    """Widths by the names that Hugging Face configurations share; a text model may be nested."""
    config = config.get("text_config", config)
    hidden = int(config.get("hidden_size", 0))
    heads = int(config.get("num_attention_heads", 1))
    head = int(config.get("head_dim") or hidden // heads)
    return {
        "hidden": hidden,
        "layers": int(config.get("num_hidden_layers", 0)),
        "intermediate": int(config.get("intermediate_size", 4 * hidden)),
        "key_value": int(config.get("num_key_value_heads") or heads) * head,
        "vocabulary": int(config.get("vocab_size", 0)),
    }


def _parameters(model: Any) -> int:
    from mlx_lm.utils import get_total_parameters

    return int(get_total_parameters(model))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
