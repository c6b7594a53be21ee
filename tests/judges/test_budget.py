"""A budget for a person: whom it is spent on, what is audited, and that a kill changes neither."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import define, evolve, field

from prefloop import Completion, Pair, Prompt, StopRun, UserError, Verdict
from prefloop.config import load_config
from prefloop.runs.ledger import CachedJudge, Ledger
from prefloop.runs.records import JudgeIdentity
from prefloop.types import PERSON
from prefloop_plugins.judges.budget import Asked, coin
from prefloop_plugins.judges.cascade import NOT_ASKED, CascadeJudge
from prefloop_plugins.judges.committee import CommitteeJudge

IDENTITY = JudgeIdentity("mine", "1", "0" * 16)


def pair(prompt: str, first: str = "x", second: str = "y") -> Pair:
    return Pair(Prompt((), prompt), Completion((), first), Completion((), second))


@define
class Cheap:
    """Has a probability for each prompt."""

    given: Mapping[str, Verdict | float]

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        found = (self.given[p.prompt.text] for p in pairs)
        return [v if isinstance(v, Verdict) else Verdict(v) for v in found]


@define
class Person:
    """Prefers the first answer, and leaves after so many."""

    patience: int = 10**6
    asked: list[str] = field(factory=list)
    interactive = True

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [verdict for _, verdict in self.answers(pairs)]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        for place, one in enumerate(pairs):
            if len(self.asked) == self.patience:
                raise StopRun("enough")
            self.asked.append(one.prompt.text)
            yield place, Verdict(1.0)


def cascade(given: Mapping[str, Verdict | float], **options: Any) -> tuple[CascadeJudge, Person]:
    person = Person()
    return CascadeJudge([Cheap(given), person], **options), person


def step(judge: CascadeJudge, pairs: Sequence[Pair]) -> list[Verdict]:
    """As a loop has it: the verdicts, from which the judge then learns."""
    verdicts = judge.judge(pairs)
    judge.learn(pairs, verdicts)
    return verdicts


def test_the_budget_goes_to_the_nearest_ties_and_the_others_keep_their_verdicts() -> None:
    given = {"sure": 0.95, "near": 0.52, "far": 0.41, "tie": Verdict.tie(), "broken": Verdict.error("?")}
    judge, person = cascade(given, budget_per_step=3)
    verdicts = dict(zip(given, step(judge, [pair(p) for p in given]), strict=True))
    assert person.asked == ["near", "tie", "broken"]
    assert verdicts["sure"] == Verdict(0.95, by="members.0")
    assert verdicts["far"] == Verdict(0.41, by="members.0")
    assert verdicts["near"] == Verdict(1.0, by=PERSON, earlier=Verdict(0.52, by="members.0"))
    assert verdicts["broken"].earlier == Verdict(0.5, "error", "?", by="members.0")


def test_a_prompt_that_was_asked_about_comes_after_one_that_was_not() -> None:
    judge, person = cascade({"a": 0.5, "b": 0.51, "c": 0.58}, budget_per_step=2)
    step(judge, [pair(p) for p in "abc"])
    step(judge, [pair(p, "other") for p in "abc"])
    assert person.asked == ["a", "b", "a", "c"]  # c before b, and then the nearest tie of those asked once
    alike, person = cascade({"a": 0.5, "b": 0.58}, budget_per_step=2)
    alike.judge([pair("a", "1"), pair("a", "2"), pair("b")])
    assert person.asked == ["a", "b"]


def test_a_spent_budget_is_said_once_and_the_cheap_judge_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    judge, person = cascade({"a": 0.5, "b": 0.51, "c": 0.58}, budget=4)
    labels = [[v.by for v in step(judge, [pair(p, str(i)) for p in "abc"])] for i in range(3)]
    assert labels == [[PERSON] * 3, [PERSON, *["members.0"] * 2], ["members.0"] * 3]
    assert len(person.asked) == 4
    said = "labels   the budget of 4 is spent; the run goes on with the other members\n"
    assert capsys.readouterr().out == said


def test_a_person_alone_gives_what_the_budget_allows_and_then_ends_the_run() -> None:
    person = Person()
    judge = CascadeJudge([person], budget=3, budget_per_step=2)
    pairs = [[pair(f"{i}{p}") for p in "abc"] for i in range(4)]
    first = step(judge, pairs[0])
    assert sorted(v.by or "" for v in first) == ["", PERSON, PERSON]
    assert NOT_ASKED in first
    ahead = [judge.judge(pairs[1]), judge.judge(pairs[2])]  # of a rollout: nothing is learnt in between
    assert [sum(v.by == PERSON for v in verdicts) for verdicts in ahead] == [1, 0]
    for of, verdicts in zip(pairs[1:], ahead, strict=False):
        judge.learn(of, verdicts)
    with pytest.raises(StopRun, match="the budget of 3 labels is spent") as stop:
        judge.judge(pairs[3])
    assert not stop.value.failed
    assert not stop.value.resumable


def test_nobody_is_asked_about_equal_answers_and_they_cost_nothing() -> None:
    person = Person()
    judge = CascadeJudge([person], budget=1)
    same, other = judge.judge([pair("a", "x", "x"), pair("b")])
    assert (same.status, other.by, person.asked) == ("tie", PERSON, ["b"])


def test_an_answer_that_was_taken_back_costs_nothing() -> None:
    asked = Asked()
    asked.note(pair("a"), Verdict(1.0, by=PERSON))
    asked.note(pair("a"), Verdict(0.5, "error", "taken back", by=PERSON))
    asked.note(pair("b"), Verdict(0.5, "abstained", by=PERSON))
    assert asked.labels == 1


def test_an_audit_draws_sure_and_passed_over_pairs_by_a_coin_and_says_its_chance() -> None:
    pairs = [pair(str(i)) for i in range(400)]
    given = {str(i): 0.55 if i % 4 == 0 else 0.9 for i in range(400)}
    judge, person = cascade(given, budget_per_step=10, audit=0.1, seed=3)
    verdicts = step(judge, pairs)
    audited = [int(p.prompt.text) for p, v in zip(pairs, verdicts, strict=True) if v.audit == 0.1]
    doubted = [i for i, v in enumerate(verdicts) if v.by == PERSON and v.audit is None]
    assert len(doubted) == 10
    assert audited == [i for i in range(400) if coin(pairs[i], 3) < 0.1 and i not in doubted]
    assert {i % 4 == 0 for i in audited} == {True, False}
    assert len(person.asked) == 10 + len(audited)
    assert {verdicts[i].earlier for i in audited} == {Verdict(p, by="members.0") for p in (0.55, 0.9)}


def test_the_coin_of_an_audit_is_fair_and_goes_by_its_seed() -> None:
    pairs = [pair(str(i)) for i in range(4000)]
    shares = [np.mean([coin(p, seed) < 0.1 for p in pairs]) for seed in range(5)]
    assert all(abs(share - 0.1) < 4 * np.sqrt(0.09 / 4000) for share in shares)
    assert len(set(shares)) > 1


def test_the_chosen_are_the_same_after_a_kill_at_every_answer(tmp_path: Path) -> None:
    """What a run that is killed after any of its person's answers has asked, against one that is not."""
    given = {str(i): 0.5 + (i % 7) / 60 if i % 3 else 0.95 for i in range(40)}
    options: dict[str, Any] = {"budget": 17, "budget_per_step": 4, "audit": 0.2, "seed": 1}
    steps = [[pair(str(i)) for i in range(start, start + 8)] for start in range(0, 40, 8)]

    def run(folder: Path, patience: int) -> tuple[list[list[Verdict]], dict[str, Any], int]:
        folder.mkdir(exist_ok=True)
        judge, saved, taken, asked = None, {}, 0, 0
        done: list[list[Verdict]] = []
        while taken < len(steps):
            person = Person(patience)
            judge = CascadeJudge([Cheap(given), person], **options)
            judge.restore(saved)
            ledger = CachedJudge(judge, IDENTITY, Ledger(folder / "ledger.jsonl"), lambda: 1)
            try:
                while taken < len(steps):
                    verdicts = ledger.judge(steps[taken])
                    ledger.learn(steps[taken], verdicts)
                    done.append(verdicts)
                    taken += 1
                    if taken % 2 == 0:  # a checkpoint
                        saved = dict(judge.state())
            except StopRun:
                taken -= taken % 2
                done = done[:taken]
            asked += len(person.asked)
        assert judge is not None
        return done, {name: value.tolist() for name, value in judge.state().items()}, asked

    whole = run(tmp_path / "whole", 10**6)
    assert whole[2] == options["budget"]
    for patience in range(1, 9):
        assert run(tmp_path / str(patience), patience) == whole


def test_what_was_spent_survives_a_checkpoint_and_what_is_not_learnt_does_not(tmp_path: Path) -> None:
    judge, _ = cascade({str(i): 0.5 for i in range(9)}, budget=7)
    step(judge, [pair(str(i)) for i in range(4)])
    before = judge.state()
    judge.judge([pair(str(i)) for i in range(4, 6)])  # a step that is not taken
    assert {k: v.tolist() for k, v in judge.state().items()} == {k: v.tolist() for k, v in before.items()}
    mx.save_safetensors(str(tmp_path / "state.safetensors"), dict(before))
    again, person = cascade({str(i): 0.5 for i in range(9)}, budget=7)
    again.restore(mx.load(str(tmp_path / "state.safetensors")))  # type: ignore[arg-type]
    again.judge([pair(str(i)) for i in range(4, 9)])
    assert len(person.asked) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": [Person()]}, "'members' must be a list of at least two judges"),
        ({"members": [Cheap({}), Cheap({})], "budget": 3}, "'budget' must come with a person as the last"),
        ({"members": [Person(), Cheap({})], "audit": 0.1}, "'audit' must come with a person as the last"),
        ({"members": [Person()], "audit": 0.1}, "'audit' takes a judge before the person"),
        ({"members": [Cheap({}), Person()], "budget": 0}, "'budget' must be >= 1"),
        ({"members": [Cheap({}), Person()], "audit": 1.5}, "'audit' must be <= 1"),
    ],
)
def test_a_budget_without_a_person_and_other_mistakes_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CascadeJudge(**options)


@pytest.mark.parametrize("cls", [CommitteeJudge, CascadeJudge])
def test_a_cascade_with_a_budget_is_no_member(cls: Any) -> None:
    inner, _ = cascade({}, budget=3)
    with pytest.raises(ValueError, match="only the judge of a run can have one"):
        cls([Cheap({}), inner])


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (
            "{use: cascade, budget: 3, members: [embedded:judge, embedded:judge]}",
            "judge.budget: must come with a person as the last",
        ),
        ("{use: cascade, budgit: 3, members: [rule, human]}", "Did you mean 'budget'"),
        ("{use: cascade, members: [human]}", "judge.members: must be a list of at least two judges"),
    ],
)
def test_mistakes_in_a_file_are_named_with_their_key(judge: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"model: m\nprompts: p\njudge: {judge}\n", "utf-8")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert message in str(caught.value)


def test_a_person_alone_with_a_budget_is_written_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: m\nprompts: p\njudge: {use: cascade, budget: 3, members: [human]}\n", "utf-8")
    judge = load_config(path).judge
    assert isinstance(judge, CascadeJudge)
    assert (judge.budget, judge.interactive, evolve(judge)) == (3, True, judge)
