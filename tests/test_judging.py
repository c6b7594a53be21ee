"""The numbers of `prefloop judge`, and how a judge is asked for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefloop import Completion, Pair, Prompt, StopRun, UserError, Verdict
from prefloop_plugins.judging.pair_files import LabelledPair, Side, side_of
from prefloop_plugins.judging.report import (
    agreement,
    between,
    calibration,
    cohens_kappa,
    length,
    position,
    report,
)
from prefloop_plugins.judging.verdicts import CHUNK, Judged, judge_pairs

SIDES: list[Side | None] = ["first", "second", "tie", None]
sides = st.lists(st.tuples(st.sampled_from(SIDES), st.sampled_from(SIDES)), min_size=1, max_size=40)


def pair(first: str = "aa", second: str = "b") -> Pair:
    return Pair(Prompt((), "?"), Completion((), first), Completion((), second))


def judged(*verdicts: Verdict, swapped: Sequence[Verdict | None] | None = None) -> Judged:
    return Judged(verdicts, tuple(swapped or [None] * len(verdicts)), seconds=2.0)


def labelled(*labels: Side | None) -> list[LabelledPair]:
    return [LabelledPair(pair(), label) for label in labels]


def times(count: int, side: Side) -> list[Side | None]:
    return [side] * count


# Agreement and kappa


def test_kappa_by_hand() -> None:
    # Both say first 20 times, both second 15, the rest differ: p_o = 35/50, p_e = (25*30 + 25*20)/2500 = 1/2.
    one = times(25, "first") + times(25, "second")
    other = times(20, "first") + times(5, "second") + times(10, "first") + times(15, "second")
    assert cohens_kappa(one, other) == pytest.approx(0.4)
    rate = agreement(one, other)
    assert rate is not None
    assert (rate.rate, rate.pairs) == (0.7, 50)


def test_kappa_is_1_minus_1_and_0_by_hand() -> None:
    assert cohens_kappa(["first", "second"], ["first", "second"]) == 1.0
    assert cohens_kappa(["first", "second"], ["second", "first"]) == -1.0
    assert cohens_kappa(["first", "first"], ["first", "second"]) == 0.0


def test_kappa_is_undefined_without_pairs_or_without_variety() -> None:
    assert cohens_kappa([], []) is None
    assert cohens_kappa(["first", None], [None, "first"]) is None
    assert cohens_kappa(["tie", "tie"], ["tie", "tie"]) is None


@given(sides)
def test_kappa_equals_that_of_the_confusion_matrix(rows: list[tuple[Side | None, Side | None]]) -> None:
    table = np.zeros((3, 3))
    for a, b in rows:
        if a is not None and b is not None:
            table[SIDES.index(a), SIDES.index(b)] += 1
    found = cohens_kappa([a for a, _ in rows], [b for _, b in rows])
    if table.sum() == 0 or (table.sum(0) * table.sum(1)).sum() == table.sum() ** 2:
        assert found is None
        return
    table /= table.sum()
    chance = (table.sum(0) * table.sum(1)).sum()
    assert found == pytest.approx((np.trace(table) - chance) / (1 - chance))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_agreement_interval_is_wilson_s(counts: tuple[int, int]) -> None:
    """Wilson's ends are where ``|p_hat - p| = z sqrt(p (1 - p) / n)``."""
    hits, pairs = counts
    rate = agreement(times(pairs, "first"), times(hits, "first") + times(pairs - hits, "second"))
    assert rate is not None
    for end in (rate.low, rate.high):
        assert abs(rate.rate - end) == pytest.approx(
            1.959963985 * math.sqrt(end * (1 - end) / pairs), abs=1e-7
        )
    assert rate.low - 1e-12 <= rate.rate <= rate.high + 1e-12


def test_a_tie_agrees_with_a_tie_only_and_errors_do_not_count() -> None:
    found = report(
        labelled("first", "tie", "second", "first", "first", None),
        judged(
            Verdict(0.9), Verdict.tie(), Verdict.tie(), Verdict.error("?"), Verdict.abstain(), Verdict(0.9)
        ),
    )
    assert found.agreement is not None
    assert found.agreement_decided is not None
    assert found.agreement.rate == pytest.approx(2 / 3)
    assert found.agreement.pairs == 3
    assert (found.agreement_decided.rate, found.agreement_decided.pairs) == (1.0, 1)
    assert (found.pairs, found.labelled) == (6, 5)
    assert [found.ties, found.abstentions, found.errors] == pytest.approx([2 / 6, 1 / 6, 1 / 6])
    assert found.error_reasons == {"?": 1}
    assert found.pairs_per_second == 3.0


def test_without_labels_or_verdicts_numbers_are_none() -> None:
    found = report(labelled(None), judged(Verdict.error("no")))
    assert {found.agreement, found.position, found.length, found.calibration} == {None}
    assert report(labelled("first"), judged()).pairs == 0


def test_two_judges_are_compared_on_pairs_that_both_labelled() -> None:
    one = [Verdict(0.9), Verdict(0.1), Verdict.tie(), Verdict.error("?")]
    found = between(one, [Verdict(0.6), Verdict(0.8), Verdict.tie()])
    assert found.agreement is not None
    assert found.agreement.rate == pytest.approx(2 / 3)
    assert found.agreement.pairs == 3
    # p_e = (1*2 + 1*0 + 1*1)/9 = 1/3, so kappa = (2/3 - 1/3)/(2/3).
    assert found.kappa == pytest.approx(0.5)


# Position


def test_position_bias_shows_in_a_judge_s_own_two_orders() -> None:
    always_first = Verdict.tie(orders=(0.9, 0.1))
    found = position(labelled("first", "second"), judged(always_first, always_first))
    assert found is not None
    assert (found.consistency.rate, found.first_place) == (0.0, 1.0)
    assert found.gap == pytest.approx(0.8)
    rates = [rate and rate.rate for rate in found.agreement]
    assert rates == [0.5, 0.5]


def test_position_bias_shows_when_asked_again_with_swapped_answers() -> None:
    found = position(labelled("first"), judged(Verdict(0.9), swapped=[Verdict(0.2)]))
    assert found is not None
    assert (found.consistency.rate, found.first_place, found.consistency.pairs) == (0.0, 1.0, 1)
    assert found.gap == pytest.approx(0.7)


def test_a_judge_without_position_bias_is_consistent() -> None:
    found = position(
        labelled("first", "second", "second"),
        judged(
            Verdict(0.9),
            Verdict(0.3),
            Verdict.tie(),
            swapped=[Verdict(0.8), Verdict(0.3), Verdict.tie()],
        ),
    )
    assert found is not None
    assert (found.consistency.rate, found.first_place) == (1.0, 0.5)
    assert found.gap == pytest.approx(0.1 / 3)
    assert found.agreement[0] is not None
    assert found.agreement[0].rate == pytest.approx(2 / 3)


def test_equal_answers_and_single_verdicts_do_not_count_for_position_bias() -> None:
    same = LabelledPair(pair("a", "a"), None)
    biased = Verdict.tie(orders=(0.9, 0.1))
    assert position([same], judged(biased)) is None
    assert position(labelled("first"), judged(Verdict(0.9))) is None
    assert position(labelled("first"), judged(Verdict(0.9), swapped=[Verdict.error("?")])) is None


# Length and calibration


def test_how_often_the_longer_answer_wins() -> None:
    pairs = [pair("long", "s"), pair("s", "long"), pair("s", "long"), pair("s", "s"), pair("s", "long")]
    found = length(
        pairs, ["first", "first", None, "first", "tie"], ["first", "second", "first", "first", None]
    )
    assert found is not None
    assert found.longer_wins.rate == pytest.approx(2 / 3)
    assert found.longer_wins.pairs == 3
    assert found.longer_in_labels is not None
    assert (found.longer_in_labels.rate, found.longer_in_labels.pairs) == (0.5, 2)


def test_calibration_by_hand() -> None:
    # Sureness 0.9 twice, once wrong: |0.5 - 0.9| = 0.4; 0.6 once, right: 0.4; a tie: |0.5 - 0.5| = 0.
    # Brier: (0.01 + 0.81 + 0.16 + 0.25) / 4.
    found = calibration(
        ["first", "first", "second", "second", "tie", None, "first"],
        [Verdict(p) for p in (0.9, 0.1, 0.4, 0.5, 0.9, 0.9)] + [Verdict.error("?")],
    )
    assert found is not None
    assert found.pairs == 4
    assert found.ece == pytest.approx(0.4 * 3 / 4)
    assert found.brier == pytest.approx(1.23 / 4)
    assert [(b.low, b.high, b.pairs, b.accuracy) for b in found.bins] == [
        (0.5, 0.55, 1, 0.5),
        (0.6, 0.65, 1, 1.0),
        (0.9, 0.95, 2, 0.5),
    ]


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1))
@example([(101, False), (150, True)])  # a confidence on the edge of a bin belongs to the upper one
def test_calibration_equals_a_plain_version_in_any_order_of_pairs(
    rows: list[tuple[int, bool]],
) -> None:
    thousandths = np.array([probability for probability, _ in rows])
    p = thousandths / 1000
    y = np.array([better for _, better in rows], dtype=float)
    labels: list[Side | None] = ["first" if better else "second" for _, better in rows]
    found = calibration(labels, [Verdict(x) for x in p.tolist()])
    assert found is not None
    assert found.brier == pytest.approx(np.mean((p - y) ** 2))

    confidence = np.maximum(p, 1 - p)
    right = np.where(p == 0.5, 0.5, (p > 0.5) == (y == 1.0))
    place = np.minimum((np.maximum(thousandths, 1000 - thousandths) - 500) // 50, 9)
    ece = sum(abs(right[place == b].sum() - confidence[place == b].sum()) for b in range(10)) / len(rows)
    assert found.ece == pytest.approx(ece, abs=1e-9)

    turned = calibration(["second" if a == "first" else "first" for a in labels], [Verdict(1 - x) for x in p])
    assert turned is not None
    assert turned.brier == pytest.approx(found.brier)


# Asking


class Counting:
    """Prefers the longer answer, and keeps what it was asked."""

    def __init__(self, interactive: bool = False) -> None:
        self.calls: list[list[Pair]] = []
        self.interactive = interactive

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.calls.append(list(pairs))
        return [Verdict.from_scores(len(p.first.text), len(p.second.text)) for p in pairs]


def test_every_pair_is_asked_again_with_its_answers_swapped() -> None:
    judge = Counting()
    done: list[int] = []
    found = judge_pairs(judge, [pair("aa", "b")] * (CHUNK + 1), done.append)
    assert [len(call) for call in judge.calls] == [CHUNK, CHUNK, 1, 1]
    assert judge.calls[1][0].first.text == "b"
    assert [side_of(v) for v in found.swapped if v] == ["first"] * (CHUNK + 1)
    assert done == [CHUNK, CHUNK + 1]
    assert found.stopped is None
    assert found.seconds > 0


def test_a_person_is_asked_once_about_all_pairs_together() -> None:
    judge = Counting(interactive=True)
    found = judge_pairs(judge, [pair()] * (CHUNK + 1))
    assert [len(call) for call in judge.calls] == [CHUNK + 1]
    assert set(found.swapped) == {None}


def test_only_single_order_verdicts_are_asked_again() -> None:
    class Mixed(Counting):
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            self.calls.append(list(pairs))
            given = [Verdict(0.9, orders=(0.9, 0.9)), Verdict.error("?"), Verdict.abstain(), Verdict(0.7)]
            return given if len(pairs) == 4 else [Verdict(0.2)]

    judge = Mixed()
    found = judge_pairs(judge, [pair(), pair(), pair(), pair("x", "y")])
    assert [p.first.text for p in judge.calls[1]] == ["y"]
    assert found.swapped == (None, None, None, Verdict(0.8))


@pytest.mark.parametrize("reason", [StopRun("the budget is spent", [Verdict(0.9)]), KeyboardInterrupt()])
def test_verdicts_before_a_stop_are_kept(reason: BaseException) -> None:
    class Stops:
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            raise reason

    found = judge_pairs(Stops(), [pair(), pair()])
    assert found.verdicts == getattr(reason, "verdicts", ())
    assert len(found.swapped) == len(found.verdicts)
    assert found.stopped in ("the budget is spent", "interrupted from the keyboard")


def test_a_judge_that_leaves_a_verdict_out_is_named() -> None:
    class Short:
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            return [Verdict(0.9)]

    with pytest.raises(UserError, match="judge 'Short' gave 1 verdicts for 2 pairs"):
        judge_pairs(Short(), [pair(), pair()])
