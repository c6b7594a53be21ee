"""Works out what a run is going to need before it starts, and divides its steps so that they fit the memory.

The memory is estimated from the model's shape. Factors written as numbers were measured on mlx's CPU back
end: the peak of a gradient was taken for models that differ in one width at a time, and the differences
divided by that width (``benchmarks/memory_plan.py`` compares the sums with whole runs). They count float
arrays of an attention and gated feed-forward layer, as of Qwen and Llama.

Symbols: ``H`` the hidden size, ``I`` the intermediate one, ``Q`` and ``K`` the widths of queries and of keys,
``A`` the heads, ``V`` the vocabulary.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
from attrs import evolve, frozen
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import get_total_parameters

from prefloop.components import BaseJudge
from prefloop.cpu import on_cpu
from prefloop.cpu.kernels import use_numpy
from prefloop.errors import UserError
from prefloop.loop import Loop
from prefloop.model.adapters import fuse_adapters
from prefloop.model.limits import embedded_ids, trained_length
from prefloop.model.mlx_lm_internals import beyond_window, cache_bytes_per_token
from prefloop.model.weight_sharing import arrays
from prefloop.prompts.chat import end_of_turn
from prefloop.prompts.loading import PromptSet
from prefloop.prompts.order import shares
from prefloop.runs.plan import Division, Memory, Plan, size_words
from prefloop.sampling.generator import POOL_BYTES
from prefloop.sampling.pool import LOGIT_COPIES, cached_tokens
from prefloop.sampling.stops import Stops
from prefloop.scoring.token_terms import SUMMED, chunk_rows
from prefloop.types import Prompt

SHARE = 0.8
"""Of the memory there is, what a step is planned to take: the estimate may be out by a fifth."""
HEAD_COPIES = {"plain": 5, "padded": 1, "kl": 8, "padded kl": 2}
"""Arrays of the size of a chunk's logits at the peak of the output head, and how many more there are where
the vocabulary is padded for its sums, and for the exact KL.
"""
NUMPY_COPIES = {"plain": 5, "padded": 0, "kl": 5, "padded kl": 0}
CHUNKS_AHEAD = 2
"""Chunks of the output head that have memory at a time: mlx makes room for the next before one is done."""
TRAINED_HEADS = (1.0, 0.5, 3.0)
"""Gradients of the head's trained weights that are there with it: some, more for each chunk, at most."""
TIED_HEADS = 3.5
"""The same at the end of a backward pass, where the head is the embedding and both gradients are added."""
APPLIED = 1.25
"""Of the largest trained tensor, what is there while it is updated besides the gradient of all of them."""
IN_FLIGHT = 0.25
"""Of a layer, what its backward pass works with besides what was kept."""
RECOMPUTED = 3
"""Layers that are there again under gradient checkpointing: mlx begins with the next before one is done."""
KEPT = {"H": 4, "Q": 3.6, "K": 1, "I": 5, "scores": 1}
"""What a layer keeps until its backward pass, in arrays of each width: what the derivatives need."""
KEPT_FOR_NUMPY = {"H": 16.2, "Q": 13.7, "K": 4.8, "I": 10.4, "scores": 2.8}
"""Everything: NumPy looks into the pass while its gradient is traced, and mlx then keeps what it computed."""


def check_memory(plan: Plan, limit_gb: float | None) -> None:
    """Raises `UserError` where the run would need more memory than `limit_gb`, or than the machine has.

    On a device that the estimate was not fitted on, the plan warns instead.
    """
    if on_cpu() and (problem := _shortage(plan.memory, plan.division, limit_gb)):
        raise UserError(problem)


def _shortage(memory: Memory, division: Division, limit_gb: float | None) -> str:
    """What is to be said where a run would need more memory than it may use; empty where it fits."""
    limit = memory_limit(limit_gb)
    if memory.total <= limit:
        return ""
    allowed = "The machine has" if limit_gb is None else "training.memory_limit_gb allows"
    divisible = "training.micro_batch_size or " if division.micro_batch > 1 else ""
    return (
        f"this run needs {memory.words()}. {allowed} {size_words(int(limit))}. "
        f"Lower {divisible}sampler.max_completion_length, quantize the model, or set "
        "training.memory_limit_gb: 0 to try all the same."
    )


def memory_limit(limit_gb: float | None) -> float:
    """Bytes that a run may use: what the machine has where nothing is said, and any number for zero."""
    limit = machine_memory() if limit_gb is None else limit_gb * 1e9
    return limit or math.inf


def machine_memory() -> int:
    """Bytes of memory: of the device where mlx tells (a CUDA card; a Mac's GPU uses the machine's), else of
    the machine.
    """
    device: int | str = mx.device_info().get("memory_size", 0)
    return int(device) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def make_plan(
    loop: Loop,
    prompts: PromptSet,
    held_out: Sequence[Prompt],
    *,
    judge: int = 0,
    judges: Sequence[BaseJudge] = (),
    division: Division | None = None,
) -> Plan:
    """The plan of a loop that has not started.

    `judge` is the bytes that its `judges` hold, once they are prepared. A run that goes on keeps its
    `division`, whatever memory there is now; otherwise the memory decides.
    """
    trained, limit_gb = loop.policy.trainable(), loop.training.memory_limit_gb
    longest = max(len(p.tokens) for p in loop.prompts)
    lengths = [len(p.tokens) for p in (*loop.prompts, *held_out)]
    longest_of_all = max(lengths)
    completion = loop.sampler.sampling.max_tokens
    pairs = max(pairs_drawn(loop), len(held_out))
    asked = (one.pass_bytes(pairs, min(lengths), longest_of_all, completion) for one in judges)
    judging = max(asked, default=0)
    estimate = Estimator(loop, longest_of_all, completion, judge, len(held_out), judging)
    division = division or divide(estimate, loop, SHARE * memory_limit(limit_gb))
    memory = estimate(division.micro_batch, division.pool_bytes)
    remedy = "prompts.max_length or sampler.max_completion_length"
    window = beyond_window(loop.policy.loaded.config, "policy", longest_of_all + completion, remedy)
    shortage = "" if on_cpu() else _shortage(memory, division, limit_gb)
    said = (_beyond_training(loop, longest_of_all + completion), _endless(loop), _slow_weights(loop))
    return Plan(
        parameters=int(get_total_parameters(loop.policy.model)),
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
        tokens_per_step=2 * loop.batch_size * (longest + completion),
        division=division,
        memory=memory,
        warnings=tuple(filter(None, (*loop.idle_schedules(), shortage, window, *said))),
        sources=_sources(loop, held_out),
    )


def _sources(loop: Loop, held_out: Sequence[Prompt]) -> tuple[str, ...]:
    """What each source of a mixture brings, and how often its prompts come in an epoch."""
    training = Counter(prompt.source for prompt in loop.prompts)
    evaluating = Counter(prompt.source for prompt in held_out)
    weights = [loop.weights[source] for source in loop.sources]
    drawn = shares(len(loop.prompts), weights) if weights else []
    return tuple(
        f"{source}: {training[source]:,} to train on, {evaluating[source]:,} held out; an epoch draws "
        f"{share:,}, each {share / training[source]:.2g} times"
        for source, share in zip(loop.sources, drawn, strict=True)
    )


def _beyond_training(loop: Loop, tokens: int) -> str:
    """What is to be said where texts are longer than those that the model was trained on."""
    length = trained_length(loop.policy.loaded.config)
    if length is None or tokens <= length:
        return ""
    return (
        f"texts can have {tokens:,} tokens here, and the model was trained on {length:,} at most: beyond that"
        " its probabilities mean little. Lower sampler.max_completion_length or prompts.max_length."
    )


def _endless(loop: Loop) -> str:
    """What is to be said where completions go on past the end of a turn, or never end."""
    policy, own = loop.policy, loop.sampler.sampling.stop
    stops = Stops.of(policy.tokenizer, own)
    ids = embedded_ids(policy.model)
    if not stops.texts and not any(ids is None or 0 <= i < ids for i in stops.ids):
        return (
            "this model has no stop token, so completions always go on to sampler.max_completion_length. Name"
            " what ends them in sampler.stop."
        )
    text = end_of_turn(policy.tokenizer)
    if not text or stops.cut(policy.tokenizer.encode(text, add_special_tokens=False)):
        return ""
    return (
        f"the chat template ends a turn with {text!r}, which is no stop token of this model, so completions "
        f"go on past it. Add it: sampler.stop: [{text!r}]"
    )


def _slow_weights(loop: Loop) -> str:
    """What is to be said of quantized weights on a CPU: they save memory there, and no time."""
    if not on_cpu() or "quantization" not in loop.policy.loaded.config:
        return ""
    return (
        "model: its weights are quantized, which is slow on mlx's CPU back end: steps of a model with 135 M "
        "parameters took 7 times as long in 4 bits. If the memory allows it, leave model.quantize out, or "
        "take a model that is not quantized."
    )


def pairs_drawn(loop: Loop) -> int:
    """Pairs that are sampled and judged together."""
    return loop.batch_size * min(loop.training.rollout, loop.steps)


def divide(estimate: Callable[[int, int], Memory], loop: Loop, budget: float) -> Division:
    """As much at once as fits `budget` bytes; a single pair and a single row where even that is too much.

    An explicit ``training.micro_batch_size`` is taken as it is.
    """
    pool = int(max(0, min(POOL_BYTES, budget - estimate(1, 0).held)))
    batch = loop.training.batch_size
    if (asked := loop.training.micro_batch_size) is not None:
        return Division(min(asked, batch), pool)
    fits = (n for n in range(batch, 1, -1) if estimate(n, 0).total <= budget)
    return Division(next(fits, 1), pool)


@frozen(eq=False)
class Estimator:
    """Estimates the memory of a run whose longest prompt and completion have so many tokens."""

    loop: Loop
    prompt: int
    completion: int
    judge: int = 0
    held_out: int = 0
    """Prompts of an evaluation, which are sampled together, once for each side."""
    judging: int = 0

    def __call__(self, micro_batch: int, pool_bytes: int) -> Memory:
        """The estimate where so many pairs are scored at once and sampled rows take so many bytes at most."""
        pairs = self.loop.batch_size
        drawn = pairs_drawn(self.loop)
        together = max(self._rows_bytes(drawn, 2 * drawn), self._rows_bytes(self.held_out, self.held_out))
        folded, _ = self._sampling
        caches = folded + min(together, max(pool_bytes, self._rows_bytes(1, 1)))
        if self.loop.training.micro_batch_size is None:
            tokens = pairs * (self.prompt + 2 * self.completion)
            micro_batch = min(micro_batch, self.loop.pairs_at_once(pairs, tokens))
        return evolve(self._fixed, caches=caches, activations=self._activations(micro_batch))

    @cached_property
    def _fixed(self) -> Memory:
        """All that does not depend on how a step is divided."""
        policy = self.loop.policy
        models = (policy.loaded.pristine.model, policy.start, policy.reference, policy.model)
        weights = {id(v): v.nbytes for model in models for v in arrays(model.parameters()).values()}
        sizes = [v.nbytes for v in policy.trainable().values()]
        return Memory(
            weights=sum(weights.values()),
            judge=self.judge,
            trained=sum(sizes),
            optimizer=sum(v.nbytes for v in arrays(self.loop.optimizer.state).values()),
            caches=0,
            activations=0,
            judging=self.judging,
            update=sum(sizes) + int(APPLIED * max(sizes, default=0)),
        )

    @cached_property
    def _sampling(self) -> tuple[int, int]:
        """Bytes that sampling takes whatever the number of rows, and for each token in a cache."""
        model = self.loop.policy.model
        twin = fuse_adapters(model)  # lazy: nothing is computed
        there = {id(v) for v in arrays(model.parameters()).values()}
        folded = sum(v.nbytes for v in arrays(twin.parameters()).values() if id(v) not in there)
        caches = make_prompt_cache(model)
        model(mx.array([[0]]), cache=caches)
        return folded, int(cache_bytes_per_token(caches))

    @cached_property
    def _shape(self) -> Mapping[str, int]:
        """Widths by the names that Hugging Face configurations share; a text model may be nested."""
        config: Mapping[str, Any] = self.loop.policy.loaded.config
        config = config.get("text_config", config)
        model = self.loop.policy.scorer.model
        states = model.backbone(mx.array([[0]]))[0]  # lazy: the shapes cost no pass
        hidden = int(config.get("hidden_size") or states.shape[-1])
        heads = int(config.get("num_attention_heads") or 1)
        width = int(config.get("head_dim") or hidden // heads)
        output = [arrays(module.trainable_parameters()) for module in model.head_modules()]
        return {
            "H": hidden,
            "I": int(np.max(config.get("intermediate_size") or 4 * hidden)),  # gemma3n has one a layer
            "Q": heads * width,
            "K": int(config.get("num_key_value_heads") or heads) * width,
            "A": heads,
            "V": int(model.lm_head(states).shape[-1]),
            "trained head": sum(value.nbytes for module in output for value in module.values()),
            "tied": int(bool(config.get("tie_word_embeddings", True))),
            "layers": len(self.loop.policy.model.layers),
            "bytes": states.itemsize,
        }

    def _rows_bytes(self, prompts: int, rows: int) -> int:
        """Caches and logits of so many rows that are sampled together."""
        cached = cached_tokens(self.prompt - 1, self.completion, prompts, rows)
        return cached * self._sampling[1] + rows * self._shape["V"] * 4 * LOGIT_COPIES

    def _activations(self, pairs: int) -> int:
        """Scoring: what the layers keep for the backward pass, the output head's chunks, and the gradients.

        The head has its peak when the layers have kept everything and none has a gradient yet.
        """
        shape, tokens, trained = self._shape, 2 * pairs * self.completion, self._fixed.trained
        possible = not shape["trained head"] and not self.loop.training.gradient_checkpointing
        numpy = possible and use_numpy(tokens, shape["V"], shape["layers"] * shape["H"])
        kept, working = self._backbone(pairs, KEPT_FOR_NUMPY if numpy else KEPT)
        head = self._head(tokens, numpy=numpy)
        tied = TIED_HEADS * shape["trained head"] if shape["tied"] else 0
        summed = 0 if pairs >= self.loop.training.batch_size else trained
        return int(summed + max(kept + head, kept + working, trained + tied))

    def _backbone(self, pairs: int, arrays_kept: Mapping[str, float]) -> tuple[float, float]:
        """What the layers keep until their backward pass, and what one of them works with in it."""
        shape, loop = self._shape, self.loop
        layer = self._layer(pairs, arrays_kept)
        if loop.training.gradient_checkpointing:
            tokens = 2 * pairs * (self.prompt - 1 + self.completion)
            inputs = shape["layers"] * tokens * shape["H"] * shape["bytes"]
            return inputs, RECOMPUTED * layer
        layers, asked = shape["layers"], loop.policy.adapter.layers
        return (layers if asked < 0 else min(asked, layers)) * layer, IN_FLIGHT * layer

    def _head(self, tokens: int, *, numpy: bool) -> float:
        """The terms of so many tokens, a chunk after the other, and the head's own gradient."""
        shape = self._shape
        rows = chunk_rows(shape["V"])
        some, more, most = TRAINED_HEADS
        gradients = min(some + more * math.ceil(tokens / rows), most) * shape["trained head"]
        padded, kl = shape["V"] % SUMMED > 0, "kl" in self.loop.needs
        kinds = {"plain": True, "padded": padded, "kl": kl, "padded kl": padded and kl}
        copies = sum(kinds[kind] * count for kind, count in (NUMPY_COPIES if numpy else HEAD_COPIES).items())
        ahead = 1 if numpy or kl else CHUNKS_AHEAD
        return gradients + copies * 4 * shape["V"] * min(tokens, ahead * rows)

    def _layer(self, pairs: int, kept: Mapping[str, float]) -> float:
        """What one layer keeps of so many pairs.

        Where prompts are shared, their tokens pass once for both completions, but their keys are copied for
        each row. Scores are as many as heads, times tokens, times the tokens that each looks at.
        """
        shape, adapter = self._shape, self.loop.policy.adapter
        before, rows = self.prompt - 1, 2 * pairs
        length = before + self.completion
        shared = self.loop.policy.scorer.shares_prompts
        alone = pairs * before if shared else 0
        together = rows * (self.completion if shared else length)
        tokens = alone + together
        values = tokens * sum(kept[width] * shape[width] for width in "HQI")
        if adapter.type == "dora":
            values += tokens * (2 * (shape["H"] + shape["I"] + shape["K"]) + shape["Q"])
        values += kept["K"] * shape["K"] * (2 * (rows * length + alone) + tokens)
        values += kept["scores"] * shape["A"] * (alone * before + together * length)
        return shape["bytes"] * values
