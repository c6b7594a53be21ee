"""Length control against float64 numpy and with judges of every manner, and the judge of length alone."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from attrs import field, frozen

from prefloop import Completion, Pair, Prompt, StopRun, UserError, Verdict, component
from prefloop.components import PendingVerdicts
from prefloop_judge_length.controlled import LengthControlled
from prefloop_judge_length.fit import Fit, fit
from prefloop_judge_length.near import NearLength
from prefloop_testing import JudgeSuite

RULE = component("judge", "rule")(prefer=["good"], length="longer")


class TestGivenCoefficient(JudgeSuite):
    component = LengthControlled(RULE, coefficient=0.01)


class TestFitted(JudgeSuite):
    component = LengthControlled(RULE, unit="tokens", min_pairs=10_000)


class TestNearLength(JudgeSuite):
    component = NearLength(target=30)


def pair(first: str, second: str, tokens: tuple[int, int] = (1, 1)) -> Pair:
    one, two = (Completion(tuple(range(n)), text) for n, text in zip(tokens, (first, second), strict=True))
    return Pair(Prompt((1,), "Well?"), one, two)


def of_lengths(first: int, second: int) -> Pair:
    return pair("x" * first, "y" * second)


def log_odds(p: float) -> float:
    return math.log(p / (1 - p))


@frozen
class Says:
    """Gives the verdicts it was made with, in their order."""

    verdicts: Sequence[Verdict]

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return list(self.verdicts)


@frozen
class LikesLength:
    """Log-odds of 0.02 for each character more, and 1 for an answer with an x."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict.from_scores(self.score(p.first.text), self.score(p.second.text)) for p in pairs]

    def score(self, text: str) -> float:
        return 0.02 * len(text) + 1.0 * ("x" in text)


def test_a_coefficient_is_taken_off_the_log_odds() -> None:
    judge = LengthControlled(Says([Verdict(0.8), Verdict(0.8)]), coefficient=0.02)
    shorter, longer = judge.judge([of_lengths(10, 60), of_lengths(60, 10)])
    assert log_odds(shorter.probability) == pytest.approx(log_odds(0.8) + 0.02 * 50)
    assert log_odds(longer.probability) == pytest.approx(log_odds(0.8) - 0.02 * 50)


def test_what_length_alone_decided_is_decided_by_content() -> None:
    """The inner judge prefers the longer answer, the controlled one the better."""
    longer = of_lengths(10, 200)  # the first has an x
    assert LikesLength().judge([longer])[0].prefers_first is False
    verdict = LengthControlled(LikesLength(), coefficient=0.02).judge([longer])[0]
    assert log_odds(verdict.probability) == pytest.approx(1.0)


def test_tokens_are_counted_where_asked_for() -> None:
    judge = LengthControlled(Says([Verdict(0.6)]), unit="tokens", coefficient=0.1)
    found = judge.judge([pair("long text, few tokens", "short", tokens=(3, 8))])[0]
    assert log_odds(found.probability) == pytest.approx(log_odds(0.6) + 0.5)


def test_both_orders_are_adjusted() -> None:
    judge = LengthControlled(Says([Verdict(0.7, orders=(0.9, 0.5))]), coefficient=0.01)
    verdict = judge.judge([of_lengths(100, 0)])[0]
    assert verdict.orders is not None
    assert [log_odds(p) for p in verdict.orders] == pytest.approx([log_odds(0.9) - 1, log_odds(0.5) - 1])


@pytest.mark.parametrize(
    "verdict",
    [Verdict.tie("even"), Verdict.tie(orders=(0.9, 0.1)), Verdict.abstain("skip"), Verdict.error("why")],
)
def test_what_is_no_label_passes_untouched(verdict: Verdict) -> None:
    assert LengthControlled(Says([verdict]), coefficient=1.0).judge([of_lengths(9, 1)]) == [verdict]


def test_a_certain_label_can_be_adjusted_and_equal_lengths_change_nothing() -> None:
    judge = LengthControlled(Says([Verdict(1.0), Verdict(1.0)]), coefficient=0.1, certainty=0.9)
    longer, equal = judge.judge([of_lengths(60, 10), of_lengths(10, 10)])
    assert log_odds(longer.probability) == pytest.approx(log_odds(0.9) - 5)
    assert equal == Verdict(1.0)


def test_the_fit_agrees_with_numpy() -> None:
    """Newton's optimum against the best of a grid that is refined around its minimum."""
    rng = np.random.default_rng(0)
    differences = rng.integers(-200, 200, size=300)
    labels = 1 / (1 + np.exp(-0.9 * np.tanh(differences / 80) + rng.normal(size=300)))
    found = fit([(int(d), float(p)) for d, p in zip(differences, labels, strict=True)], ridge=1.0)

    spread = np.sqrt(np.mean(differences**2.0))
    x = np.tanh(differences / spread)

    def objective(w: Any) -> Any:
        z = np.outer(w, x)
        return np.sum(labels * np.logaddexp(0, -z) + (1 - labels) * np.logaddexp(0, z), axis=1) + w**2 / 2

    best, width = 0.0, 10.0
    for _ in range(12):
        grid = np.linspace(best - width, best + width, 201)
        best, width = grid[np.argmin(objective(grid))], width / 10
    assert found.spread == pytest.approx(spread)
    assert found.weight == pytest.approx(best, abs=1e-6)


def test_the_fit_of_one_sided_labels_is_finite_and_of_none_is_nothing() -> None:
    assert 1 < fit([(10, 1.0), (-10, 0.0)] * 500, ridge=1e-3).weight < 50
    assert fit([(0, 1.0)] * 9, ridge=1.0) == fit([], ridge=1.0) == Fit(0.0, 1.0)


def test_swapping_the_answers_of_every_pair_changes_no_fit() -> None:
    seen = [(30, 0.9), (-80, 0.3), (5, 0.6)]
    swapped = fit([(-d, 1 - p) for d, p in seen], ridge=1.0)
    assert swapped.weight == pytest.approx(fit(seen, ridge=1.0).weight)


def test_a_fit_is_made_from_the_verdicts_before_the_batch() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 120, size=(400, 2)).tolist()
    pairs = [pair("y" * a, "y" * b) for a, b in sizes]
    judge = LengthControlled(LikesLength(), min_pairs=200)
    plain = LikesLength().judge(pairs)
    assert judge.fitted is None
    assert judge.judge(pairs[:200]) == plain[:200]  # nothing was known before

    fitted = judge.fitted
    assert fitted is not None and fitted.weight > 0
    after = judge.judge(pairs[200:])
    for given, verdict, (a, b) in zip(plain[200:], after, sizes[200:], strict=True):
        if given.status == "ok":
            expected = log_odds(given.probability) - fitted.log_odds(a - b)
            assert log_odds(verdict.probability) == pytest.approx(expected, abs=1e-6)
    agree = [abs(log_odds(v.probability)) for v in after if v.status == "ok"]
    before = [abs(log_odds(v.probability)) for v in plain[200:] if v.status == "ok"]
    assert np.mean(agree) < 0.3 * np.mean(before)  # length was all that this judge went by


@frozen
class Quits:
    """Answers one by one, and stops after the first."""

    interactive = True
    log: list[str] = field(factory=list)

    def prepare(self) -> None:
        raise UserError("nobody is there.")

    def close(self) -> None:
        self.log.append("closed")

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        raise AssertionError("has answers")

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        yield 0, Verdict(0.8)
        raise StopRun("enough", [Verdict(0.8)])


def test_a_person_inside_is_prepared_told_one_by_one_and_may_stop() -> None:
    inner = Quits()
    judge = LengthControlled(inner, coefficient=0.02)
    assert judge.interactive and not LengthControlled(LikesLength()).interactive
    with pytest.raises(UserError, match=r"inner: nobody is there\."):
        judge.prepare()
    judge.close()
    assert inner.log == ["closed"]

    pairs = [of_lengths(60, 10), of_lengths(1, 2)]
    told = judge.answers(pairs)
    place, first = next(told)
    assert (place, round(log_odds(first.probability), 6)) == (0, round(log_odds(0.8) - 1, 6))
    with pytest.raises(StopRun, match="enough"):
        next(told)
    with pytest.raises(StopRun) as stopped:
        judge.judge(pairs)
    assert stopped.value.verdicts == (first,)


@frozen
class Elsewhere:
    """Answers later, all together."""

    stops: bool = False

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        if self.stops:
            raise StopRun("spent", [Verdict(0.8)], failed=True)
        return [Verdict(0.8)] * len(pairs)

    def submit(self, pairs: Sequence[Pair]) -> PendingVerdicts:
        return PendingVerdicts(lambda: self.judge(pairs))


def test_what_is_submitted_is_adjusted_when_it_comes() -> None:
    pairs = [of_lengths(60, 10), of_lengths(10, 60)]
    judge = LengthControlled(Elsewhere(), coefficient=0.02)
    assert judge.submit(pairs).result() == judge.judge(pairs)
    assert LengthControlled(LikesLength()).submit is None

    with pytest.raises(StopRun) as stopped:
        LengthControlled(Elsewhere(stops=True), coefficient=0.02).submit(pairs).result()
    assert stopped.value.verdicts == tuple(judge.judge(pairs)[:1])
    assert stopped.value.failed

    counting = LengthControlled(Elsewhere(), min_pairs=2)
    counting.submit(pairs).result()
    assert counting.fitted is not None


def test_a_judge_that_miscounts_is_named() -> None:
    with pytest.raises(UserError, match="inner: judge 'Says' gave 1 verdicts for 2 pairs"):
        LengthControlled(Says([Verdict(1.0)])).judge([of_lengths(1, 2)] * 2)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="'certainty' must be < 1"):
        LengthControlled(RULE, certainty=1.0)
    with pytest.raises(ValueError, match="'coefficient' must be < inf"):
        LengthControlled(RULE, coefficient=math.inf)
    with pytest.raises(ValueError, match="'ridge' must be > 0"):
        LengthControlled(RULE, ridge=0.0)
    with pytest.raises(ValueError, match="'temperature' must be > 0"):
        NearLength(temperature=0.0)


def test_near_length_by_hand() -> None:
    judge = NearLength(target=20, temperature=5.0)
    nearer, even, farther = judge.judge([of_lengths(18, 27), of_lengths(15, 25), of_lengths(40, 20)])
    assert log_odds(nearer.probability) == pytest.approx((7 - 2) / 5)
    assert even == Verdict.tie()
    assert log_odds(farther.probability) == pytest.approx(-20 / 5)
    tokens = NearLength(target=4, unit="tokens", temperature=1.0)
    assert tokens.judge([pair("a", "b", tokens=(4, 6))])[0].probability == pytest.approx(
        1 / (1 + math.exp(-2))
    )


@pytest.mark.parametrize(
    ("name", "cls"), [("length-controlled", LengthControlled), ("near-length", NearLength)]
)
def test_is_found_by_name(name: str, cls: type) -> None:
    assert component("judge", name) is cls
    assert component("judge", f"prefloop-judge-length:{name}") is cls


def test_the_plugin_module_imports_no_mlx() -> None:
    code = "import sys, prefloop_judge_length as p; p.prefloop_judges(); sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
