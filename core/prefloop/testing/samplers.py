"""What every sampler must do; it draws from the embedded policy, which needs no network."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import mlx.core as mx
from attrs import evolve

from prefloop.model.policy import Policy
from prefloop.testing.suite import ComponentSuite
from prefloop.types import Completion, Pair, Progress, Prompt

PROGRESS = Progress(step=1, steps=10, epoch=0.0, epochs=1.0, seed=7)
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
    return Policy.load("embedded:policy")


class SamplerSuite(ComponentSuite):
    """Tests of a sampler. One whose class says ``reference_samples = True`` draws from the reference too."""

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
        return evolve(PROGRESS, seed=seed)

    def sample(self, seed: int = PROGRESS.seed, *, noise: int = 0) -> list[Pair]:
        """A draw with `seed`, after somebody else has set mlx's global random state to `noise`."""
        mx.random.seed(noise)
        return list(self.component.sample(self.policy, self.prompts, self.progress(seed)))

    def test_one_pair_per_prompt(self) -> None:
        prompts, pairs = self.prompts, self.sample()
        assert len(pairs) == len(prompts), (
            f"sample() gave {len(pairs)} pairs for {len(prompts)} prompts: the batch is not what "
            "training.batch_size says, and prompts are lost or count double."
        )
        for i, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True)):
            assert isinstance(pair, Pair), f"sample() gave a {type(pair).__name__}, not a Pair."
            assert pair.prompt == prompt, (
                f"pair {i} belongs to another prompt than prompt {i}: completions would be judged and "
                "trained as answers to a question that was not asked."
            )

    def test_two_completions_with_tokens(self) -> None:
        for completion in self._completions():
            assert isinstance(completion, Completion) and completion.tokens, (
                f"a pair holds {completion!r}, not a completion with at least one token: there is nothing to "
                "train on."
            )

    def test_the_stop_token_is_kept(self) -> None:
        stops = {int(i) for i in self.policy.tokenizer.eos_token_ids}
        for completion in self._completions():
            ends = completion.tokens[-1] in stops
            assert ends or not completion.stopped, (
                f"a completion that stopped ({completion.text!r}) has no stop token at its end: the policy "
                "would never be taught to stop, and would ramble on."
            )
            assert completion.stopped or not ends, (
                f"a completion ends with the stop token but says stopped=False ({completion.text!r}): it "
                "would be reported as cut by the length limit."
            )
            assert not stops & set(completion.tokens[:-1]), (
                f"a completion goes on after a stop token ({completion.text!r}): the policy would learn from "
                "tokens that nobody will ever read."
            )

    def test_ids_and_text_agree(self) -> None:
        for completion in self._completions():
            tokens = completion.tokens[: len(completion.tokens) - completion.stopped]
            text = self.policy.tokenizer.decode(list(tokens), skip_special_tokens=True)
            assert completion.text == text, (
                f"a completion's text is {completion.text!r}, but its tokens read {text!r}: the judge would "
                "judge another answer than the one that is trained."
            )

    def test_says_where_completions_come_from(self) -> None:
        sources = {completion.source for completion in self._completions()}
        if self.claims("reference_samples"):
            assert "reference" in sources, (
                "its class says reference_samples = True, but no completion has source='reference': a bonus "
                "that waits for those would be zero throughout."
            )
        else:
            assert "reference" not in sources, (
                "a completion has source='reference', but its class does not say reference_samples = True: "
                "a bonus that needs such completions would be refused beside it."
            )

    def test_seeded(self) -> None:
        assert self.sample(noise=1) == self.sample(noise=2), (
            "the same progress.seed gave other completions: a run could not be repeated, and a resumed one "
            "would differ from one that was never interrupted. Draw with progress.seed and no other chance."
        )

    def test_another_seed_draws_anew(self) -> None:
        sampling = getattr(self.component, "sampling", None)
        if sampling is None or sampling.temperature == 0:
            return
        draws = {tuple((p.first.tokens, p.second.tokens) for p in self.sample(seed)) for seed in range(3)}
        assert len(draws) > 1, (
            "three different seeds gave the same completions: every pass over the prompts would train on "
            "the same answers. Pass progress.seed on to policy.generate."
        )

    def _completions(self) -> list[Completion]:
        return [completion for pair in self.sample() for completion in (pair.first, pair.second)]
