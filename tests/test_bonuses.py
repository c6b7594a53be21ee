"""The bundled bonuses: values, gradients, weights by epoch, and what they do to a policy in expectation.

The expectations are exact. A toy policy over three tokens (0 stops) writes at most two of them, so that
every completion, and every pair of completions, can be listed with its probability.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from attrs import evolve, fields

from prefloop import Progress, Scores, TokenScores, component

if TYPE_CHECKING:
    from collections.abc import Callable

Array = npt.NDArray[Any]

START = Progress(step=0, steps=10, epoch=0.0, epochs=1.0)

# Every completion: its tokens (padded with 0), the context each is written in (0: the prompt; 1, 2: after
# that token), and which positions count.
TOKENS = np.array([[0, 0], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]])
CONTEXTS = np.array([[0, 0], [0, 1], [0, 1], [0, 1], [0, 2], [0, 2], [0, 2]])
MASK = np.array([[1, 0], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]], np.float32)
FIRST, SECOND = (i.ravel() for i in np.indices((7, 7)))

POLICY = np.array([[0.5, -1.0, 0.25], [1.5, 0.0, -0.5], [-0.75, 0.5, 1.0]])
REFERENCE = np.array([[-0.5, 0.25, 0.75], [0.0, 1.0, -1.0], [0.5, 0.0, -1.5]])


def make(name: str, **options: Any) -> Callable[[Scores, Progress], mx.array]:
    bonus: Callable[[Scores, Progress], mx.array] = component("bonus", name)(**options)
    return bonus


def toy_scores(logits: mx.array) -> Scores:
    """All 49 ordered pairs of completions under the toy policy, with everything that can be asked for."""
    policy, reference = (x - mx.logsumexp(x, axis=-1, keepdims=True) for x in (logits, mx.array(REFERENCE)))
    at, mask = (mx.array(CONTEXTS), mx.array(TOKENS)), mx.array(MASK)
    divergence = (mx.exp(policy) * (policy - reference)).sum(axis=-1)[at[0]] * mask
    of_policy, of_reference = policy[at] * mask, reference[at] * mask

    def side(index: Array) -> tuple[mx.array, mx.array, mx.array, mx.array, TokenScores]:
        i = mx.array(index)
        tokens = TokenScores(of_policy[i], of_reference[i], mask[i])
        kl, count = divergence[i].sum(axis=-1), mask[i].sum(axis=-1)
        return tokens.policy.sum(axis=-1), tokens.reference.sum(axis=-1), count, kl, tokens

    chosen, rejected = side(FIRST), side(SECOND)
    return Scores(
        policy_chosen=chosen[0],
        policy_rejected=rejected[0],
        reference_chosen=chosen[1],
        reference_rejected=rejected[1],
        chosen_tokens=chosen[2],
        rejected_tokens=rejected[2],
        probability=mx.ones(49),
        kl_chosen=chosen[3],
        kl_rejected=rejected[3],
        chosen_per_token=chosen[4],
        rejected_per_token=rejected[4],
    )


def expected_gradient(bonus: Callable[[Scores, Progress], mx.array], temperature: float = 1.0) -> Array:
    """``E[grad bonus]`` by the policy's logits, over all pairs drawn from it at `temperature`.

    The probabilities of the pairs are constants, as they are once completions have been sampled.
    """
    drawn = np.exp(sequence_logprobs(POLICY / temperature))
    weights = mx.array((drawn[FIRST] * drawn[SECOND]).astype(np.float32))
    gradient = mx.grad(lambda logits: (weights * bonus(toy_scores(logits), START)).sum())
    return np.array(gradient(mx.array(POLICY.astype(np.float32))), np.float64)


def log_softmax(x: Array) -> Any:
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def sequence_logprobs(logits: Array) -> Any:
    return (log_softmax(logits)[CONTEXTS, TOKENS] * MASK).sum(axis=-1)


def context_kl(logits: Array) -> Any:
    """``KL(pi, ref)`` of the next token in each context, float64."""
    policy, reference = log_softmax(logits), log_softmax(REFERENCE)
    return (np.exp(policy) * (policy - reference)).sum(axis=-1)


def reached(logits: Array) -> Array:
    """How likely each context is to be visited: the prompt always is."""
    return np.array([1.0, *np.exp(log_softmax(logits))[0, 1:]])


def numeric_gradient(of: Callable[[Array], float], at: Array, h: float = 1e-6) -> Array:
    """Central differences in float64."""
    found = np.zeros_like(at)
    for i in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[i] = h
        found[i] = (of(at + step) - of(at - step)) / (2 * h)
    return found


def test_the_probabilities_of_all_toy_completions_add_up_to_one() -> None:
    assert np.exp(sequence_logprobs(POLICY)).sum() == pytest.approx(1.0)
    assert np.exp(sequence_logprobs(REFERENCE)).sum() == pytest.approx(1.0)


def test_sampled_kl_has_no_gradient_in_expectation() -> None:
    bonus = make("kl", alpha=1.0, estimator="sampled")
    np.testing.assert_allclose(expected_gradient(bonus), 0.0, atol=1e-6)
    one_pair = mx.grad(lambda logits: bonus(toy_scores(logits), START)[10])(mx.array(POLICY))
    assert np.abs(one_pair).max() > 0.1  # what is left is noise


@pytest.mark.parametrize("estimator", ["exact", "k2"])
def test_exact_and_k2_have_the_gradient_of_the_divergence(estimator: str) -> None:
    """Of the divergence at every position, the prefixes being those that the policy visits now."""
    visits = reached(POLICY)
    true = numeric_gradient(lambda logits: 2 * float(visits @ context_kl(logits)), POLICY)
    found = expected_gradient(make("kl", alpha=1.0, estimator=estimator))
    assert np.abs(true).max() > 0.5
    np.testing.assert_allclose(found, true, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimator", ["exact", "k2"])
def test_the_kl_gradient_leaves_out_only_the_change_of_prefix_probabilities(estimator: str) -> None:
    """The whole gradient of KL(pi(y), ref(y)) is what they have plus the one of `reached`."""
    whole = numeric_gradient(lambda logits: 2 * float(reached(logits) @ context_kl(logits)), POLICY)
    prefixes = numeric_gradient(lambda logits: 2 * float(reached(logits) @ context_kl(POLICY)), POLICY)
    assert np.abs(prefixes).max() > 0.1
    found = expected_gradient(make("kl", alpha=1.0, estimator=estimator))
    np.testing.assert_allclose(found + prefixes, whole, rtol=1e-5, atol=1e-6)
    # Prefixes decide nothing at the last position: there the gradient is whole.
    np.testing.assert_allclose(found[1:], whole[1:], rtol=1e-5, atol=1e-6)


def test_exact_and_sampled_have_the_value_of_the_divergence() -> None:
    drawn = np.exp(sequence_logprobs(POLICY))
    ratio = sequence_logprobs(POLICY) - sequence_logprobs(REFERENCE)
    for estimator in ("exact", "sampled"):
        found = np.array(make("kl", alpha=1.0, estimator=estimator)(toy_scores(mx.array(POLICY)), START))
        assert found @ (drawn[FIRST] * drawn[SECOND]) == pytest.approx(2 * float(drawn @ ratio), rel=1e-5)


def test_sampled_kl_sharpens_the_policy_at_a_lower_temperature() -> None:
    def entropy(logits: Array) -> float:
        return -float((np.exp(log_softmax(logits)) * log_softmax(logits)).sum())

    ascent = expected_gradient(make("kl", alpha=1.0, estimator="sampled"), temperature=0.8)
    assert entropy(POLICY + 1e-3 * ascent) < entropy(POLICY)


@pytest.mark.parametrize("estimator", ["exact", "k2", "sampled"])
def test_kl_values_agree_with_numpy(estimator: str) -> None:
    ratio = (log_softmax(POLICY) - log_softmax(REFERENCE))[CONTEXTS, TOKENS]
    each = {"exact": context_kl(POLICY)[CONTEXTS], "k2": ratio**2 / 2, "sampled": ratio}[estimator]
    expected = 0.25 * ((each * MASK).sum(axis=-1)[FIRST] + (each * MASK).sum(axis=-1)[SECOND])
    found = make("kl", alpha=0.25, estimator=estimator)(toy_scores(mx.array(POLICY)), START)
    assert found.shape == (49,)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_k2_by_hand_ignores_padding() -> None:
    tokens = TokenScores(
        policy=mx.array([[-1.0, -2.0, -9.0]]),
        reference=mx.array([[-2.0, -5.0, 0.0]]),
        mask=mx.array([[1.0, 1.0, 0.0]]),
    )
    scores = evolve(one_pair(), chosen_per_token=tokens, rejected_per_token=tokens)
    found = make("kl", alpha=0.5, estimator="k2")(scores, START)
    np.testing.assert_allclose(found, [0.5 * 2 * (0.5 + 4.5)])


def one_pair() -> Scores:
    return Scores(
        policy_chosen=mx.array([-3.0]),
        policy_rejected=mx.array([-5.0]),
        reference_chosen=mx.array([-4.0]),
        reference_rejected=mx.array([-4.5]),
        chosen_tokens=mx.array([2.0]),
        rejected_tokens=mx.array([2.0]),
        probability=mx.array([0.9]),
    )


def test_optimism_by_hand() -> None:
    both = Scores(
        policy_chosen=mx.array([-3.0, -7.0, -1.0]),
        policy_rejected=mx.array([-5.0, -2.0, -1.0]),
        reference_chosen=None,
        reference_rejected=None,
        chosen_tokens=mx.ones(3),
        rejected_tokens=mx.ones(3),
        probability=mx.ones(3),
        chosen_from_reference=mx.array([1.0, 0.0, 0.0]),
        rejected_from_reference=mx.array([0.0, 1.0, 0.0]),
    )
    found = make("optimism", alpha=0.5)(both, START)
    np.testing.assert_allclose(found, [1.5, 1.0, 0.0])


def test_optimism_lowers_only_completions_of_the_reference() -> None:
    scores = evolve(
        one_pair(), chosen_from_reference=mx.array([0.0]), rejected_from_reference=mx.array([1.0])
    )

    def bonus(chosen: mx.array, rejected: mx.array) -> mx.array:
        at = evolve(scores, policy_chosen=chosen, policy_rejected=rejected)
        return make("optimism", alpha=0.5)(at, START).sum()

    gradients = mx.grad(bonus, argnums=(0, 1))(scores.policy_chosen, scores.policy_rejected)
    np.testing.assert_array_equal(gradients, [[0.0], [-0.5]])


@pytest.mark.parametrize(
    ("alpha", "epoch", "expected"),
    [
        (0.5, 0.0, 0.5),
        (0.5, 7.3, 0.5),
        ([0.5], 3.0, 0.5),
        ([0.5, 0.25, 0.125], 0.0, 0.5),
        ([0.5, 0.25, 0.125], 0.999, 0.5),
        ([0.5, 0.25, 0.125], 1.0, 0.25),
        ([0.5, 0.25, 0.125], 2.5, 0.125),
        ([0.5, 0.25, 0.125], 40.0, 0.125),
        ((0.0, 0.25), 1.5, 0.25),
    ],
)
@pytest.mark.parametrize("name", ["kl", "optimism"])
def test_alpha_follows_the_epochs(name: str, alpha: Any, epoch: float, expected: float) -> None:
    scores = evolve(
        one_pair(),
        kl_chosen=mx.array([0.75]),
        kl_rejected=mx.array([0.25]),
        chosen_from_reference=mx.array([1.0]),
        rejected_from_reference=mx.array([0.0]),
    )
    unit = {"kl": 1.0, "optimism": 3.0}[name]
    found = make(name, alpha=alpha)(scores, Progress(step=3, steps=9, epoch=epoch, epochs=3.0))
    np.testing.assert_allclose(found, [expected * unit])


def test_needs_follow_the_estimator() -> None:
    kl, optimism = component("bonus", "kl"), component("bonus", "optimism")
    assert kl().needs == {"kl"}
    assert kl(estimator="k2").needs == {"per_token", "reference"}
    assert kl(estimator="sampled").needs == {"reference"}
    assert optimism().needs == {"reference_samples"}


@pytest.mark.parametrize(
    ("name", "options", "need"),
    [
        ("kl", {}, "kl"),
        ("kl", {"estimator": "k2"}, "per_token"),
        ("kl", {"estimator": "sampled"}, "reference"),
        ("optimism", {}, "reference_samples"),
    ],
)
def test_scores_that_lack_a_need_are_refused(name: str, options: dict[str, Any], need: str) -> None:
    scores = evolve(one_pair(), reference_chosen=None, reference_rejected=None)
    with pytest.raises(ValueError, match=f"where '{need}' is among the needs"):
        make(name, **options)(scores, START)


@pytest.mark.parametrize("name", ["kl", "optimism"])
@pytest.mark.parametrize("alpha", [[], -1e-5, math.nan, math.inf, [1e-5, -1.0], [1e-5, math.nan]])
def test_bad_weights_are_refused(name: str, alpha: Any) -> None:
    with pytest.raises(ValueError, match="'alpha' must"):
        make(name, alpha=alpha)


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(ValueError, match="'estimator' must be in"):
        make("kl", estimator="k3")


@pytest.mark.parametrize("name", ["kl", "optimism"])
def test_every_option_has_help(name: str) -> None:
    options = fields(component("bonus", name))
    assert options.alpha.default == 1e-5
    assert all(option.metadata["help"].endswith(".") for option in options)


def test_a_list_of_weights_is_held_as_a_tuple() -> None:
    weights = [1e-4, 1e-5]
    bonus = component("bonus", "kl")(alpha=weights)
    weights.append(1.0)
    assert bonus.alpha == (1e-4, 1e-5)
    assert hash(bonus) == hash(component("bonus", "kl")(alpha=(1e-4, 1e-5)))
