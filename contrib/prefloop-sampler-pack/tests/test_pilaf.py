"""PILAF's sampler by the kit, against both models read without caches, and against the theory."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from prefloop import Completion, Policy, Progress, Prompt, Sampling, component
from prefloop.sampling import Generator
from prefloop_sampler_pack.interpolated import Interpolated
from prefloop_sampler_pack.pilaf import Pilaf
from prefloop_testing import SamplerSuite

Floats = NDArray[np.float64]
SHORT = {"temperature": 1.0, "top_p": 1.0, "max_completion_length": 12}


class TestPilaf(SamplerSuite):
    component = Pilaf(beta=0.5, **SHORT)


@pytest.fixture(scope="module")
def moved() -> Policy:
    """The embedded policy, away from its reference."""
    policy = Policy.load("embedded:policy")
    mx.random.seed(3)
    weights = {k: v + 0.1 * mx.random.normal(v.shape) for k, v in policy.trainable().items()}
    policy.model.load_weights(list(weights.items()), strict=False)
    return policy


def logits_of(model: Any, tokens: list[int]) -> Floats:
    """What follows, by a pass over all tokens, without a cache: ``[V]``."""
    return np.array(model(mx.array([tokens]))[0, -1].astype(mx.float32)).astype(np.float64)


def powers(policy: Policy, tokens: list[int], extent: float) -> Floats:
    """``policy^(1 + extent) reference^(-extent)`` as probabilities: ``[V]``."""
    ours, theirs = (probabilities(logits_of(model, tokens)) for model in (policy.model, policy.reference))
    found: Floats = ours ** (1 + extent) * theirs**-extent
    return found / found.sum()


def probabilities(logits: Floats) -> Floats:
    weights: Floats = np.exp(logits - logits.max())
    return weights / weights.sum()


def draw(policy: Policy, prompts: list[Prompt], beta: float, seed: int = 0, **options: Any) -> Any:
    return Pilaf(beta=beta, **{**SHORT, **options}).sample(policy, prompts, Progress(1, 1, 0.0, 1.0, seed))


@pytest.mark.parametrize("extent", [0.5, -0.5, 3.0])
def test_each_token_is_the_likeliest_by_both_models_read_without_caches(moved: Policy, extent: float) -> None:
    """Prompts of unequal length, greedily."""
    prompts = [moved.encode(f"What does a {animal} say?") for animal in ("cow", "dog", "mouse or a rat")]
    model = Interpolated(moved.model, moved.reference, extent)
    drawn = Generator(model, moved.tokenizer)(prompts, Sampling(0.0, 1.0, max_tokens=10), seed=0)
    for prompt, completion in zip(prompts, drawn, strict=True):
        read = list(prompt.tokens)
        for token in completion.tokens:
            expected = powers(moved, read, extent)
            assert expected[token] == pytest.approx(expected.max(), rel=1e-3)
            read.append(token)


def test_first_tokens_come_as_often_as_they_should(moved: Policy) -> None:
    """Of 3000 pairs half are from the policy, a quarter from ahead and behind, a quarter the other way."""
    prompt, beta = moved.encode("What does a cow say?"), 2.0
    pairs = draw(moved, [prompt] * 3000, beta, max_completion_length=1)
    read = list(prompt.tokens)
    own, ahead, behind = (powers(moved, read, extent) for extent in (0.0, beta, -beta))
    expected = np.outer(own, own) / 2 + (np.outer(ahead, behind) + np.outer(behind, ahead)) / 4
    seen = np.zeros_like(expected)
    for pair in pairs:
        seen[pair.first.tokens[0], pair.second.tokens[0]] += 1 / len(pairs)
    assert np.abs(ahead - behind).sum() > 0.5, "the policy should have moved"
    for found, share in ((seen, expected), *((seen.sum(axis=i), expected.sum(axis=i)) for i in (0, 1))):
        likely = share > 1e-3
        assert likely.sum() > 10
        deviation = np.sqrt(share * (1 - share) / len(pairs))
        assert (np.abs(found - share)[likely] < 5 * deviation[likely]).all()


def test_pairs_are_drawn_by_the_inverse_of_the_losss_slope(moved: Policy) -> None:
    """With the theory's share of pairs from ahead and behind, for tokens as completions.

    By ``d = r(a) - r(b)`` with DPO's reward ``r`` it is ``2 + e^d + e^-d = 1 / sigmoid'(d)`` times what the
    policy would draw.
    """
    read, beta = list(moved.encode("What does a cow say?").tokens), 0.7
    own, reference = (probabilities(logits_of(model, read)) for model in (moved.model, moved.reference))
    reward = beta * np.log(own / reference)
    shares = [(own * np.exp(sign * reward)).sum() for sign in (1, -1)]
    caches = Interpolated(moved.model, moved.reference, 0.0).make_cache
    ahead, behind = (
        probabilities(
            np.array(
                Interpolated(moved.model, moved.reference, extent)(mx.array([read]), cache=caches())[0, -1]
            ).astype(np.float64)
        )
        for extent in (beta, -beta)
    )
    apart = shares[0] * shares[1] * np.outer(ahead, behind)
    density = (2 * np.outer(own, own) + apart + apart.T) / np.outer(own, own)
    sigmoid = 1 / (1 + np.exp(-np.subtract.outer(reward, reward)))
    assert np.allclose(density, 1 / (sigmoid * (1 - sigmoid)), rtol=1e-2)


def test_where_the_policy_is_the_reference_all_pairs_are_its_own() -> None:
    policy = Policy.load("embedded:policy")
    prompts = [policy.encode(f"What does a {animal} say?") for animal in ("cow", "dog", "cat", "duck") * 4]
    pairs = draw(policy, prompts, 0.5, seed=5)
    assert pairs == draw(policy, prompts, 0.1, seed=5)
    assert sum(pair.first.tokens != pair.second.tokens for pair in pairs) > 8, "each draws for itself"


def test_neither_place_tells_where_a_completion_is_from(moved: Policy) -> None:
    prompt = moved.encode("What does a cow say?")
    pairs = draw(moved, [prompt] * 1000, 2.0, max_completion_length=1)

    def likelier(completion: Completion) -> float:
        token = completion.tokens[0]
        return float(np.log(ahead[token] / behind[token]))

    ahead, behind = (powers(moved, list(prompt.tokens), extent) for extent in (2.0, -2.0))
    sides = np.array([[likelier(pair.first), likelier(pair.second)] for pair in pairs])
    difference = sides[:, 0] - sides[:, 1]
    assert abs(difference.mean()) < 4 * difference.std() / len(pairs) ** 0.5


@pytest.mark.parametrize("beta", [0.0, -0.1, float("inf")])
def test_nonsense_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="'beta' must be"):
        Pilaf(beta=beta)


def test_ranks_draw_what_one_process_draws(alone_and_in_ranks: Any) -> None:
    """Away from the reference from the second step on."""
    settings: dict[str, Any] = {
        "model": "embedded:policy",
        "prompts": "embedded:prompts",
        "sampler": {"use": "pilaf", "beta": 0.5, **SHORT},
        "judge": {"use": "rule", "length": "longer"},
        "training": {"batch_size": 6, "iters": 3, "learning_rate": 1e-3},
        "evaluation": {"held_out": 0},
    }
    alone, ranks = alone_and_in_ranks(settings)
    assert ranks == alone and len(alone) == 18


def test_it_is_found_by_name() -> None:
    assert component("sampler", "pilaf") is Pilaf
