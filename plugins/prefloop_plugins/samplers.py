"""Samplers: both completions from the live policy, or one from it and one from the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen
from attrs.validators import ge, gt, le

from prefloop import Pair, Progress, Prompt, Sampling

if TYPE_CHECKING:
    from prefloop import Policy


@frozen
class _Options:
    temperature: float = field(
        default=0.8, validator=ge(0), metadata={"help": "Sampling temperature; 0 is greedy."}
    )
    top_p: float = field(
        default=0.95,
        validator=[gt(0), le(1)],
        metadata={"help": "Sample from the smallest set of tokens that holds this probability; 1 is off."},
    )
    top_k: int = field(
        default=0, validator=ge(0), metadata={"help": "Sample from this many likeliest tokens; 0 is off."}
    )
    min_p: float = field(
        default=0.0,
        validator=[ge(0), le(1)],
        metadata={"help": "Leave out tokens below this share of the likeliest one's probability; 0 is off."},
    )
    max_completion_length: int = field(
        default=512, validator=gt(0), metadata={"help": "A completion is cut after this many tokens."}
    )

    @property
    def sampling(self) -> Sampling:
        """The same settings as the record that `Policy.generate` takes."""
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p, self.max_completion_length)


@frozen
class PolicySampler(_Options):
    """Both completions from the live policy (Online DPO, arXiv 2402.04792)."""

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        twice = [prompt for prompt in prompts for _ in range(2)]
        drawn = policy.generate(twice, self.sampling, seed=progress.seed)
        return [Pair(p, drawn[2 * i], drawn[2 * i + 1]) for i, p in enumerate(prompts)]


@frozen
class PolicyReferenceSampler(_Options):
    """The first completion from the live policy, the second from the reference (XPO, arXiv 2405.21046)."""

    reference_samples: ClassVar[bool] = True

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        ours = policy.generate(prompts, self.sampling, seed=progress.seed)
        theirs = policy.generate(prompts, self.sampling, seed=progress.seed + 1, source="reference")
        return [Pair(*row) for row in zip(prompts, ours, theirs, strict=True)]
