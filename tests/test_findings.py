"""The validity checks: every warning at its threshold, and the numbers that it is decided by."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any

import pytest
from attrs import evolve

from prefloop.evaluation.stats import wilson
from prefloop.runs.records import JudgeIdentity, Judgement
from prefloop.types import Completion, Evaluation, Pair, Prompt, Rate, Source, Verdict
from prefloop_plugins.report.findings import (
    claim,
    collapse,
    fairness,
    findings,
    finished,
    judge_consistency,
    judge_decided,
    length,
    right_answers,
    selection,
    who_judged,
)
from prefloop_plugins.report.measures import (
    length_differences,
    longer_wins,
    overall,
    pairs_needed,
    phases,
    position_bias,
    stretches,
)
from prefloop_plugins.report.records import Finding, RunFiles


def run(**parts: Any) -> RunFiles:
    manifest = {"status": "finished", "summary": {"steps": 10}, "plan": {"steps": 10}}
    return RunFiles(name="run", **{"manifest": manifest, **parts})


def compared(
    first: dict[str, float],
    last: dict[str, float],
    *,
    low: float = 0.6,
    high: float = 0.8,
    before: Rate = Rate(0.5, 0.42, 0.58, 100),  # noqa: B008 (frozen)
    **parts: Any,
) -> RunFiles:
    """A run with an evaluation before and one after training."""
    after = Rate((low + high) / 2, low, high, 100)
    return run(evaluations=(Evaluation(0, before, first), Evaluation(10, after, last)), **parts)


def level_and_text(check: Callable[[RunFiles], Finding | None], found: RunFiles) -> tuple[str, str]:
    finding = check(found)
    assert finding is not None
    return finding.level, finding.text


@pytest.mark.parametrize(
    ("manifest", "level", "text"),
    [
        ({"status": "finished", "summary": {"steps": 10}}, "fine", "It took 10 steps and finished."),
        (
            {"status": "finished", "summary": {"steps": 4}, "reason": "no better for 3 evaluations"},
            "fine",
            "It took 4 steps, and ended early: no better for 3 evaluations.",
        ),
        (
            {"status": "stopped", "reason": "Ctrl-C.", "summary": {"steps": 4}, "plan": {"steps": 10}},
            "warning",
            "Its status is stopped after 4 of 10 steps: Ctrl-C. The numbers are those until then.",
        ),
        (
            {"status": "running", "summary": {}, "plan": {"steps": 10}},
            "warning",
            (
                "Its status is running after 0 of 10 steps; it is still going on. The "
                "numbers are those until then."
            ),
        ),
        (
            {"status": "interrupted", "summary": {}, "plan": {"steps": 10}},
            "warning",
            (
                "Its status is interrupted after 0 of 10 steps; it was killed. The "
                "numbers are those until then."
            ),
        ),
        (
            {"status": 7, "summary": {}, "plan": "none"},
            "warning",
            ("Its status is 7 after 0 of an unknown number of steps. The numbers are those until then."),
        ),
    ],
)
def test_whether_the_run_finished(manifest: dict[str, Any], level: str, text: str) -> None:
    assert level_and_text(finished, run(manifest=manifest)) == (level, text)


def test_the_level_of_the_win_rate_finding() -> None:
    def level(low: float, high: float, **before: Rate) -> str:
        return level_and_text(claim, compared({}, {}, low=low, high=high, **before))[0]

    assert level(0.50, 0.70) == "warning"  # it contains one half, if only just
    assert level(0.59, 0.70) == "fine"
    assert level(0.51, 0.70) == "fine"  # that of the start against itself, to 0.58, has no part in it
    assert level(0.30, 0.49) == "warning"
    assert level(0.51, 0.70, before=Rate(0.4, 0.3, 0.5, 100)) == "fine"
    assert claim(run()).level == "unknown"
    silent = claim(run(evaluations=(Evaluation(1, Rate(0.5, 0.0, 1.0, 0), {}),)))
    assert (silent.level, silent.title) == ("warning", "No win rate after training")
    assert claim(run(evaluations=(Evaluation(0, Rate(0.5, 0.4, 0.6, 100), {}),))).level == "unknown"


def test_a_win_rate_whose_interval_is_above_one_half_is_proven() -> None:
    """78 % (62 to 88) of 40 pairs are more than chance, though the intervals overlap."""
    before, after = wilson(20, 40), wilson(31, 40)
    assert before.high > after.low > 0.5
    evaluations = (Evaluation(0, before, {}), Evaluation(10, after, {}))
    assert claim(run(evaluations=evaluations)).level == "fine"


@pytest.mark.parametrize(("wins", "warned"), [(50, False), (66, False), (67, True), (33, True), (34, False)])
def test_a_start_that_does_not_come_out_even_with_itself_is_a_warning(wins: int, warned: bool) -> None:
    """Of 100 pairs, 67 or more wins of either side have a probability of about 1 in 1000 at one half."""
    tail = sum(comb(100, k) for k in range(67, 101)) / 2**100
    assert 2 * tail < 0.0011 < 2 * (tail + comb(100, 66) / 2**100)
    found = fairness(run(evaluations=(Evaluation(0, wilson(wins, 100), {}),)))
    assert (found is not None) == warned


def test_the_win_rate_finding_has_its_numbers() -> None:
    assert level_and_text(claim, compared({}, {}, low=0.44, high=0.76)) == (
        "warning",
        (
            "The win rate is 60% (44% to 76%) on 100 held-out prompts: the interval contains one half, so it "
            "may be chance. A rate of 60% would need about 96 prompts."
        ),
    )
    worse = claim(compared({}, {}, low=0.2, high=0.4))
    assert worse.title == "The policy got worse by its own judge"


@pytest.mark.parametrize(("rate", "pairs"), [(0.6, 96), (0.4, 96), (0.55, 384), (1.0, 4), (0.502, None)])
def test_how_many_pairs_a_win_rate_needs(rate: float, pairs: int | None) -> None:
    """At that number, the half width of the widest normal interval is the distance from one half."""
    assert pairs_needed(rate) == pairs
    if pairs:
        assert 1.96 * (0.25 / pairs) ** 0.5 == pytest.approx(abs(rate - 0.5), rel=0.05)


@pytest.mark.parametrize(
    ("tokens", "controlled", "level"),
    [
        (11.9, None, "fine"),
        (12.0, None, "warning"),
        (12.0, 0.61, "note"),
        (12.0, 0.59, "warning"),
        (12.0, 0.50, "warning"),
        (11.9, 0.50, "fine"),
    ],
)
def test_a_win_rate_that_came_with_length_is_a_warning(
    tokens: float, controlled: float | None, level: str
) -> None:
    after = {"completion_length": tokens}
    if controlled is not None:
        after["length_controlled_win_rate"] = controlled
    assert level_and_text(length, compared({"completion_length": 10.0}, after))[0] == level


def test_the_length_finding_has_its_numbers() -> None:
    found = compared(
        {"completion_length": 10.0}, {"completion_length": 15.0, "length_controlled_win_rate": 0.5}
    )
    assert level_and_text(length, found)[1] == (
        "Held-out answers went from 10.0 to 15.0 tokens; the win rate is 70%, length-controlled 50%: at "
        "equal length less of it is left, or nothing."
    )
    assert length(run()).level == "unknown"
    lost = compared({"completion_length": 10.0}, {"completion_length": 15.0}, low=0.1, high=0.3)
    assert length(lost).level == "fine"


def judgement(
    step: int, lengths: tuple[int, int], verdict: Verdict, *, equal: bool = False, source: Source = "policy"
) -> Judgement:
    """A judged pair of answers with so many tokens."""
    texts = ("same", "same") if equal else ("first", "second")
    first, second = (Completion((1,) * count, text) for count, text in zip(lengths, texts, strict=True))
    pair = Pair(Prompt((), "Hi"), first, evolve(second, source=source))
    return Judgement(step, pair, verdict, JudgeIdentity("prefloop:rule", "1", "x"))


def orders(*pairs: tuple[float, float]) -> RunFiles:
    verdicts = (Verdict((a + b) / 2, orders=(a, b)) for a, b in pairs)
    return run(judged=tuple(judgement(1, (5, 6), verdict) for verdict in verdicts))


def test_a_judge_with_position_bias_is_a_warning() -> None:
    assert level_and_text(judge_consistency, orders(*[(0.9, 0.71), (0.1, 0.29)] * 20))[0] == "fine"
    assert (
        level_and_text(judge_consistency, orders(*[(0.9, 0.7), (0.1, 0.3)] * 20))[0] == "warning"
    )  # a gap of 0.2
    leaning = [(0.55, 0.45)] * 12 + [(0.6, 0.6), (0.4, 0.4)] * 14  # first got 26 + 26 of 80
    found = position_bias(orders(*leaning).judged)
    assert found is not None and found.first_place is not None
    assert (found.pairs, found.first_place.rate, found.first_place.pairs) == (40, 52 / 80, 80)
    assert found.consistency.rate == 28 / 40
    assert found.gap == pytest.approx(0.1 * 12 / 40)
    assert level_and_text(judge_consistency, orders(*leaning)) == (
        "warning",
        (
            "Asked in both orders about 40 pairs, it said the same about 70% of them; the probabilities lie "
            "0.03 apart on average; the answer shown first got 65% (54% to 75%), where one half is fair."
        ),
    )


def test_position_bias_of_a_judge_asked_once_shows_in_its_share_of_first_places() -> None:
    def once(first: int, second: int, **more: Any) -> RunFiles:
        for_first, for_second = (judgement(1, (5, 6), Verdict(p), **more) for p in (0.9, 0.1))
        return run(judged=(for_first,) * first + (for_second,) * second)

    assert level_and_text(judge_consistency, once(70, 30))[0] == "warning"
    assert level_and_text(judge_consistency, once(60, 40))[0] == "fine"  # ten in a hundred more than fair
    assert level_and_text(judge_consistency, once(3, 1))[0] == "fine"  # may well be chance
    assert level_and_text(judge_consistency, once(70, 30, equal=True))[0] == "unknown"
    assert level_and_text(judge_consistency, once(70, 30, source="reference"))[0] == "unknown"


def steps(**metrics: float) -> RunFiles:
    return run(
        steps=({"step": 1.0, "pairs": 4.0, "ties": 0.0, "errors": 0.0, "abstentions": 0.0, **metrics},)
    )


def test_many_pairs_without_a_label_are_a_warning() -> None:
    assert level_and_text(judge_decided, steps(ties=0.39))[0] == "fine"
    assert judge_decided(steps(ties=0.4)).title == "Many ties"
    assert level_and_text(judge_decided, steps(errors=0.049))[0] == "fine"
    assert judge_decided(steps(errors=0.02, abstentions=0.03)).title == "The judge often gave no verdict"
    assert judge_decided(steps(skipped=1.0)).title == "Many steps without an update"
    assert judge_decided(steps(labelled=0.0)).title == "Many steps without an update"
    assert level_and_text(judge_decided, run())[0] == "unknown"


@pytest.mark.parametrize(
    ("metric", "before", "enough", "too_far"),
    [
        ("distinct_1", 0.5, 0.25, 0.249),
        ("distinct_2", 0.5, 0.25, 0.249),
        ("completion_length", 20.0, 10.0, 9.9),
        ("stop_rate", 1.0, 0.91, 0.9),
    ],
)
def test_a_collapse_of_variety_is_a_warning(
    metric: str, before: float, enough: float, too_far: float
) -> None:
    assert level_and_text(collapse, compared({metric: before}, {metric: enough}))[0] == "fine"
    assert level_and_text(collapse, compared({metric: before}, {metric: too_far}))[0] == "warning"
    assert level_and_text(collapse, run())[0] == "unknown"


def answered(same: int, prompts: int, before: int = 1) -> RunFiles:
    """Of `prompts` held-out prompts `same` get one answer, and `before` got one from the other side."""
    pairs = tuple(
        Pair(
            Prompt((), f"prompt {i}"),
            Completion((), "Yes." if i < same else f"ours {i}"),
            Completion((), "No." if i < before else f"theirs {i}"),
        )
        for i in range(prompts)
    )
    return run(evaluations=(Evaluation(10, Rate(0.7, 0.6, 0.8, prompts), {}, pairs),))


def test_one_answer_to_many_prompts_is_a_warning() -> None:
    assert level_and_text(collapse, answered(2, 10))[0] == "fine"
    assert level_and_text(collapse, answered(3, 10)) == (
        "warning",
        "The most frequent answer was given to 30% of the held-out prompts, 10% by the other side: “Yes.”.",
    )
    assert level_and_text(collapse, answered(3, 10, before=2))[0] == "fine"  # the start did so too
    assert level_and_text(collapse, answered(7, 7))[0] == "unknown"  # too few prompts to say


def test_fewer_right_answers_are_a_warning() -> None:
    assert level_and_text(right_answers, compared({"accuracy": 0.9}, {"accuracy": 0.851}))[0] == "fine"
    assert level_and_text(right_answers, compared({"accuracy": 0.9}, {"accuracy": 0.85}))[0] == "warning"
    assert right_answers(run()) is None


def test_the_same_judge_in_training_and_evaluation_is_a_note() -> None:
    assert level_and_text(who_judged, compared({}, {}))[0] == "note"
    assert who_judged(compared({}, {}, settings={"evaluation.judge.use": "prefloop:rule"})) is None
    assert who_judged(run()) is None


def test_choosing_the_best_of_several_evaluations_is_a_note() -> None:
    rates = tuple(Evaluation(step, Rate(0.6, 0.5, 0.7, 50), {}) for step in (0, 5, 10))
    manifest = {"status": "finished", "summary": {"steps": 10, "adapters_step": 5}}
    chosen = run(manifest=manifest, evaluations=rates)
    assert chosen.after is not None and chosen.after.step == 5
    assert "the highest of 2 on the same prompts" in level_and_text(selection, chosen)[1]
    assert selection(run(evaluations=rates)) is None


def test_warnings_come_first_and_damage_is_a_warning() -> None:
    found = findings(run(problems=("3 damaged lines of metrics.jsonl are left out.",)))
    levels = [finding.level for finding in found]
    assert levels == sorted(levels, key=["warning", "note", "unknown", "fine"].index)
    assert found[0].text == "3 damaged lines of metrics.jsonl are left out."


JUDGED = (
    judgement(1, (9, 5), Verdict(0.9)),  # longer wins
    judgement(2, (9, 5), Verdict(0.1)),  # shorter wins
    judgement(3, (5, 9), Verdict(0.2)),  # longer wins
    judgement(3, (5, 5), Verdict(0.8)),  # one length
    judgement(4, (9, 5), Verdict(0.5)),  # no label
    judgement(4, (9, 5), Verdict(0.9, "error")),
)


def test_how_often_the_longer_answer_wins() -> None:
    rate = longer_wins(JUDGED)
    assert rate is not None and (rate.rate, rate.pairs) == (2 / 3, 3)
    assert length_differences(JUDGED) == [4, -4, 4, 0]
    assert longer_wins(JUDGED[3:]) is None


def test_a_run_is_divided_into_stretches() -> None:
    assert [(step, len(part)) for step, part in stretches(JUDGED, 4, parts=2)] == [(1.5, 2), (3.5, 4)]
    assert [step for step, _ in stretches(JUDGED, 4, parts=4)] == [1.0, 2.0, 3.0, 4.0]
    assert stretches((), 0) == []


def test_means_are_taken_over_steps() -> None:
    rows = [
        {"step": float(i), "pairs": float(i), "ties": i / 10, "seconds_judging": 2.0} for i in range(1, 5)
    ]
    assert overall(rows, "ties") == pytest.approx((1 * 0.1 + 2 * 0.2 + 3 * 0.3 + 4 * 0.4) / 10)
    assert overall(rows, "errors") is None
    assert phases(rows) == {"judging": 8.0}
