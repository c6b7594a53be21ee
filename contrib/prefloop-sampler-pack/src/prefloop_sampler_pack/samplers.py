"""The samplers `thompson` and `optimistic`: of n completions, the pair whose label promises most."""

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
from prefloop_sampler_pack.words import FEATURES, occurrences

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop import Policy

REMEMBERED = 4096
"""Labels from which it is worked out what words are worth, the last that were given."""


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
        default=1.0,
        validator=gt(0),
        metadata={
            "help": "How far a word may change what an answer is worth, in logits, before any label: more "
            "explores longer."
        },
    )
    _differences: list[NDArray[np.int8]] = field(init=False, factory=list, repr=False)
    _targets: list[float] = field(init=False, factory=list, repr=False)

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        """One pair per prompt, in the order of `prompts`."""
        repeated = [prompt for prompt in prompts for _ in range(self.n)]
        drawn = policy.generate(repeated, self.sampling, seed=progress.seed)
        belief = believe(self._known(), np.array(self._targets, np.float32), prior=self.prior)
        places = range(policy.prompts_before, policy.prompts_before + len(prompts))
        return [
            self._pair(prompt, drawn[i * self.n : (i + 1) * self.n], belief, [progress.seed, place])
            for i, (prompt, place) in enumerate(zip(prompts, places, strict=True))
        ]

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Remember the labels and ties of a step."""
        for pair, verdict in zip(pairs, verdicts, strict=True):
            if verdict.status in ("ok", "tie"):
                first, second = occurrences([pair.first.text, pair.second.text])
                self._differences.append(first - second)
                self._targets.append(float(np.float32(verdict.probability)))
        del self._differences[:-REMEMBERED], self._targets[:-REMEMBERED]

    def state(self) -> Mapping[str, mx.array]:
        """The labels that it remembers."""
        import mlx.core as mx

        if not self._targets:
            return {}
        return {
            "differences": mx.array(self._known()),
            "targets": mx.array(np.array(self._targets, np.float32)),
        }

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Go on from `state`."""
        self._differences = list(np.array(state["differences"]))
        self._targets = [float(target) for target in np.array(state["targets"])]

    def choose(self, features: Floats, belief: Belief, random: np.random.Generator) -> tuple[int, int]:
        """Which two of the completions with these `features`, ``[M, D]`` about their mean, are the pair."""
        raise NotImplementedError

    def _known(self) -> NDArray[np.int8]:
        return np.array(self._differences, np.int8).reshape(-1, FEATURES)

    def _pair(self, prompt: Prompt, drawn: Sequence[Completion], belief: Belief, seed: Sequence[int]) -> Pair:
        distinct = list({completion.text: completion for completion in drawn}.values())
        if len(distinct) == 1:
            return Pair(prompt, *drawn[:2])
        random = np.random.default_rng(seed)
        features = occurrences([completion.text for completion in distinct]).astype(np.float64)
        two = self.choose(features - features.mean(axis=0), belief, random)
        return Pair(prompt, *(distinct[place] for place in random.permutation(two)))


@define(eq=False, kw_only=True)
class Thompson(Exploring):
    """The best completion as one draw of the belief has it, and the best other one as a second draw has it.

    Each completion comes up as often as it may be the best one, so that what might be good is tried and
    what has turned out to be no good is not. Source: double Thompson sampling (Wu and Liu, arXiv 1604.07101),
    for language models Liu et al., Sample-Efficient Alignment for LLMs, arXiv 2411.01493, who read worth from
    an ensemble of heads on a language model.
    """

    def choose(self, features: Floats, belief: Belief, random: np.random.Generator) -> tuple[int, int]:
        first = int(np.argmax(features @ belief.draw(random)))
        others = features @ belief.draw(random)
        others[first] = -np.inf
        return first, int(np.argmax(others))


@define(eq=False, kw_only=True)
class Optimistic(Exploring):
    """The completion that may be best, and the one that may beat it by most.

    What a completion may be worth is its mean and `optimism` standard deviations more. One with words that no
    label is about is unsure, and comes first. Source: upper confidence bounds for contextual duels (Saha,
    "Optimal Algorithms for Stochastic Contextual Preference Bandits", NeurIPS 2021).
    """

    optimism: float = field(
        default=3.0,
        validator=ge(0),
        metadata={"help": "Standard deviations above the mean that count as possible."},
    )

    def choose(self, features: Floats, belief: Belief, random: np.random.Generator) -> tuple[int, int]:
        first = int(np.argmax(self._possible(features, belief)))
        others = self._possible(features - features[first], belief)
        others[first] = -np.inf
        return first, int(np.argmax(others))

    def _possible(self, differences: Floats, belief: Belief) -> Floats:
        mean, deviation = belief.worth(differences)
        found: Floats = mean + self.optimism * deviation
        return found
