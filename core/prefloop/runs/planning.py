"""Works out what a run is going to need before it starts, and divides its steps so that they fit the memory.

The memory is estimated from the model's shape, term by term. Factors written as numbers were measured: the
peak of a gradient was taken for models that differ in one width at a time, and the differences divided by
that width (``benchmarks/memory_plan.py`` compares the sums with whole runs). They count float arrays of an
attention and gated feed-forward layer, as of Qwen and Llama.

Symbols: ``H`` the hidden size, ``I`` the intermediate one, ``Q`` and ``K`` the widths of queries and of keys,
``A`` the heads, ``V`` the vocabulary; ``P`` tokens in the longest prompt, ``T`` in the longest completion.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from attrs import evolve, field, frozen
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import get_total_parameters

from prefloop.config import Config
from prefloop.cpu.kernels import use_numpy
from prefloop.errors import UserError
from prefloop.evaluation import sampling_of
from prefloop.loop import Loop, pairs_at_once
from prefloop.model.adapters import fuse_adapters
from prefloop.model.mlx_lm_internals import cache_bytes_per_token
from prefloop.model.weight_sharing import arrays
from prefloop.prompts.loading import PromptSet
from prefloop.runs.plan import Division, Memory, Plan, size_words
from prefloop.sampling.generator import POOL_BYTES
from prefloop.sampling.pool import LOGIT_COPIES, cached_tokens
from prefloop.scoring.token_terms import chunk_rows
from prefloop.types import Prompt

SHARE = 0.8
"""Of the memory there is, what a step is planned to take: the estimate may be out by a fifth."""
HEAD_COPIES = 5
"""Arrays of the size of a chunk's logits at the peak of the output head."""
KL_COPIES = 10.5
"""The same where the exact KL to the reference is asked for."""
TRAINED_COPIES = 1.5
"""And besides, for the second chunk and the third, where the head is trained: so many are in the making."""
TRAINED_HEADS = 2
"""And of the size of the head's trained weights: a chunk's gradient, and the sum of those so far."""
TIED_HEADS = 3.5
"""Of that size at the end, where the embedding is the head too: its two gradients are made and added."""
UPDATE_COPIES = 2
"""Of the size of what is trained while it is updated, besides the gradient: it is clipped, and applied."""
RANK = 3.7
"""Numbers that a layer's adapters keep for each token and rank."""
IN_FLIGHT = 0.25
"""Of a layer, what its backward pass works with besides what was kept."""
CHECKPOINTED = 2.1
"""Layers in the making under gradient checkpointing."""


@frozen
class _Kept:
    """What a layer keeps until its backward pass, in arrays of each width."""

    hidden: float
    queries: float
    keys: float
    intermediate: float
    scores: float


_LAZY = _Kept(hidden=4, queries=3.6, keys=1, intermediate=5, scores=1)
"""What the derivatives need."""
_LOOKED = _Kept(hidden=16.2, queries=13.7, keys=4.8, intermediate=10.4, scores=2.8)
"""Everything: NumPy looks into the pass while its gradient is traced, and mlx then keeps what it computed."""


def check_memory(plan: Plan, limit_gb: float | None) -> None:
    """Raises `UserError` where the run would need more memory than `limit_gb`, or than the machine has."""
    limit = machine_memory() if limit_gb is None else limit_gb * 1e9
    allowed = "The machine has" if limit_gb is None else "training.memory_limit_gb allows"
    if limit and plan.memory.total > limit:
        divisible = "training.micro_batch_size or " if plan.division.micro_batch > 1 else ""
        raise UserError(
            f"this run needs {plan.memory.words()}. {allowed} {size_words(int(limit))}. "
            f"Lower {divisible}sampler.max_completion_length, quantize the model, or set "
            "training.memory_limit_gb: 0 to try all the same."
        )


def machine_memory() -> int:
    """Bytes of memory: of the device where mlx tells (a CUDA card; a Mac's GPU uses the machine's), else of
    the machine.
    """
    device: int | str = mx.device_info().get("memory_size", 0)
    return int(device) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def make_plan(
    config: Config,
    loop: Loop,
    prompts: PromptSet,
    held_out: Sequence[Prompt],
    *,
    judge: int = 0,
    division: Division | None = None,
) -> Plan:
    """The plan of a loop that has not started.

    `judge` is the bytes that its judges hold. A run that goes on keeps its `division`, whatever memory there
    is now; otherwise the budget decides.
    """
    model = loop.policy.model
    trained = loop.policy.trainable()
    longest = max(len(p.tokens) for p in loop.prompts)
    longest_of_all = max([longest, *(len(p.tokens) for p in held_out)])
    completion = sampling_of(config.sampler, None).max_tokens
    estimate = Estimator(loop, longest_of_all, completion, judge, len(held_out))
    division = division or divide(estimate, loop, _budget(loop.training.memory_limit_gb))
    return Plan(
        parameters=int(get_total_parameters(model)),
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
        memory=estimate(division.micro_batch, division.pool_bytes),
        warnings=tuple(loop.idle_schedules()),
    )


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


def _budget(limit_gb: float | None) -> float:
    """Bytes that a step may be planned to take."""
    limit = machine_memory() if limit_gb is None else limit_gb * 1e9
    return SHARE * limit if limit else math.inf


@frozen(eq=False)
class Estimator:
    """Estimates the memory of a run whose longest prompt and completion have so many tokens."""

    loop: Loop
    prompt: int
    completion: int
    judge: int = 0
    held_out: int = 0
    """Prompts of an evaluation, which are sampled together, once for each side."""
    fixed: Memory = field(init=False)
    """All that does not depend on how a step is divided."""
    _sampling: tuple[int, int] = field(init=False)
    _shape: Mapping[str, int] = field(init=False)

    @fixed.default
    def _fixed(self) -> Memory:
        policy = self.loop.policy
        held = [policy.loaded.pristine.model, policy.start, policy.reference]
        weights = {id(v): v.nbytes for model in held for v in arrays(model.parameters()).values()}
        own = arrays(policy.model.parameters()).values()
        trained = sum(v.nbytes for v in policy.trainable().values())
        return Memory(
            weights=sum((weights | {id(v): v.nbytes for v in own}).values()),
            judge=self.judge,
            trained=trained,
            optimizer=sum(v.nbytes for v in arrays(self.loop.optimizer.state).values()),
            caches=0,
            activations=0,
            update=(1 + UPDATE_COPIES) * trained,
        )

    @_sampling.default
    def _sampling_bytes(self) -> tuple[int, int]:
        """Bytes that sampling takes whatever the number of rows, and for each token in a cache."""
        model = self.loop.policy.model
        twin = fuse_adapters(model)  # lazy: nothing is computed
        there = {id(v) for v in arrays(model.parameters()).values()}
        folded = sum(v.nbytes for v in arrays(twin.parameters()).values() if id(v) not in there)
        caches = make_prompt_cache(model)
        model(mx.array([[0]]), cache=caches)
        return folded, int(cache_bytes_per_token(caches))

    @_shape.default
    def _shape_of_model(self) -> Mapping[str, int]:
        return _shape_of(self.loop)

    def __call__(self, micro_batch: int, pool_bytes: int) -> Memory:
        """The estimate where so many pairs are scored at once and sampled rows take so many bytes at most."""
        pairs, held_out = self.loop.batch_size, self.held_out
        together = max(self._rows_bytes(pairs, 2 * pairs), self._rows_bytes(held_out, held_out))
        caches = self._sampling[0] + min(together, max(pool_bytes, self._rows_bytes(1, 1)))
        return evolve(self.fixed, caches=caches, activations=self._activations(self._at_once(micro_batch)))

    def _at_once(self, micro_batch: int) -> int:
        """Pairs of full length that the loop scores together."""
        if self.loop.training.micro_batch_size is not None:
            return micro_batch
        pairs = self.loop.batch_size
        return min(micro_batch, pairs_at_once(pairs, pairs * (self.prompt + 2 * self.completion)))

    def _rows_bytes(self, prompts: int, rows: int) -> int:
        """Caches and logits of so many rows that are sampled together."""
        cached = cached_tokens(self.prompt - 1, self.completion, prompts, rows)
        return cached * self._sampling[1] + rows * self._shape["V"] * 4 * LOGIT_COPIES

    def _activations(self, pairs: int) -> int:
        """Scoring: what the layers keep for the backward pass, the output head's chunk, and the gradients."""
        s, loop = self._shape, self.loop
        looked = not s["head"] and use_numpy(2 * pairs * self.completion, s["V"])
        layer = self._layer(pairs, _LOOKED if looked else _LAZY)
        trained = s["layers"] if loop.policy.adapter.layers < 0 else loop.policy.adapter.layers
        layers = min(trained, s["layers"]) + IN_FLIGHT
        if loop.training.gradient_checkpointing and not looked:
            inputs = 2 * pairs * (self.prompt - 1 + self.completion) * s["H"] * s["bytes"]
            backbone = CHECKPOINTED * layer + s["layers"] * inputs
        else:
            backbone = layers * layer
        gradients = self.fixed.trained * (1 if pairs >= loop.training.batch_size else 2)
        return int(backbone + self._head(2 * pairs * self.completion) + gradients)

    def _head(self, tokens: int) -> float:
        """What the output head works with: chunks of logits and, where it is trained, its own gradients."""
        s, at_once = self._shape, chunk_rows(self._shape["V"])
        chunks = tokens / at_once
        chunk = 4 * s["V"] * at_once * min(chunks, 1)
        copies = KL_COPIES if "kl" in self.loop.needs else HEAD_COPIES
        if not s["head"]:
            return copies * chunk
        more = max(0, min(chunks, 3) - 1)
        passing = (copies + TRAINED_COPIES * more) * chunk + TRAINED_HEADS * more * s["head"]
        return max(passing, TIED_HEADS * s["tied"] * s["head"])

    def _layer(self, pairs: int, kept: _Kept) -> float:
        """What one layer keeps, with ``B`` pairs: ``N`` tokens in ``R = 2 B`` rows.

        Where prompts are shared ``N = B (P - 1) + R T``, else ``R (P - 1 + T)``. The keys of a shared prompt
        are copied for each row, and scores are ``A N`` times the number of tokens looked at.
        """
        s, adapter = self._shape, self.loop.policy.adapter
        shared = self.loop.policy.scorer.shares_prompts
        before, rows = self.prompt - 1, 2 * pairs
        length = before + self.completion
        alone = pairs * before if shared else 0  # tokens that pass once for both completions
        together = rows * (self.completion if shared else length)
        tokens = alone + together
        keys = 2 * (rows * length + alone) + tokens if shared else 3 * tokens
        outputs = 2 * (s["H"] + s["I"] + s["K"]) + s["Q"] if adapter.type == "dora" else 0
        per_token = kept.hidden * s["H"] + kept.queries * s["Q"] + kept.intermediate * s["I"] + outputs
        per_token += RANK * adapter.rank if adapter.type != "full" else 0
        scores = s["A"] * (alone * before + together * length)
        return s["bytes"] * (tokens * per_token + kept.keys * s["K"] * keys + kept.scores * scores)


def _shape_of(loop: Loop) -> dict[str, int]:
    """Widths by the names that Hugging Face configurations share; a text model may be nested."""
    config: Mapping[str, Any] = loop.policy.loaded.config
    config = config.get("text_config", config)
    model = loop.policy.scorer.model
    states = model.backbone(mx.array([[0]]))[0]  # lazy: the shapes cost no pass
    hidden = int(config.get("hidden_size") or states.shape[-1])
    heads = int(config.get("num_attention_heads") or 1)
    head = int(config.get("head_dim") or hidden // heads)
    output = model.head_modules()
    trained = [value for module in output for value in arrays(module.trainable_parameters()).values()]
    return {
        "H": hidden,
        "I": int(config.get("intermediate_size") or 4 * hidden),
        "Q": heads * head,
        "K": int(config.get("num_key_value_heads") or heads) * head,
        "A": heads,
        "V": int(model.lm_head(states).shape[-1]),
        "head": sum(value.nbytes for value in trained),
        "tied": int(any(isinstance(module, nn.Embedding) for module in output)),
        "layers": len(loop.policy.model.layers),
        "bytes": states.itemsize,
    }
