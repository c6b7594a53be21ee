"""A loop on a tiny model, without a configuration and without files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from prefloop import (
    BaseSampler,
    Completion,
    Loop,
    Pair,
    Policy,
    Progress,
    Prompt,
    Sampling,
    Verdict,
    component,
)
from prefloop.config import TrainingConfig


@frozen
class Longer:
    """Prefers the longer completion, then the larger token ids, so that only equal completions tie."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(0.9 if _size(p.first) > _size(p.second) else 0.1) for p in pairs]


def _size(completion: Completion) -> tuple[int, tuple[int, ...]]:
    return len(completion.tokens), completion.tokens


@frozen
class Apart(BaseSampler):
    """The pairs of another sampler with another last token in each place, so that no two answers are equal.

    What is sampled depends on the last bits of the logits, and so on the processor.
    """

    sampler: BaseSampler

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        pairs = self.sampler.sample(policy, prompts, progress)
        return [Pair(p.prompt, _ending(p.first, 11), _ending(p.second, 12)) for p in pairs]

    @property
    def sampling(self) -> Sampling:
        return self.sampler.sampling

    @property
    def reference_samples(self) -> bool:
        return self.sampler.reference_samples


def _ending(completion: Completion, token: int) -> Completion:
    return evolve(completion, tokens=(*completion.tokens, token))


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
        sampler=Apart(component("sampler", sampler)(max_completion_length=6, temperature=1.0, top_p=1.0)),
        training=training,
        **options,
    )
