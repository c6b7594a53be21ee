"""Win rates, their intervals, and what an evaluation compares."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import ClassVar

import mlx.core as mx
import numpy as np
import pytest
from attrs import define, evolve, field

from prefloop import Completion, Evaluation, Pair, Policy, Prompt, Rate, Sampling, StopRun, Verdict
from prefloop.evaluation import Evaluator, length_controlled, stats, wilson, win_rate
from prefloop.evaluation.evaluator import average_orders, divergence, judge_both_orders
from prefloop.runs.records import evaluation_to_json
from support.tiny_models import ModelFolder


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


def test_without_pairs_the_interval_is_0_to_1() -> None:
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
        return [Verdict(0.99) for _ in pairs]


class PrefersTexts:
    """Prefers the completions of one side, which it recognises by their text."""

    def __init__(self, liked: set[str]) -> None:
        self.liked = liked

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(0.9 if p.first.text in self.liked else 0.1) for p in pairs]


def test_position_bias_gives_a_win_rate_of_one_half(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    prompts = [policy.encode(f"number {i}") for i in range(6)]
    evaluation = Evaluator(policy, prompts, PrefersPlaceA(), Sampling(max_tokens=4))(0)
    assert evaluation.win_rate.rate == 0.5
    assert evaluation.metrics["ties"] == 1.0
    assert evaluation.metrics["position_gap"] == pytest.approx(0.98)
    assert evaluation.metrics["first_place"] == 1.0


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
    policy = Policy.load(str(model_folder("qwen3")))
    plain = [policy.encode(f"number {i}") for i in range(4)]
    greedy = Sampling(temperature=0.0, max_tokens=4)
    said = [c.text for c in policy.generate(plain, greedy, seed=0)]
    answers = [said[0].upper(), said[1], "not said at all", "nor this"]
    prompts = [evolve(p, fields={"answer": a}) for p, a in zip(plain, answers, strict=True)]
    evaluation = Evaluator(policy, prompts, PrefersPlaceA(), greedy, answer="answer")(0)
    assert evaluation.metrics["accuracy"] == 0.5


def pair(first: str, second: str = "") -> Pair:
    return Pair(Prompt((), "?"), Completion((), first), Completion((), second))


def outcomes(rows: Sequence[tuple[int, float]]) -> tuple[list[Pair], list[Verdict]]:
    """Pairs whose first completion is so many characters longer, with its win: 1, 0, or 0.5 for a tie."""
    pairs = [pair("x" * (50 + d), "y" * 50) for d, _ in rows]
    return pairs, [Verdict.tie() if won == 0.5 else Verdict(won) for _, won in rows]


def test_length_controlled_rate_by_hand() -> None:
    # Two lengths, +10 and -10: the fit goes through both, 3 of 4 and 2 of 4. At no difference the logit is
    # half way: (ln 3 + ln 1) / 2, so the rate is sqrt 3 / (1 + sqrt 3).
    rows = [(10, 1.0)] * 3 + [(10, 0.0)] + [(-10, 1.0)] * 2 + [(-10, 0.0)] * 2
    found = length_controlled(*outcomes(rows))
    assert found.rate == pytest.approx(math.sqrt(3) / (1 + math.sqrt(3)), abs=1e-12)
    # The variance of each logit is 1 / (n p (1 - p)), that of the intercept a quarter of their sum.
    error = math.sqrt((1 / (4 * 0.75 * 0.25) + 1 / (4 * 0.5 * 0.5)) / 4)
    low, high = (1 / (1 + math.exp(-(math.log(3) / 2 + z * error))) for z in (-1.959964, 1.959964))
    assert (found.low, found.high, found.pairs) == (pytest.approx(low), pytest.approx(high), 8)


def log_likelihood(a: np.ndarray, b: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    logits = a[..., None] + b[..., None] * x
    terms: np.ndarray = (y * logits - np.logaddexp(0.0, logits)).sum(-1)
    return terms


@pytest.mark.parametrize("seed", range(4))
def test_length_controlled_rate_against_a_search(seed: int) -> None:
    random = np.random.default_rng(seed)
    differences = random.integers(-40, 40, 60)
    wins = random.random(60) < 1 / (1 + np.exp(-(0.4 + differences / 20)))
    won = np.where(random.random(60) < 0.2, 0.5, wins.astype(float))
    found = length_controlled(*outcomes([(int(d), float(w)) for d, w in zip(differences, won, strict=True)]))

    x = np.tanh(differences / differences.std(ddof=1))
    a = b = 0.0
    width = 8.0
    for _ in range(60):  # a grid of both, ever finer around its best
        grid = np.linspace(-width, width, 9)
        table = log_likelihood(a + grid[:, None], b + grid[None, :], x, won)
        i, j = np.unravel_index(table.argmax(), table.shape)
        a, b, width = a + grid[i], b + grid[j], width * 0.6
    assert found.rate == pytest.approx(1 / (1 + math.exp(-a)), abs=1e-6)

    p = 1 / (1 + np.exp(-(a + b * x)))
    design = np.stack([np.ones_like(x), x])
    error = math.sqrt(np.linalg.inv((design * (p * (1 - p))) @ design.T)[0, 0])
    assert found.low == pytest.approx(1 / (1 + math.exp(-(a - 1.959964 * error))), abs=1e-6)


def test_a_length_controlled_rate_is_found_where_rounding_lowers_the_likelihood_at_its_maximum() -> None:
    random = np.random.default_rng(198)
    x = random.integers(-40, 40, 50)
    won = (random.random(50) < 1 / (1 + np.exp(-(1 + x / 10)))).astype(float)
    found = length_controlled(*outcomes([(int(d), float(w)) for d, w in zip(x, won, strict=True)]))
    assert 0 < found.low < found.rate < found.high < 1


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(5, 1.0)],
        [(5, 1.0), (3, 1.0), (-2, 1.0)],  # all are wins
        [(5, 1.0), (3, 1.0), (-2, 0.0), (-4, 0.0)],  # the longer one always wins
        [(5, 1.0), (3, 1.0), (3, 0.0), (-4, 0.0)],  # the same, but for those on the threshold
        [(5, 0.5), (-5, 0.0)],
        [(7, 1.0), (7, 0.0), (7, 1.0)],  # all differ alike
    ],
)
def test_a_length_controlled_rate_that_is_not_identified_is_nan(rows: list[tuple[int, float]]) -> None:
    found = length_controlled(*outcomes(rows))
    assert all(math.isnan(value) for value in (found.rate, found.low, found.high))


def test_equal_lengths_need_no_control() -> None:
    pairs, verdicts = outcomes([(0, 1.0), (0, 1.0), (0, 0.0)])
    assert length_controlled(pairs, verdicts) == win_rate(verdicts)


@define
class Asked:
    """Says what it is told to, and remembers what it was asked."""

    answer: Verdict
    symmetric: bool = False
    interactive: bool = False
    patience: int = 100
    seen: list[str] = field(factory=list)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.seen += [p.first.text for p in pairs[: self.patience]]
        if len(pairs) > self.patience:
            raise StopRun("tea", [self.answer] * self.patience)
        return [self.answer] * len(pairs)


def test_a_judge_is_asked_in_both_orders_only_where_it_may_have_position_bias() -> None:
    pairs = [pair("a", "b"), pair("c", "d")]
    plain = Asked(Verdict(0.9))
    assert judge_both_orders(plain, pairs) == [Verdict.tie(orders=(0.9, pytest.approx(0.1)))] * 2
    assert plain.seen == ["a", "c", "b", "d"]
    symmetric = Asked(Verdict(0.9), symmetric=True)
    assert (judge_both_orders(symmetric, pairs), symmetric.seen) == ([Verdict(0.9)] * 2, ["a", "c"])
    itself = Asked(Verdict(0.7, orders=(0.9, 0.5)))
    assert (judge_both_orders(itself, pairs), itself.seen) == ([itself.answer] * 2, ["a", "c"])
    failing = Asked(Verdict.error("?"))
    assert (judge_both_orders(failing, pairs), failing.seen) == ([failing.answer] * 2, ["a", "c"])
    person = Asked(Verdict(0.75), interactive=True)
    assert (judge_both_orders(person, pairs), person.seen) == ([Verdict(0.75), Verdict(0.25)], ["a", "d"])


def test_a_verdict_on_swapped_answers_says_the_same() -> None:
    one = Verdict(0.75, orders=(0.9, 0.6), reason="r")  # the second number was asked with the answers swapped
    assert one.swapped() == Verdict(0.25, orders=(pytest.approx(0.4), pytest.approx(0.1)), reason="r")
    asked_again = evolve(one, by="person", earlier=Verdict(0.9), audit=0.5).swapped()
    assert (asked_again.by, asked_again.audit) == ("person", 0.5)
    assert asked_again.earlier == Verdict(1 - 0.9)
    assert pair("a", "b").swapped() == pair("b", "a")
    bias = (
        stats.position_bias([(0.9, 0.2)]),
        stats.position_bias([Verdict.tie(orders=(0.9, 0.2)).swapped().orders]),
    )
    assert [b and b.first_place and b.first_place.rate for b in bias] == [
        1.0,
        1.0,
    ]  # the place stays the place


@pytest.mark.parametrize(
    ("probability", "margin", "status"),
    [(0.5 + 9e-7, 0.0, "tie"), (0.5 - 2e-6, 0.0, "ok"), (0.45, 0.05, "tie"), (0.44, 0.05, "ok")],
)
def test_a_computed_probability_near_one_half_is_a_tie(
    probability: float, margin: float, status: str
) -> None:
    found = Verdict.from_probability(probability, tie_margin=margin, reason="r", orders=(0.4, 0.6))
    assert (found.status, found.reason, found.orders) == (status, "r", (0.4, 0.6))
    assert found.probability == (0.5 if status == "tie" else probability)


def test_verdicts_of_a_person_who_leaves_belong_to_the_right_answers() -> None:
    with pytest.raises(StopRun) as left:
        judge_both_orders(Asked(Verdict(1.0), interactive=True, patience=2), [pair("a", "b")] * 3)
    assert [v.probability for v in left.value.verdicts] == [1.0, 0.0]


def test_two_orders_are_averaged_and_an_error_in_one_is_an_error() -> None:
    class InTurn:
        given: ClassVar = [
            [Verdict(0.9), Verdict.tie(), Verdict(0.8)],
            [Verdict(0.5, "tie"), Verdict(0.2), Verdict.error("?")],
        ]

        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            return self.given.pop(0)

    found = judge_both_orders(InTurn(), [pair("a", "b")] * 3)
    assert found[0] == Verdict(0.7, orders=(0.9, 0.5))
    assert found[1] == Verdict(0.65, orders=(0.5, 0.8))
    assert found[2].status == "error"


@pytest.mark.parametrize(("other", "by"), [("members.0", "members.0"), ("members.1", None)])
def test_two_orders_are_by_whoever_answered_both(other: str, by: str | None) -> None:
    given, swapped = Verdict(0.9, by="members.0", earlier=Verdict(0.6)), Verdict(0.7, by=other)
    assert average_orders(given, swapped) == Verdict(0.8, orders=(0.9, 0.7), by=by)


def test_judge_statistics_by_hand() -> None:
    pairs = [pair("a", "b"), pair("a", "b"), pair("same", "same"), pair("a", "b"), pair("a", "b")]
    verdicts = [
        Verdict(0.6, orders=(0.8, 0.4)),  # the one shown first, twice
        Verdict(0.7, orders=(0.7, 0.7)),  # the first completion, twice
        Verdict.tie(orders=(0.9, 0.1)),
        Verdict.error("?"),
        Verdict.abstain(),
    ]
    found = stats.judge_metrics(pairs, verdicts)
    assert (found["ties"], found["errors"], found["abstentions"]) == (0.2, 0.2, 0.2)
    assert found["position_gap"] == pytest.approx((0.4 + 0.0 + 0.8) / 3)
    assert found["first_place"] == 3 / 4
    alone = stats.judge_metrics(pairs[:1], [Verdict(0.6)])
    assert math.isnan(alone["position_gap"])
    assert math.isnan(alone["first_place"])


def test_lengths_stop_rate_and_distinct_n_by_hand() -> None:
    texts = [(1, 2, 1, 2, 9), (1, 2), (3, 9)]  # 9 is the stop token
    said = [Completion(t, "", stopped=t[-1] == 9) for t in texts]
    found = stats.completion_metrics(said)
    assert found["distinct_1"] == 3 / 7  # 1 2 3, of 1 2 1 2 1 2 3
    assert found["distinct_2"] == 2 / 4  # 12 and 21, of 12 21 12 12
    assert found["stop_rate"] == 2 / 3
    many = [Completion(tuple(range(n)), "", stopped=False) for n in (3, 8, 1, 20, 5, 5, 9)]
    lengths = stats.completion_metrics(many)
    p10, p90 = np.percentile([3, 8, 1, 20, 5, 5, 9], [10, 90])
    assert lengths["completion_length_p10"] == pytest.approx(p10)
    assert lengths["completion_length_p90"] == pytest.approx(p90)
    assert math.isnan(stats.distinct([Completion((1,), "")], 1))


def test_divergence_against_float64(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    prompts = [policy.encode(f"number {i} of {'many ' * i}") for i in range(5)]
    mx.random.seed(1)
    noisy = {k: v + 0.1 * mx.random.normal(v.shape) for k, v in policy.trainable().items()}
    policy.model.load_weights(list(noisy.items()), strict=False)
    said = policy.generate(prompts, Sampling(max_tokens=6), seed=3)

    def total(model: object, prompt: Prompt, completion: Completion) -> float:
        row = [*prompt.tokens, *completion.tokens]
        logits = np.array(model(mx.array([row[:-1]]))[0].astype(mx.float32)).astype(np.float64)  # type: ignore[operator]
        told = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        start = len(prompt.tokens) - 1
        return float(sum(told[start + t, token] for t, token in enumerate(completion.tokens)))

    policy.model.eval()
    rows = list(zip(prompts, said, strict=True))
    ratios = [total(policy.model, *row) - total(policy.reference, *row) for row in rows]
    for batch_size in (2, 8):
        found = divergence(policy, prompts, said, batch_size)
        assert found["kl"] == pytest.approx(np.mean(ratios), abs=1e-4)
        assert found["kl_se"] == pytest.approx(np.std(ratios, ddof=1) / math.sqrt(5), abs=1e-4)
    assert abs(np.mean(ratios)) > 0.01


def test_an_evaluation_is_written_as_json_without_nan() -> None:
    both = Pair(Prompt((), "?", id="p:1"), Completion((1, 2), "yes"), Completion((3,), "n", stopped=False))
    evaluation = Evaluation(
        3, Rate(1.0, 0.2, 1.0, 1), {"kl": math.nan}, [both], [Verdict(0.9, orders=(1.0, 0.8))], "p:rule"
    )
    found = json.loads(json.dumps(evaluation_to_json(evaluation), allow_nan=False))
    assert found["metrics"] == {"kl": None}
    assert (found["step"], found["judge"], found["against"]) == (3, "p:rule", "start")
    (only,) = found["pairs"]
    assert only["ours"] == {"text": "yes", "tokens": 2, "stopped": True}
    assert only["theirs"] == {"text": "n", "tokens": 1, "stopped": False}
    assert (only["prompt_id"], only["probability"], only["orders"]) == ("p:1", 0.9, [1.0, 0.8])
