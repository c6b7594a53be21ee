"""What other judges and the style of answers say of a win rate: warnings where they should come."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from prefloop import Completion, Evaluation, Opinion, Pair, Prompt, Verdict
from prefloop.evaluation.stats import wilson, win_rate
from prefloop.runs.records import JudgeIdentity, Judgement
from prefloop.types import Source
from prefloop_plugins.alarms import Alarms
from prefloop_plugins.report.meters import (
    ALPHA,
    Likings,
    drifts,
    leaning,
    over_optimised,
    style,
    turned,
    z_of,
)
from prefloop_plugins.report.records import RunFiles
from prefloop_plugins.style import BY_NAME

PROMPTS = 64
Text = Callable[[random.Random], str]


def plain(rng: random.Random) -> str:
    """An answer whose length, marks, hedges and repetitions vary, and mean nothing."""
    said = " ".join(rng.choice(("one", "two", "three", "four")) for _ in range(rng.randrange(4, 14)))
    return rng.choice(("**", "", "", "")) + said + rng.choice(("** x", "", " perhaps", " maybe so"))


def verdicts(rng: random.Random, share: float) -> list[Verdict]:
    return [Verdict(0.9 if rng.random() < share else 0.1) for _ in range(PROMPTS)]


def evaluation(
    step: int, rng: random.Random, share: float, other: float, ours: Text = plain, theirs: Text = plain
) -> Evaluation:
    pairs = [
        Pair(Prompt((), f"q{i}", id=f"q:{i}"), Completion((), ours(rng)), Completion((), theirs(rng)))
        for i in range(PROMPTS)
    ]
    own, second = verdicts(rng, share), verdicts(rng, other)
    opinion = Opinion("second", win_rate(second), second)
    metrics = {"completion_length": 10.0}
    return Evaluation(step, win_rate(own), metrics, pairs, own, "own", "start", [opinion], "own")


def run_of(rates: Sequence[tuple[float, float]], seed: int, ours: Text = plain) -> list[Evaluation]:
    rng = random.Random(seed)
    return [evaluation(i, rng, *both, ours if i else plain) for i, both in enumerate(rates)]


Judge = Callable[[str, str, random.Random], float]


def coin(first: str, second: str, rng: random.Random) -> float:
    return rng.choice((0.1, 0.9))


def likes(name: str) -> Judge:
    """A judge for which whichever answer has more of a measure wins, and a coin decides between equals."""
    count = BY_NAME[name].count

    def judge(first: str, second: str, rng: random.Random) -> float:
        more = count(first) - count(second)
        return coin(first, second, rng) if more == 0 else 0.9 if more > 0 else 0.1

    return judge


def trained(judge: Judge, ours: Text, seed: int = 0, pairs: int = 120) -> list[Judgement]:
    """Training pairs, half of them as at the start, with what the judge said."""
    rng = random.Random(1000 + seed)
    found = []
    for i in range(pairs):
        texts = [rng.choice((ours, plain))(rng) for _ in range(2)]
        pair = Pair(Prompt((), f"t{i}"), *(Completion((), text) for text in texts))
        verdict = Verdict(judge(*texts, rng))
        found.append(Judgement(i, pair, verdict, JudgeIdentity("own", "1", "x")))
    return found


def alarms(made: Sequence[Evaluation], judged: Sequence[Judgement] = ()) -> list[str]:
    listening = Alarms()
    said = list(listening.judged([j.pair for j in judged], [j.verdict for j in judged]))
    return said + [text for one in made for text in listening.evaluated(one)]


RISING = [(0.5 + 0.05 * i, 0.5 + 0.03 * i) for i in range(9)]


def test_the_intervals_of_all_looks_hold_together() -> None:
    assert z_of(1, 1) == pytest.approx(2.1649, abs=1e-4)  # two-sided, of 6 / pi² of 5 %
    spent = sum(ALPHA * 6 / (math.pi * look) ** 2 for look in range(1, 100_000))
    assert spent == pytest.approx(ALPHA, rel=1e-4)
    assert z_of(2, 1) < z_of(3, 1) < z_of(3, 4)


def test_a_leaning_is_of_what_changed() -> None:
    assert leaning([1, 0, 0, -2, 3, 0.5], 1.96) == wilson(3, 4, 1.96)
    assert leaning([0, 0], 1.96).pairs == 0


def test_chance_leans_in_few_runs() -> None:
    """The sign tests alone, without the least effect that the checks ask for."""
    rng, found = random.Random(0), 0
    for _ in range(400):
        looks = ([[rng.choice((-1, 0, 1)) for _ in range(PROMPTS)] for _ in range(4)] for _ in range(8))
        found += any(leaning(m, z_of(k, 4)).low > 0.5 for k, look in enumerate(looks, 1) for m in look)
    assert found <= 0.05 * 400


def test_runs_in_which_nothing_is_wrong_warn_of_nothing() -> None:
    runs = ((run_of(RISING, seed), trained(coin, plain, seed)) for seed in range(60))
    warned = [text for run in runs for text in alarms(*run)]
    assert len(warned) <= 3, warned  # 5 of 100 runs at most


def test_a_second_judge_at_its_level_is_no_over_optimisation() -> None:
    turns = [seed for seed in range(60) if any(map(turned, prefixes(run_of([(0.5, 0.5)] * 9, seed))))]
    assert len(turns) <= 3


def prefixes(made: Sequence[Evaluation]) -> list[Sequence[Evaluation]]:
    return [made[:count] for count in range(2, len(made) + 1)]


def test_one_judge_up_and_the_other_down_is_said_at_once_and_in_the_report() -> None:
    rates = [(0.5, 0.5), (0.7, 0.75), (0.85, 0.5), (0.98, 0.1)]
    made = run_of(rates, 1)
    (text,) = [text for text in alarms(made) if "over-optimised" in text]
    assert "From step" in text
    assert "(own)" in text
    finding = over_optimised(RunFiles("", evaluations=tuple(made)))
    assert finding is not None
    assert finding.level == "warning"
    turn = turned(made)
    assert turn is not None
    assert (turn.teacher, turn.other, turn.step) == ("own", "second", 3)
    assert turn.rose.low > 0.5 < turn.fell.low


def test_both_down_or_both_up_is_none() -> None:
    for last in ((0.98, 0.95), (0.1, 0.05)):
        finding = over_optimised(RunFiles("", evaluations=tuple(run_of([(0.5, 0.5), last], 2))))
        assert finding is not None
        assert finding.level == "fine"


def test_the_pairing_is_by_prompt_and_not_by_place() -> None:
    made = run_of([(0.5, 0.5), (0.95, 0.2)], 3)
    mixed = list(range(PROMPTS))
    random.Random(0).shuffle(mixed)
    last = made[1]
    other = last.others[0]
    again = Evaluation(
        last.step,
        last.win_rate,
        last.metrics,
        [last.pairs[i] for i in mixed],
        [last.verdicts[i] for i in mixed],
        "own",
        "start",
        [Opinion("second", other.win_rate, [other.verdicts[i] for i in mixed])],
        "own",
    )
    assert turned([made[0], again]) == turned(made)


def test_without_a_second_judge_there_is_no_such_check() -> None:
    alone = Evaluation(1, wilson(50, 64), {}, judge="own")
    assert over_optimised(RunFiles("", evaluations=(alone,))) is None


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (lambda rng: plain(rng) + " and so it goes on and on with a lot more", "length"),
        (lambda rng: f"**{plain(rng)}**\n- item", "Markdown"),
        (lambda rng: f"I think {plain(rng)} but I am not sure", "hedging"),
        (lambda rng: "one two three one two three one two three", "repetition"),
    ],
)
def test_style_that_rises_with_the_win_rate_is_said(more: Text, name: str) -> None:
    made, judged = run_of(RISING, 4, more), trained(likes(name), more)
    assert name in [drift.measure.name for drift in drifts(made[-1], 8)]
    (text,) = [text for text in alarms(made, judged) if "came with style" in text]
    finding = style(RunFiles("", evaluations=tuple(made), judged=tuple(judged)))
    assert finding is not None
    assert finding.level == "warning"
    assert f"{name} rose from" in finding.text
    assert f"{name} rose from" in text
    assert "prefloop judge --probes" in text


def test_style_that_drifts_under_a_judge_that_does_not_mind_it_is_a_note() -> None:
    def more(rng: random.Random) -> str:
        return f"**{plain(rng)}**\n- item"

    for seed in range(20):
        made, judged = run_of(RISING, seed, more), trained(coin, more, seed)
        assert not [text for text in alarms(made, judged) if "came with style" in text]
        finding = style(RunFiles("", evaluations=tuple(made), judged=tuple(judged)))
        assert finding is not None
        assert finding.level == "note"


def test_likings_are_counted_over_pairs_of_the_policy_that_differ() -> None:
    def pair(first: str, second: str, source: Source = "policy") -> Pair:
        return Pair(Prompt((), "p"), Completion((), first, source=source), Completion((), second))

    pairs = [
        pair("a b", "a"),
        pair("a", "a b"),
        pair("a", "b"),
        pair("a b", "a", "reference"),
        pair("a b", "a"),
    ]
    likings = Likings()
    likings.add(pairs, [Verdict(0.9), Verdict(0.9), Verdict(0.9), Verdict(0.9), Verdict.tie()])
    assert likings.rate(BY_NAME["length"], 1.96) == wilson(1, 2, 1.96)
    assert likings.rate(BY_NAME["Markdown"], 1.96).pairs == 0


def test_style_without_a_win_rate_is_no_warning() -> None:
    made = run_of([(0.5, 0.5)] * 4, 5, lambda rng: f"**{plain(rng)}** and so it goes on and on for long")
    assert drifts(made[-1], 3)
    finding = style(RunFiles("", evaluations=tuple(made)))
    assert finding is not None
    assert finding.level == "fine"


def test_a_rise_that_is_certain_and_tiny_is_not_worth_a_word() -> None:
    """Every answer two words longer than the start's of forty: certain, and a twentieth."""
    start = " ".join(["word"] * 40)
    longer = evaluation(1, random.Random(0), 0.9, 0.9, lambda rng: start + " and more", lambda rng: start)
    assert [d.measure.name for d in drifts(longer, 1)] == []
