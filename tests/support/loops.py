"""A loop on a tiny model, without a configuration and without files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from prefloop import Loop, Pair, Policy, Prompt, Verdict, component
from prefloop.config import TrainingConfig


@frozen
class Longer:
    """Prefers the longer completion, then the larger token ids, so that every pair has a winner."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [
            Verdict.from_scores(*(len(c.tokens) + sum(c.tokens) / 1e6 for c in (p.first, p.second)))
            for p in pairs
        ]


def prompts_of(policy: Policy, count: int = 8) -> list[Prompt]:
    return [policy.encode(f"What does animal number {i} say?") for i in range(count)]


def make_loop(policy: Policy, judge: Any = None, sampler: str = "policy", **options: Any) -> Loop:
    training = TrainingConfig(
        **{"batch_size": 2, "learning_rate": 1e-2, "iters": 3, **options.pop("training", {})}
    )
    return Loop(
        policy,
        prompts_of(policy),
        judge=judge or Longer(),
        sampler=component("sampler", sampler)(max_completion_length=6, temperature=1.0, top_p=1.0),
        training=training,
        **options,
    )
