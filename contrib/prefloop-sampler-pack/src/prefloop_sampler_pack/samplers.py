"""The samplers `optimistic` and `thompson`: of n completions, the pair whose label promises most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field
from attrs.validators import ge, gt
from numpy.typing import NDArray

from prefloop import Completion, Pair, Progress, Prompt, Verdict
from prefloop_plugins.samplers import SamplingOptions
from prefloop_sampler_pack.belief import Belief, Floats, believe
from prefloop_sampler_pack.words import WORDS, likeness, words_of

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop import Policy

REMEMBERED = 1024
"""Labels that the belief is about, the last that were given. A fit to so many takes half a second."""


@define(eq=False, kw_only=True)
class Exploring(SamplingOptions):
    """Draws `n` completions of each prompt and keeps two, by what the labels so far say of their words.

    No judge is asked for that, so a step takes the judgements of any other sampler, one for each pair. The
    pair is in random order. Completions of equal text count once; where all are equal the pair is of two
    equal ones, which the judge will call a tie.

    What is known is a `Belief`, fitted anew before each step to the last `REMEMBERED` labels and ties, which
    are its state.
    """

    n: int = field(
        default=16, validator=ge(2), metadata={"help": "Completions per prompt, of which two are kept."}
    )
    prior: float = field(
        default=8.0,
        validator=gt(0),
        metadata={"help": "What a completion may be worth in logits before any label: more explores longer."},
    )
    _words: NDArray[np.float32] = field(
        init=False, factory=lambda: np.zeros((2, 0, WORDS), np.float32), repr=False
    )
    """Of the first and of the second completion of each label: ``[2, N, WORDS]``."""
    _targets: NDArray[np.float32] = field(init=False, factory=lambda: np.zeros(0, np.float32), repr=False)

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        """One pair per prompt, in the order of `prompts`."""
        repeated = [prompt for prompt in prompts for _ in range(self.n)]
        drawn = policy.generate(repeated, self.sampling, seed=progress.seed)
        first, second = self._words
        crossed = self._covariance(first, second)
        both = self._covariance(first, first) + self._covariance(second, second) - crossed - crossed.T
        belief = believe(both, self._targets)
        places = range(policy.prompts_before, policy.prompts_before + len(prompts))
        return [
            self._pair(prompt, drawn[i * self.n : (i + 1) * self.n], belief, [progress.seed, place])
            for i, (prompt, place) in enumerate(zip(prompts, places, strict=True))
        ]

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Remember the labels and ties of a step."""
        said = [both for both in zip(pairs, verdicts, strict=True) if both[1].status in ("ok", "tie")]
        words = [words_of([getattr(pair, side).text for pair, _ in said]) for side in ("first", "second")]
        self._words = np.concatenate([self._words, np.array(words)], axis=1)[:, -REMEMBERED:]
        given = np.array([verdict.probability for _, verdict in said], np.float32)
        self._targets = np.concatenate([self._targets, given])[-REMEMBERED:]

    def state(self) -> Mapping[str, mx.array]:
        """The labels that it remembers."""
        import mlx.core as mx

        if not len(self._targets):
            return {}
        return {"words": mx.array(self._words.astype(np.int8)), "targets": mx.array(self._targets)}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Go on from `state`."""
        self._words = np.array(state["words"]).astype(np.float32)
        self._targets = np.array(state["targets"])

    def choose(self, mean: Floats, covariance: Floats, random: np.random.Generator) -> tuple[int, int]:
        """Which two of M completions are the pair, by what they are believed to be worth."""
        raise NotImplementedError

    def _pair(self, prompt: Prompt, drawn: Sequence[Completion], belief: Belief, seed: Sequence[int]) -> Pair:
        distinct = list({completion.text: completion for completion in drawn}.values())
        if len(distinct) == 1:
            return Pair(prompt, *drawn[:2])
        random = np.random.default_rng(seed)
        two = self.choose(*self._believed(distinct, belief), random)
        return Pair(prompt, *(distinct[place] for place in random.permutation(two)))

    def _believed(self, completions: Sequence[Completion], belief: Belief) -> tuple[Floats, Floats]:
        """Mean and covariance of what they are worth, less the mean of all: what all share is not asked."""
        words = words_of([completion.text for completion in completions])
        about = np.eye(len(words)) - 1 / len(words)
        cross = self._covariance(words, self._words[0]) - self._covariance(words, self._words[1])
        return belief.about(about @ cross, about @ self._covariance(words, words) @ about)

    def _covariance(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
        return self.prior**2 * likeness(a, b)


@define(eq=False, kw_only=True)
class Optimistic(Exploring):
    """The completion that may be best, and the one that may beat it by most.

    What a completion may be worth is its mean and `optimism` standard deviations more. One with words that no
    label is about is unsure, and comes first. Source: upper confidence bounds for contextual duels (Saha,
    "Optimal Algorithms for Stochastic Contextual Preference Bandits", NeurIPS 2021).
    """

    optimism: float = field(
        default=2.0,
        validator=ge(0),
        metadata={"help": "Standard deviations above the mean that count as possible."},
    )

    def choose(self, mean: Floats, covariance: Floats, random: np.random.Generator) -> tuple[int, int]:
        variance = np.diagonal(covariance)
        first = int(np.argmax(mean + self.optimism * _root(variance)))
        beats = mean - mean[first] + self.optimism * _root(variance + variance[first] - 2 * covariance[first])
        beats[first] = -np.inf
        return first, int(np.argmax(beats))


@define(eq=False, kw_only=True)
class Thompson(Exploring):
    """The best completion as one draw of the belief has it, and the best other one as a second draw has it.

    Each completion comes up as often as it may be the best one, so that what might be good is tried and
    what has turned out to be no good is not. Source: double Thompson sampling (Wu and Liu, arXiv 1604.07101),
    for language models Liu et al., Sample-Efficient Alignment for LLMs, arXiv 2411.01493, who read worth from
    an ensemble of heads on a language model.
    """

    def choose(self, mean: Floats, covariance: Floats, random: np.random.Generator) -> tuple[int, int]:
        sizes, axes = np.linalg.eigh(covariance)
        spread = axes * _root(sizes)
        one, other = (mean + spread @ random.standard_normal(len(mean)) for _ in range(2))
        first = int(np.argmax(one))
        other[first] = -np.inf
        return first, int(np.argmax(other))


def _root(variance: Floats) -> Floats:
    """The square root of what is never negative but for rounding."""
    found: Floats = np.sqrt(np.maximum(variance, 0.0))
    return found
