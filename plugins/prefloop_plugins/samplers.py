"""Samplers: from the policy, from the reference too, or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from attrs import define, field, fields, frozen
from attrs.validators import ge, gt, le

from prefloop import BaseSampler, Pair, Progress, Prompt, Sampling
from prefloop_plugins.judging.pair_files import labelled_pairs

if TYPE_CHECKING:
    from prefloop import Completion, Policy

MAX_LENGTH_HELP = "A completion is cut after this many tokens."
STOP_HELP = "Texts and token ids at which a completion ends, besides the model's stop tokens."
_STOPS = fields(Sampling).stop.validator


@define(eq=False)
class SamplingOptions(BaseSampler):
    """How completions are drawn, as options of a sampler."""

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
    max_completion_length: int = field(default=512, validator=gt(0), metadata={"help": MAX_LENGTH_HELP})
    stop: tuple[str | int, ...] = field(default=(), validator=_STOPS, metadata={"help": STOP_HELP})

    @property
    def sampling(self) -> Sampling:
        """The same settings as the record that `Policy.generate` takes."""
        length = self.max_completion_length
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p, length, self.stop)


@frozen
class PolicySampler(SamplingOptions):
    """Both completions from the policy (Online DPO, arXiv 2402.04792)."""

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        twice = [prompt for prompt in prompts for _ in range(2)]
        drawn = policy.generate(twice, self.sampling, seed=progress.seed)
        return [Pair(p, drawn[2 * i], drawn[2 * i + 1]) for i, p in enumerate(prompts)]


@frozen
class PolicyReferenceSampler(SamplingOptions):
    """The first completion from the live policy, the second from the reference (XPO, arXiv 2405.21046)."""

    reference_samples: ClassVar[bool] = True

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        ours = policy.generate(prompts, self.sampling, seed=progress.seed)
        theirs = policy.generate(prompts, self.sampling, seed=progress.seed + 1, source="reference")
        return [Pair(*row) for row in zip(prompts, ours, theirs, strict=True)]


@frozen
class DatasetSampler(BaseSampler):
    """The two completions that a prompt's own row holds, in an order drawn anew at every step (offline DPO).

    The prompts come from a preference data set: rows with ``chosen`` and ``rejected``, or ``first`` and
    ``second``, as `prefloop judge` reads them. Raises `UserError` for a prompt without.
    """

    max_completion_length: int = field(default=512, validator=gt(0), metadata={"help": MAX_LENGTH_HELP})
    stop: tuple[str | int, ...] = field(default=(), validator=_STOPS, metadata={"help": STOP_HELP})

    @property
    def sampling(self) -> Sampling:
        """How the policy is sampled where it is evaluated; what it is trained on is not sampled."""
        return Sampling(max_tokens=self.max_completion_length, stop=self.stop)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` where rows hold no two completions, for the first few together."""
        labelled_pairs(prompts)

    def check_policy(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` for an answer that the policy cannot read."""
        from prefloop.model.limits import embedded_ids

        known, ids = embedded_ids(policy.model), policy.tokenizer.get_vocab().values()
        if known is not None and max(ids) >= known:
            for row in labelled_pairs(prompts):  # of a tokenizer that fits the model no answer has such ids
                for answer in (row.pair.first, row.pair.second):
                    self._encoded(policy, row.pair.prompt, answer)

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        pairs = [row.pair for row in labelled_pairs(prompts, seed=progress.seed)]
        return [
            Pair(p.prompt, *(self._encoded(policy, p.prompt, c) for c in (p.first, p.second))) for p in pairs
        ]

    def _encoded(self, policy: Policy, prompt: Prompt, answer: Completion) -> Completion:
        limit = self.max_completion_length
        return policy.completion(answer.text, prompt=prompt, max_tokens=limit, stop=self.stop)
