"""The bundled losses against float64 numpy references, by value and by gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from attrs import evolve, fields

from prefloop import Scores, component

Array = npt.NDArray[Any]
Formula = Callable[..., Array]

POLICY = ("policy_chosen", "policy_rejected")


def as_scores(arrays: Mapping[str, Any]) -> Scores:
    return Scores(**arrays)


def build(values: Mapping[str, Any]) -> Scores:
    """`Scores` from array-likes; what is left out is neutral."""
    size = len(values["policy_chosen"])
    neutral = {
        "reference_chosen": np.zeros(size),
        "reference_rejected": np.zeros(size),
        "chosen_tokens": np.ones(size),
        "rejected_tokens": np.ones(size),
        "probability": np.ones(size),
    }
    return as_scores({k: mx.array(np.asarray(v, np.float32)) for k, v in (neutral | dict(values)).items()})


def random_values(size: int = 64) -> dict[str, Array]:
    """Log-probabilities on a grid of 1/64, which float32 subtracts exactly: only the loss is tested."""
    rng = np.random.default_rng(0)
    names = (*POLICY, "reference_chosen", "reference_rejected")
    values = {name: rng.integers(64, 64 * 60, size) * (-1 / 64) for name in names}
    values |= {f"{side}_tokens": rng.integers(1, 40, size) * 1.0 for side in ("chosen", "rejected")}
    return values | {"probability": rng.integers(33, 65, size) / 64}


def softplus(x: Array) -> Array:
    """``-log sigmoid(-x)`` in float64."""
    return np.logaddexp(0.0, x)


def ratios(v: Mapping[str, Array]) -> tuple[Array, Array]:
    return v["policy_chosen"] - v["reference_chosen"], v["policy_rejected"] - v["reference_rejected"]


def sigmoid(v: Mapping[str, Array], beta: float = 0.1) -> Array:
    c, r = ratios(v)
    return softplus(-beta * (c - r))


def soft_sigmoid(v: Mapping[str, Array], beta: float, smoothing: float, soft: bool) -> Array:
    c, r = ratios(v)
    p = v["probability"] if soft else np.ones_like(c)
    p = p * (1 - smoothing) + (1 - p) * smoothing
    return p * softplus(-beta * (c - r)) + (1 - p) * softplus(beta * (c - r))


def hinge(v: Mapping[str, Array], beta: float = 0.1) -> Array:
    c, r = ratios(v)
    return np.where(beta * (c - r) < 1, 1 - beta * (c - r), 0.0)


def ipo(v: Mapping[str, Array], beta: float = 0.1, means: bool = True) -> Array:
    c, r = ratios(v)
    if means:
        c, r = c / v["chosen_tokens"], r / v["rejected_tokens"]
    return (c - r - 0.5 / beta) ** 2


def dpop(v: Mapping[str, Array], beta: float = 0.1, delta: float = 50.0, inside: bool = True) -> Array:
    c, r = ratios(v)
    drop = np.where(c < 0, -c, 0.0)
    if inside:
        return softplus(-beta * (c - r - delta * drop))
    return softplus(-beta * (c - r)) + delta * drop


CASES: dict[str, tuple[str, dict[str, Any], Formula]] = {
    "sigmoid": ("sigmoid", {}, sigmoid),
    "sigmoid beta": ("sigmoid", {"beta": 0.5}, lambda v: sigmoid(v, 0.5)),
    "sigmoid soft": ("sigmoid", {"soft_labels": True}, lambda v: soft_sigmoid(v, 0.1, 0.0, True)),
    "sigmoid smooth": ("sigmoid", {"label_smoothing": 0.2}, lambda v: soft_sigmoid(v, 0.1, 0.2, False)),
    "sigmoid soft smooth": (
        "sigmoid",
        {"beta": 0.3, "soft_labels": True, "label_smoothing": 0.1},
        lambda v: soft_sigmoid(v, 0.3, 0.1, True),
    ),
    "hinge": ("hinge", {}, hinge),
    "hinge beta": ("hinge", {"beta": 1 / 32}, lambda v: hinge(v, 1 / 32)),
    "ipo tokens": ("ipo", {}, ipo),
    "ipo sums": ("ipo", {"average": "sums", "beta": 0.03}, lambda v: ipo(v, 0.03, means=False)),
    "dpop inside": ("dpop", {}, dpop),
    "dpop inside delta": ("dpop", {"delta": 0.5}, lambda v: dpop(v, delta=0.5)),
    "dpop outside": ("dpop", {"penalty": "outside"}, lambda v: dpop(v, inside=False)),
    "dpop outside delta": (
        "dpop",
        {"penalty": "outside", "delta": 2.0, "beta": 0.4},
        lambda v: dpop(v, 0.4, 2.0, inside=False),
    ),
}
every_case = pytest.mark.parametrize(("name", "options", "formula"), CASES.values(), ids=CASES)


def make(name: str, **options: Any) -> Callable[[Scores], mx.array]:
    loss: Callable[[Scores], mx.array] = component("loss", name)(**options)
    return loss


def loss_of(name: str, values: Mapping[str, Any], **options: Any) -> Array:
    return np.array(make(name, **options)(build(values)), np.float64)


def gradient(loss: Callable[[Scores], mx.array], values: Mapping[str, Any]) -> dict[str, Array]:
    """Of each pair's loss with respect to its own two policy log-probabilities."""
    scores = build(values)

    def total(chosen: mx.array, rejected: mx.array) -> mx.array:
        return loss(evolve(scores, policy_chosen=chosen, policy_rejected=rejected)).sum()

    found = mx.grad(total, argnums=(0, 1))(scores.policy_chosen, scores.policy_rejected)
    return {name: np.array(g, np.float64) for name, g in zip(POLICY, found, strict=True)}


def finite_difference(formula: Formula, values: Mapping[str, Array], name: str) -> Array:
    """Central differences in float64; the step is far below the grid, so no kink is crossed."""
    h = 1e-5
    up, down = ({**values, name: values[name] + sign * h} for sign in (1, -1))
    return (formula(up) - formula(down)) / (2 * h)


@every_case
def test_values_agree_with_numpy(name: str, options: dict[str, Any], formula: Formula) -> None:
    values = random_values()
    found = loss_of(name, values, **options)
    assert found.shape == (64,)
    np.testing.assert_allclose(found, formula(values), rtol=1e-5, atol=1e-30)


@every_case
def test_gradients_agree_with_numpy(name: str, options: dict[str, Any], formula: Formula) -> None:
    values = off_the_kinks(random_values(), **options)
    found = gradient(make(name, **options), values)
    for side in POLICY:
        np.testing.assert_allclose(
            found[side], finite_difference(formula, values, side), rtol=1e-5, atol=1e-9
        )


def off_the_kinks(values: dict[str, Array], beta: float = 0.1, **_: Any) -> dict[str, Array]:
    """Only pairs at which neither hinge's nor dpop's maximum has its corner."""
    c, r = ratios(values)
    keep = (c != 0) & (np.abs(beta * (c - r) - 1) > 1e-3)
    assert keep.sum() > 50
    return {k: v[keep] for k, v in values.items()}


@pytest.mark.parametrize(
    "case", ["sigmoid soft smooth", "hinge", "ipo tokens", "dpop inside", "dpop outside"]
)
def test_compiling_changes_nothing(case: str) -> None:
    loss = make(CASES[case][0], **CASES[case][1])

    def of_arrays(arrays: dict[str, mx.array]) -> mx.array:
        return loss(as_scores(arrays))

    arrays = {k: mx.array(v.astype(np.float32)) for k, v in random_values(4).items()}
    np.testing.assert_allclose(mx.compile(of_arrays)(arrays), of_arrays(arrays), rtol=1e-6)


@every_case
@pytest.mark.parametrize("margin", [1e4, -1e4])
@pytest.mark.parametrize("side", [0, 1])
def test_finite_at_extreme_margins(
    name: str, options: dict[str, Any], formula: Formula, margin: float, side: int
) -> None:
    values = {k: np.zeros(1) for k in (*POLICY, "reference_chosen", "reference_rejected")}
    values |= {"chosen_tokens": np.ones(1), "rejected_tokens": np.ones(1), "probability": np.array([0.75])}
    values[POLICY[side]] = np.array([margin if side == 0 else -margin])
    np.testing.assert_allclose(loss_of(name, values, **options), formula(values), rtol=1e-5, atol=1e-30)
    for found in gradient(make(name, **options), values).values():
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "dpop"])
def test_falls_as_the_margin_grows(name: str) -> None:
    chosen = np.linspace(0, 9.5, 20)
    assert (np.diff(loss_of(name, {"policy_chosen": chosen, "policy_rejected": 0 * chosen})) < 0).all()
    assert (np.diff(loss_of(name, {"policy_chosen": 0 * chosen, "policy_rejected": -chosen})) < 0).all()


def test_ipo_falls_to_its_target_and_rises_beyond() -> None:
    margin = np.array([-1.0, 0.0, 4.0, 5.0, 6.0])
    found = loss_of("ipo", {"policy_chosen": margin, "policy_rejected": 0 * margin}, beta=0.1)
    np.testing.assert_allclose(found, [36, 25, 1, 0, 1], atol=1e-5)


def test_sigmoid_by_hand() -> None:
    # d = (-1 + 3) - (-5 + 4) = 3
    values = {
        "policy_chosen": [-1.0],
        "reference_chosen": [-3.0],
        "policy_rejected": [-5.0],
        "reference_rejected": [-4.0],
        "probability": [0.9],
    }
    right, wrong = math.log(1 + math.exp(-0.3)), math.log(1 + math.exp(0.3))
    assert loss_of("sigmoid", values) == pytest.approx(right)
    assert loss_of("sigmoid", values, soft_labels=True) == pytest.approx(0.9 * right + 0.1 * wrong)
    assert loss_of("sigmoid", values, label_smoothing=0.25) == pytest.approx(0.75 * right + 0.25 * wrong)
    both = loss_of("sigmoid", values, soft_labels=True, label_smoothing=0.25)
    assert both == pytest.approx(0.7 * right + 0.3 * wrong)


def test_the_soft_label_minimum_is_at_the_judge_s_log_odds() -> None:
    margin = math.log(0.8 / 0.2) / 0.1  # sigmoid(beta d) = 0.8
    values = {"policy_chosen": [margin], "policy_rejected": [0.0], "probability": [0.8]}
    found = gradient(make("sigmoid", soft_labels=True), values)
    assert found["policy_chosen"] == pytest.approx(0.0, abs=1e-7)


def test_hinge_by_hand() -> None:
    values = {"policy_chosen": [0.0, 4.0, 10.0, 30.0], "policy_rejected": [5.0, 0.0, 0.0, 0.0]}
    np.testing.assert_allclose(loss_of("hinge", values), [1.5, 0.6, 0.0, 0.0], atol=1e-6)
    assert gradient(make("hinge"), values)["policy_chosen"][3] == 0.0


def test_ipo_by_hand() -> None:
    # log-ratios 6 over 3 tokens and -4 over 8 tokens; the target is 1 / (2 * 0.25) = 2
    values = {
        "policy_chosen": [6.0],
        "policy_rejected": [-4.0],
        "chosen_tokens": [3.0],
        "rejected_tokens": [8.0],
    }
    assert loss_of("ipo", values, beta=0.25) == pytest.approx((2 + 0.5 - 2) ** 2)
    assert loss_of("ipo", values, beta=0.25, average="sums") == pytest.approx((6 + 4 - 2) ** 2)


@pytest.mark.parametrize("penalty", ["inside", "outside"])
def test_dpop_is_dpo_while_the_chosen_completion_has_not_become_less_likely(penalty: str) -> None:
    values = {"policy_chosen": [0.0, 3.0], "policy_rejected": [1.0, -2.0]}
    np.testing.assert_array_equal(loss_of("dpop", values, penalty=penalty), loss_of("sigmoid", values))
    found, dpo = gradient(make("dpop", penalty=penalty), values), gradient(make("sigmoid"), values)
    for side in POLICY:
        np.testing.assert_array_equal(found[side], dpo[side])


def test_dpop_by_hand_once_the_chosen_completion_has_become_less_likely() -> None:
    values = {"policy_chosen": [-0.5], "policy_rejected": [-1.0]}  # d = 0.5, drop = 0.5
    inside, outside = (loss_of("dpop", values, delta=3.0, penalty=p) for p in ("inside", "outside"))
    assert inside == pytest.approx(math.log(1 + math.exp(0.1)))
    assert outside == pytest.approx(math.log(1 + math.exp(-0.05)) + 1.5)


def test_dpop_without_weight_is_dpo() -> None:
    values = random_values()
    np.testing.assert_array_equal(loss_of("dpop", values, delta=0.0), loss_of("sigmoid", values))


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo", "dpop"])
def test_scores_without_the_reference_are_refused(name: str) -> None:
    ones = mx.ones(2)
    with pytest.raises(ValueError, match="add 'reference' to the component's needs"):
        make(name)(Scores(ones, ones, None, None, ones, ones, ones))


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {"beta": bad}) for name in ("sigmoid", "hinge", "ipo", "dpop") for bad in (0.0, -0.1, math.nan)]
    + [
        ("sigmoid", {"beta": math.inf}),
        ("sigmoid", {"label_smoothing": 0.5}),
        ("sigmoid", {"label_smoothing": -0.1}),
        ("ipo", {"average": "mean"}),
        ("dpop", {"delta": -1.0}),
        ("dpop", {"delta": math.inf}),
        ("dpop", {"penalty": "both"}),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"'{next(iter(options))}' must be"):
        make(name, **options)


@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo", "dpop"])
def test_every_option_has_help(name: str) -> None:
    options = fields(component("loss", name))
    assert options.beta.default == 0.1
    assert all(option.metadata["help"].endswith(".") for option in options)
