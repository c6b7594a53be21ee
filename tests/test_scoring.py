"""Log-probabilities against an independent float64 reference, one unpadded row at a time."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from prefloop import Completion, Policy, PreferenceBatch, Prompt
from prefloop.cpu import kernels
from prefloop.scoring import token_terms
from prefloop.scoring.scorer import Scorer, lay_out, lay_out_batch, reference_scores, score
from support.tiny_models import ModelFolder

PROMPTS = (Prompt((5, 6, 7, 8), "a"), Prompt((9,), "b"), Prompt((10, 11), "c"))
CHOSEN = (Completion((20, 21, 22), "x"), Completion((23,), "y"), Completion((24, 25, 26, 27, 28), "z"))
REJECTED = (Completion((30,), "x"), Completion((31, 32, 33, 34), "y"), Completion((35, 36), "z"))
BATCH = PreferenceBatch(PROMPTS, CHOSEN, REJECTED, (0.9, 0.8, 0.7), (1.0, 1.0, 1.0))
ALL = frozenset({"reference", "kl", "per_token", "reference_samples", "completions"})


def log_softmax(row: np.ndarray) -> np.ndarray:
    row = row.astype(np.float64)
    shifted = row - row.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def distributions(model: Any, prompt: Prompt, completion: Completion) -> np.ndarray:
    """Log-distribution before each completion token, ``[T, V]``, from the row alone and unpadded."""
    row = [*prompt.tokens, *completion.tokens]
    output = np.array(model(mx.array([row]))[0].astype(mx.float32))
    start = len(prompt.tokens) - 1
    return np.stack([log_softmax(output[start + t]) for t in range(len(completion.tokens))])


def logprobs(model: Any, prompt: Prompt, completion: Completion) -> np.ndarray:
    return distributions(model, prompt, completion)[range(len(completion.tokens)), completion.tokens]


@pytest.fixture(scope="module")
def policy(model_folder: ModelFolder) -> Policy:
    """A policy that has moved away from its reference."""
    policy = Policy.load(str(model_folder("qwen3")))
    mx.random.seed(7)
    moved = {k: v + 0.05 * mx.random.normal(v.shape) for k, v in policy.trainable().items()}
    policy.model.load_weights(list(moved.items()), strict=False)
    return policy


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma", "gemma2"])
def test_only_completion_tokens_count_whatever_the_padding(model_folder: ModelFolder, family: str) -> None:
    model = Policy.load(str(model_folder(family))).model
    found = np.array(Scorer(model).logprobs(lay_out(PROMPTS, CHOSEN)))
    for i, (prompt, completion) in enumerate(zip(PROMPTS, CHOSEN, strict=True)):
        count = len(completion.tokens)
        np.testing.assert_allclose(
            found[i, :count], logprobs(model, prompt, completion), rtol=2e-5, atol=2e-5
        )
        assert not found[i, count:].any()


def test_scores_hold_sums_counts_and_the_verdicts_probability(policy: Policy) -> None:
    rows = lay_out_batch(BATCH)
    scores = score(policy.scorer, rows, BATCH, reference_scores(policy.reference_scorer, rows, ALL), ALL)
    for i, prompt in enumerate(PROMPTS):
        for completion, ours, theirs in (
            (CHOSEN[i], scores.policy_chosen, scores.reference_chosen),
            (REJECTED[i], scores.policy_rejected, scores.reference_rejected),
        ):
            assert ours[i].item() == pytest.approx(logprobs(policy.model, prompt, completion).sum(), rel=1e-5)
            expected = logprobs(policy.reference, prompt, completion).sum()
            assert theirs is not None
            assert theirs[i].item() == pytest.approx(expected, rel=1e-5)
    assert scores.chosen_tokens.tolist() == [3, 1, 5]
    assert scores.rejected_tokens.tolist() == [1, 4, 2]
    assert scores.probability.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert scores.policy_chosen.dtype == mx.float32
    assert (scores.chosen, scores.rejected) == (CHOSEN, REJECTED)


def test_the_exact_kl_is_summed_over_the_completions_positions(policy: Policy) -> None:
    rows = lay_out_batch(BATCH)
    scores = score(policy.scorer, rows, BATCH, reference_scores(policy.reference_scorer, rows, ALL), ALL)
    for found, completions in ((scores.kl_chosen, CHOSEN), (scores.kl_rejected, REJECTED)):
        assert found is not None
        for i, (prompt, completion) in enumerate(zip(PROMPTS, completions, strict=True)):
            ours = distributions(policy.model, prompt, completion)
            theirs = distributions(policy.reference, prompt, completion)
            expected = (np.exp(ours) * (ours - theirs)).sum()
            assert expected > 1e-3, "the policy should have moved"
            assert found[i].item() == pytest.approx(expected, rel=1e-4)


def test_scores_that_nothing_needs_are_none(policy: Policy) -> None:
    rows = lay_out_batch(BATCH)
    assert reference_scores(policy.reference_scorer, rows, frozenset()) is None
    scores = score(policy.scorer, rows, BATCH, None, frozenset())
    optional = [
        scores.reference_chosen,
        scores.kl_chosen,
        scores.chosen_per_token,
        scores.chosen_from_reference,
        scores.chosen,
    ]
    assert optional == [None] * 5
    with pytest.raises(ValueError, match="needs the reference"):
        _ = scores.margin


def test_per_token_values_add_up_to_the_sums(policy: Policy) -> None:
    rows = lay_out_batch(BATCH)
    scores = score(policy.scorer, rows, BATCH, reference_scores(policy.reference_scorer, rows, ALL), ALL)
    tokens = scores.rejected_per_token
    assert tokens is not None
    assert mx.allclose(tokens.policy.sum(-1), scores.policy_rejected)
    assert mx.array_equal(tokens.mask.sum(-1), scores.rejected_tokens)


def test_the_reference_of_an_untrained_policy_scores_exactly_alike(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("llama")))
    rows = lay_out_batch(BATCH)
    assert mx.array_equal(policy.scorer.logprobs(rows), policy.reference_scorer.logprobs(rows))


@pytest.mark.parametrize("vocabulary", [300, 151_936])
def test_policy_and_reference_are_summed_alike_and_without_bias(vocabulary: int) -> None:
    """A running float32 sum would leave 1e-5 to 1e-4 nats a token on one side: something learnt, it seems."""
    draw = np.random.default_rng(0)
    logits = draw.normal(scale=2.0, size=(24, vocabulary)).astype(np.float32)
    targets = draw.integers(vocabulary, size=24)
    exact = np.array([log_softmax(row)[target] for row, target in zip(logits, targets, strict=True)])
    ids = mx.array(targets)
    ways = {
        "policy": token_terms._chunk_terms(mx.array(logits), ids, None)[0][0],
        "reference": token_terms._chunk_logprobs(mx.array(logits), ids),
        "policy, NumPy": kernels.numpy_terms(mx.array(logits), ids, None)[0][0],
        "reference, NumPy": kernels.numpy_logprobs(mx.array(logits), ids),
    }
    for way, found in ways.items():
        errors = np.asarray(found).astype(np.float64) - exact
        assert abs(errors.mean()) < 2e-6, way
        assert abs(errors).max() < 1e-5, way
