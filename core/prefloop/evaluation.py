"""Win rate of the policy against the start of its run, on held-out prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from attrs import evolve, frozen

from prefloop.generation import Generator
from prefloop.policy import Policy
from prefloop.types import Completion, Evaluation, Judge, Pair, Prompt, Rate, Sampling, Verdict

# Apart from every step's seed, so that evaluating does not repeat what training drew.
_SEED = 2**62


@frozen(eq=False)
class Evaluator:
    """Compares the live policy with the start of the run.

    `answer` names the column whose text a right completion contains; its share becomes ``accuracy``.
    """

    policy: Policy
    prompts: Sequence[Prompt]
    judge: Judge
    sampling: Sampling
    answer: str | None = None
    seed: int = 0

    def __call__(self, step: int) -> Evaluation:
        """One completion from each side for every prompt, judged; ties count as half."""
        start = Generator(self.policy.start, self.policy.tokenizer)
        ours = self.policy.generate(self.prompts, self.sampling, seed=_SEED + 2 * self.seed)
        theirs = start(self.prompts, self.sampling, seed=_SEED + 2 * self.seed + 1)
        pairs = [Pair(*row) for row in zip(self.prompts, ours, theirs, strict=True)]
        verdicts = self._judge(pairs)
        return Evaluation(step, win_rate(verdicts), self._metrics(ours, verdicts), pairs, verdicts)

    def _judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Every other pair is judged the other way round, lest a judge's liking for one place count."""
        shown = [Pair(p.prompt, p.second, p.first) if i % 2 else p for i, p in enumerate(pairs)]
        return [_turned(v) if i % 2 else v for i, v in enumerate(self.judge.judge(shown))]

    def _metrics(self, completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> dict[str, float]:
        outcomes = [v.outcome for v in verdicts]
        metrics = {
            "ties": fmean(o == "tie" for o in outcomes),
            "errors": fmean(o == "error" for o in outcomes),
            "completion_length": fmean(len(c.tokens) for c in completions),
            "stop_rate": fmean(c.stopped for c in completions),
        }
        if self.answer:
            answers = [str(p.fields[self.answer]) for p in self.prompts]
            right = (a.casefold() in c.text.casefold() for a, c in zip(answers, completions, strict=True))
            metrics["accuracy"] = fmean(right)
        return metrics


def win_rate(verdicts: Sequence[Verdict]) -> Rate:
    """Share of pairs whose first completion won; ties are half, errors and abstentions do not count."""
    counted = [v for v in verdicts if v.outcome in ("ok", "tie")]
    wins = sum(0.5 if v.prefers_first is None else float(v.prefers_first) for v in counted)
    return wilson(wins, len(counted))


def wilson(wins: float, pairs: int, z: float = 1.959963984540054) -> Rate:
    """A proportion and its Wilson score interval (Wilson 1927), 95 % by default; all of [0, 1] for none."""
    if pairs == 0:
        return Rate(0.5, 0.0, 1.0, 0)
    p = wins / pairs
    centre = (p + z * z / (2 * pairs)) / (1 + z * z / pairs)
    half = z * math.sqrt(p * (1 - p) / pairs + z * z / (4 * pairs * pairs)) / (1 + z * z / pairs)
    return Rate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), pairs)


def sampling_of(sampler: Any, temperature: float | None) -> Sampling:
    """The run's own sampling settings, or mlx-lm's where its sampler does not tell them."""
    sampling = getattr(sampler, "sampling", Sampling())
    return sampling if temperature is None else evolve(sampling, temperature=temperature)


def _turned(verdict: Verdict) -> Verdict:
    orders = verdict.orders and (1 - verdict.orders[0], 1 - verdict.orders[1])
    return evolve(verdict, probability=1 - verdict.probability, orders=orders)
