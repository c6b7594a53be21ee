"""Win rates, their intervals, and what an evaluation compares."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import pytest

from prefloop import Pair, Policy, Sampling, Verdict
from prefloop.evaluation import Evaluator, wilson, win_rate
from tiny_models import ModelFolder


def test_wilson_by_hand() -> None:
    # 8 of 10: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96 is 0.4902 to 0.9433.
    rate = wilson(8, 10)
    assert (rate.rate, rate.pairs) == (0.8, 10)
    assert rate.low == pytest.approx(0.4902, abs=1e-4)
    assert rate.high == pytest.approx(0.9433, abs=1e-4)


@pytest.mark.parametrize(("wins", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_wilson_at_the_ends_stays_between_0_and_1(wins: int, low: float, high: float) -> None:
    rate = wilson(wins, 10)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=1e-4)


def test_without_pairs_nothing_is_known() -> None:
    rate = wilson(0, 0)
    assert (rate.low, rate.high, rate.pairs) == (0.0, 1.0, 0)


def test_ties_are_half_and_errors_do_not_count() -> None:
    verdicts = [
        Verdict(0.9),
        Verdict(0.2),
        Verdict.tie(),
        Verdict(0.5),
        Verdict.error("?"),
        Verdict.abstain(),
    ]
    rate = win_rate(verdicts)
    assert (rate.rate, rate.pairs) == (0.5, 4)


class PrefersPlaceA:
    """A judge with nothing but position bias."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(0.99, orders=(0.99, 0.99)) for _ in pairs]


class PrefersTexts:
    """Prefers the completions of one side, which it recognises by their text."""

    def __init__(self, liked: set[str]) -> None:
        self.liked = liked

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(0.9 if p.first.text in self.liked else 0.1) for p in pairs]


def test_position_bias_does_not_win(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    prompts = [policy.encode(f"number {i}") for i in range(6)]
    evaluation = Evaluator(policy, prompts, PrefersPlaceA(), Sampling(max_tokens=4))(0)
    assert evaluation.win_rate.rate == 0.5


def test_the_policy_is_compared_with_the_start_of_the_run(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    prompts = [policy.encode(f"number {i}") for i in range(6)]
    greedy = Sampling(temperature=0.0, max_tokens=4)
    start = {c.text for c in policy.generate(prompts, greedy, seed=0)}
    mx.random.seed(1)
    noisy = {k: v + 0.3 * mx.random.normal(v.shape) for k, v in policy.trainable().items()}
    policy.model.load_weights(list(noisy.items()), strict=False)
    ours = {c.text for c in policy.generate(prompts, greedy, seed=0)}
    assert not ours & start

    evaluation = Evaluator(policy, prompts, PrefersTexts(ours), greedy)(7)
    assert evaluation.win_rate.rate == 1.0
    assert evaluation.step == 7
    assert {p.first.text for p in evaluation.pairs} == ours
    assert {p.second.text for p in evaluation.pairs} == start
    assert Evaluator(policy, prompts, PrefersTexts(start), greedy)(7).win_rate.rate == 0.0


def test_accuracy_is_the_share_of_completions_that_contain_the_answer(model_folder: ModelFolder) -> None:
    from attrs import evolve

    policy = Policy.load(str(model_folder("qwen3")))
    plain = [policy.encode(f"number {i}") for i in range(4)]
    greedy = Sampling(temperature=0.0, max_tokens=4)
    said = [c.text for c in policy.generate(plain, greedy, seed=0)]
    answers = [said[0].upper(), said[1], "not said at all", "nor this"]
    prompts = [evolve(p, fields={"answer": a}) for p, a in zip(plain, answers, strict=True)]
    evaluation = Evaluator(policy, prompts, PrefersPlaceA(), greedy, answer="answer")(0)
    assert evaluation.metrics["accuracy"] == 0.5
