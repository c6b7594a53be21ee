"""Compares the policy with another model on held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from prefloop.components import Judge
from prefloop.evaluation import metrics
from prefloop.evaluation.asking import ask
from prefloop.evaluation.stats import length_controlled, win_rate
from prefloop.model.policy import Policy
from prefloop.sampling import Generator
from prefloop.types import Evaluation, Pair, Prompt, Sampling, Verdict

# Apart from every step's seed, so that evaluating does not repeat what training drew.
_SEED = 2**62


@frozen(eq=False)
class Opponent:
    """Whom the policy is compared with. `prompts` are the same ones as its own tokenizer encodes them."""

    label: str
    generator: Generator
    prompts: Sequence[Prompt]


@frozen(eq=False)
class Evaluator:
    """Compares the live policy with `opponent`, by default with the start of the run.

    `answer` names the column whose text a right completion contains; its share becomes ``accuracy``.
    `judge_name` is the judge's qualified name, and `batch_size` that of scoring.
    """

    policy: Policy
    prompts: Sequence[Prompt]
    judge: Judge
    sampling: Sampling
    answer: str | None = None
    seed: int = 0
    judge_name: str = ""
    opponent: Opponent | None = None
    batch_size: int = 8

    def __call__(self, step: int) -> Evaluation:
        """One completion from each side for every prompt, judged and measured."""
        pairs = self.sample()
        return self.measure(step, pairs, self.ask(pairs))

    def sample(self) -> list[Pair]:
        """The policy's completion of each prompt, and the other side's; the same ones for the same seed."""
        other = self._against()
        ours = self.policy.generate(self.prompts, self.sampling, seed=_SEED + 2 * self.seed)
        theirs = other.generator(other.prompts, self.sampling, seed=_SEED + 2 * self.seed + 1)
        return [Pair(*row) for row in zip(self.prompts, ours, theirs, strict=True)]

    def ask(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The judge's verdicts, in which the place of an answer does not count."""
        return ask(self.judge, pairs)

    def measure(self, step: int, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Evaluation:
        """The rates and metrics of judged pairs."""
        prompts, ours = [p.prompt for p in pairs], [p.first for p in pairs]
        controlled = length_controlled(pairs, verdicts)
        found = {
            "length_controlled_win_rate": controlled.rate,
            "length_controlled_low": controlled.low,
            "length_controlled_high": controlled.high,
            **metrics.health(pairs, verdicts),
            **metrics.answers(ours),
            **metrics.divergence(self.policy, prompts, ours, self.batch_size),
        }
        if self.answer:
            found["accuracy"] = metrics.accuracy(prompts, ours, self.answer)
        against = self._against().label
        return Evaluation(step, win_rate(verdicts), found, pairs, verdicts, self.judge_name, against)

    def _against(self) -> Opponent:
        policy = self.policy
        start = Generator(policy.start, policy.tokenizer, pool_bytes=policy.pool_bytes)
        return self.opponent or Opponent("start", start, self.prompts)


def sampling_of(sampler: Any, temperature: float | None) -> Sampling:
    """The run's own sampling settings, or mlx-lm's where its sampler does not tell them."""
    sampling = getattr(sampler, "sampling", Sampling())
    return sampling if temperature is None else evolve(sampling, temperature=temperature)
