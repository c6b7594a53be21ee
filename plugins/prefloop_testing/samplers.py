"""What every sampler must do. It samples from the embedded policy, which needs no network."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar

import mlx.core as mx
from attrs import evolve

from prefloop.components import BaseSampler, adapt
from prefloop.ranks.sharing import draws_a_share
from prefloop.types import Completion, Pair, Progress, Prompt
from prefloop_testing.samples import SAID
from prefloop_testing.suite import ComponentSuite, check_restoring, skip

if TYPE_CHECKING:
    from prefloop.model.policy import Policy

QUESTIONS = (
    "What does a cow say?",
    "What sound does a dog make?",
    "Which noise comes from a cat?",
    "What does a duck say?",
)
ANSWERS = {"chosen": "Sure thing! I do not know.", "rejected": "Fine. Whatever."}


@cache
def embedded_policy() -> Policy:
    """The quick start's policy, loaded once; a sampler changes nothing in it."""
    from prefloop.model.policy import Policy  # only here, as it imports mlx-lm

    return Policy.load("embedded:policy")


class SamplerSuite(ComponentSuite):
    """Tests of a sampler. One that samples from the reference too says ``reference_samples = True``."""

    kind: ClassVar[str] = "sampler"

    @property
    def policy(self) -> Policy:
        return embedded_policy()

    @property
    def prompts(self) -> list[Prompt]:
        """Questions, each from a row that holds two answers, for samplers that read them."""
        return [evolve(self.policy.encode(question), fields=ANSWERS) for question in QUESTIONS]

    def progress(self, seed: int) -> Progress:
        """A step with that seed."""
        return Progress(step=1, steps=10, epoch=0.0, epochs=1.0, seed=seed)

    def sample(self, seed: int = 7, *, noise: int = 0) -> list[Pair]:
        """The sampler's pairs for `seed`, after mlx's global random state was set to `noise`."""
        mx.random.seed(noise)
        return list(self.component.sample(self.policy, self.prompts, self.progress(seed)))

    def test_one_pair_per_prompt(self) -> None:
        prompts, pairs = self.prompts, self.sample()
        counts = f"{len(pairs)} pairs for {len(prompts)} prompts"
        assert len(pairs) == len(prompts), f"sample() gave {counts}: prompts would be lost or count double."
        for i, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True)):
            assert isinstance(pair, Pair), f"sample() gave a {type(pair).__name__}, not a Pair."
            assert pair.prompt == prompt, (
                f"pair {i} is not of prompt {i}: its completions would be judged as answers to another one."
            )

    def test_two_completions_with_tokens(self) -> None:
        for completion in self._completions():
            assert isinstance(completion, Completion) and completion.tokens, (
                f"a pair holds {completion!r}, not a completion with at least one token to train on."
            )

    def test_the_stop_token_is_kept(self) -> None:
        stops = {int(i) for i in self.policy.tokenizer.eos_token_ids}
        for completion in self._completions():
            ends = completion.tokens[-1] in stops
            which = f"a completion ({completion.text!r})"
            assert ends or not completion.stopped, (
                f"{which} stopped but has no stop token at its end: the policy would never learn to stop."
            )
            assert completion.stopped or not ends, (
                f"{which} ends with the stop token but says stopped=False: it would be reported as cut off."
            )
            assert not stops & set(completion.tokens[:-1]), (
                f"{which} goes on after a stop token: the policy would learn from tokens that no one reads."
            )

    def test_ids_and_text_agree(self) -> None:
        for completion in self._completions():
            tokens = completion.tokens[: len(completion.tokens) - completion.stopped]
            text = self.policy.tokenizer.decode(list(tokens), skip_special_tokens=True)
            assert completion.whole == text, (
                f"a completion's text is {completion.whole!r}, but its tokens read {text!r}: the judge would "
                "see another answer than the one that is trained on."
            )

    def test_a_share_is_part_of_the_whole(self) -> None:
        able = adapt(self.component, BaseSampler)
        if not draws_a_share(able) or able.submit is not None:
            return  # one process samples for all
        prompts, whole, before = self.prompts, self.sample(), len(self.prompts) // 2
        with self.policy.shard(before, len(prompts) - before):
            share = self.component.sample(self.policy, prompts[before:], self.progress(7))
        assert list(share) == whole[before:], (
            "asked about some of the prompts, as ranks that share a run ask, it gives other pairs than for "
            "all. Draw by a prompt's place in the step, which is policy.prompts_before and its place here."
        )

    def test_what_it_learns_is_in_its_state(self) -> None:
        """A sampler that learns takes labels, ties and skips, and its state holds what it knows."""
        sampler = adapt(self.component, BaseSampler)
        if type(sampler).learn is BaseSampler.learn:
            skip("the sampler does not learn")
        pairs = self.sample()
        sampler.learn([], [])
        sampler.learn(pairs, [SAID[i % len(SAID)] for i in range(len(pairs))])
        state, drawn = dict(sampler.state()), self.sample()
        assert state, "the sampler learns, and its state holds nothing: a resumed run would draw other pairs."
        check_restoring(sampler, state)
        assert self.sample() == drawn, "restore(state()) changes the pairs: a resumed run would draw others."

    def test_says_where_completions_come_from(self) -> None:
        claimed = self.claims("reference_samples")
        found = any(completion.source == "reference" for completion in self._completions())
        assert found or not claimed, (
            "its class says reference_samples = True, but no completion has source='reference': a bonus that "
            "needs such completions would always be zero."
        )
        assert claimed or not found, (
            "a completion has source='reference', but its class does not say reference_samples = True: a "
            "bonus that needs such completions would be refused."
        )

    def test_seeded(self) -> None:
        assert self.sample(noise=1) == self.sample(noise=2), (
            "the same progress.seed gave other completions: a run could be neither repeated nor resumed "
            "exactly. Use no randomness but that of progress.seed."
        )

    def test_another_seed_draws_anew(self) -> None:
        sampling = self.claims("sampling")
        if sampling is None or sampling.temperature == 0:
            return
        draws = {tuple((p.first.tokens, p.second.tokens) for p in self.sample(seed)) for seed in range(3)}
        assert len(draws) > 1, (
            "three seeds gave the same completions: every epoch would train on the same answers. Pass "
            "progress.seed on to policy.generate."
        )

    def _completions(self) -> list[Completion]:
        return [completion for pair in self.sample() for completion in (pair.first, pair.second)]
