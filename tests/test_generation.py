"""Sampling: token ids with their stop token, seeded, whatever the model can batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from prefloop import Policy, Prompt, Sampling
from prefloop.generation import Generator, _by_length, _one_by_one, _together
from tiny_models import ModelFolder

LONG = Sampling(temperature=1.0, top_p=1.0, max_tokens=12)


@pytest.fixture(scope="module")
def policy(model_folder: ModelFolder) -> Policy:
    return Policy.load(str(model_folder("qwen3")))


@pytest.fixture(scope="module")
def prompts(policy: Policy) -> list[Prompt]:
    return [policy.encode(text) for text in ("Hi", "What does a cow say?", "Why is that, and since when?")]


class Scripted(nn.Module):
    """Says the same tokens whatever it is asked: position counts, so its cache holds only that."""

    def __init__(self, script: Sequence[int], vocabulary: int) -> None:
        super().__init__()
        self.script = tuple(script)
        self.vocabulary = vocabulary
        self.layers: list[Any] = []

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        following = dict(zip((-1, *self.script), self.script, strict=False))
        rows = [[following.get(t, self.script[0]) for t in row] for row in tokens.tolist()]
        return 100.0 * (mx.array(rows)[..., None] == mx.arange(self.vocabulary)).astype(mx.float32)


def test_the_stop_token_is_kept_and_the_text_is_without_it(policy: Policy, prompts: list[Prompt]) -> None:
    stop = policy.tokenizer.eos_token_id
    said = policy.tokenizer.encode("cow")
    generator = Generator(Scripted([*said, stop], 400), policy.tokenizer)
    for completion in generator(prompts, Sampling(max_tokens=20), seed=0):
        assert completion.tokens == (*said, stop)
        assert completion.stopped
        assert completion.text == "cow"


def test_a_completion_at_the_limit_is_cut(policy: Policy, prompts: list[Prompt]) -> None:
    said = policy.tokenizer.encode("cow")
    generator = Generator(Scripted([*said, *said], 400), policy.tokenizer)
    for completion in generator(prompts, Sampling(max_tokens=2), seed=0):
        assert len(completion.tokens) == 2
        assert not completion.stopped


def test_the_same_seed_gives_the_same_completions(policy: Policy, prompts: list[Prompt]) -> None:
    first = policy.generate(prompts, LONG, seed=3)
    assert policy.generate(prompts, LONG, seed=3) == first
    assert policy.generate(prompts, LONG, seed=4) != first


@pytest.mark.parametrize("engine", [_together, _by_length, _one_by_one])
def test_every_engine_is_greedy_alike(policy: Policy, prompts: list[Prompt], engine: Any) -> None:
    greedy = Sampling(temperature=0.0, max_tokens=10)
    tokens = [p.tokens for p in prompts]
    expected = _greedy_by_hand(policy, tokens, 10)
    assert engine(policy.model, tokens, greedy, set(policy.tokenizer.eos_token_ids)) == expected


def _greedy_by_hand(policy: Policy, prompts: list[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    """Argmax of the whole row again for each token: no cache, no batch."""
    rows = []
    for prompt in prompts:
        row: list[int] = []
        while len(row) < count and (not row or row[-1] not in policy.tokenizer.eos_token_ids):
            output = policy.model(mx.array([[*prompt, *row]]))
            row.append(int(mx.argmax(output[0, -1]).item()))
        rows.append(tuple(row))
    return rows


def test_a_model_that_cannot_take_ragged_rows_is_sampled_by_length(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("gemma2")))
    ragged = [policy.encode(text) for text in ("Hi", "Ho", "What does a cow say?")]
    completions = policy.generate(ragged, LONG, seed=0)
    assert len(completions) == 3
    assert all(c.tokens for c in completions)
    # The choice is remembered, so the failing engine is not tried again.
    assert policy._generators["policy"]._engines[0] is _by_length


def test_completions_of_the_reference_say_so(policy: Policy, prompts: list[Prompt]) -> None:
    assert {c.source for c in policy.generate(prompts, LONG, seed=0, source="reference")} == {"reference"}


def test_no_prompts_give_no_completions(policy: Policy) -> None:
    assert policy.generate([], LONG, seed=0) == []
