"""What a run is going to do and need, worked out before it starts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from attrs import frozen

from prefloop.config import Config
from prefloop.errors import UserError
from prefloop.evaluation import sampling_of
from prefloop.loop import Loop
from prefloop.prompts.loading import PromptSet
from prefloop.runs.memory import Estimator, Memory, size_words
from prefloop.sampling.generator import POOL_BYTES
from prefloop.types import Prompt

SHARE = 0.8
"""Of the memory there is, what a step is planned to take: the estimate may be out by a fifth."""


@frozen
class Division:
    """How a step is divided to fit the memory. It is kept for the whole run: rounding depends on it."""

    micro_batch: int
    """Pairs that are scored at once."""
    pool_bytes: int
    """What rows that are sampled together may take."""

    def apply(self, loop: Loop) -> None:
        """Make `loop` go by it."""
        loop.micro_batch = self.micro_batch
        loop.policy.limit_pools(self.pool_bytes)


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
    division: Division
    memory: Memory
    warnings: tuple[str, ...] = ()
    """What the run will do that was hardly meant."""

    def lines(self) -> list[tuple[str, str]]:
        """The plan as titles and texts, for a terminal."""
        share = 100 * self.trained_parameters / self.parameters
        prompts = f"{self.prompts:,} to train on, {self.held_out:,} held out"
        prompts += f", {self.dropped:,} dropped as too long" if self.dropped else ""
        prompts += f", {self.cut:,} cut from the left" if self.cut else ""
        trains = f"{self.trained_parameters:,} of {self.parameters:,} parameters ({share:.2f} %)"
        at_once = self.division.micro_batch
        steps = f"{self.steps:,} of {self.prompts_per_step} prompts, {self.epochs:.2f} epochs"
        return [
            ("trains", f"{trains} in {self.trained_tensors} tensors"),
            ("prompts", prompts),
            ("steps", f"{steps}, at most {self.tokens_per_step:,} tokens a step"),
            ("scoring", f"at most {at_once} {'pair' if at_once == 1 else 'pairs'} at a time"),
            ("memory", self.memory.words()),
            *(("warning", text) for text in self.warnings),
        ]


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
    told: int | str = mx.device_info().get("memory_size", 0)
    return int(told) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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


def _parameters(model: Any) -> int:
    from mlx_lm.utils import get_total_parameters

    return int(get_total_parameters(model))
