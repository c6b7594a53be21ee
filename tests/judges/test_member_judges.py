"""The committee and the cascade: whose verdict counts, who is asked what, and what survives a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from attrs import define, evolve, field

from prefloop import Pair, StopRun, UserError, Verdict
from prefloop.config import dump_config, load_config
from prefloop.types import PERSON
from prefloop_plugins.judges.cascade import CascadeJudge
from prefloop_plugins.judges.committee import CommitteeJudge
from prefloop_plugins.judges.rule import RuleJudge
from support.judge_models import pair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TIE, SKIP, ERROR = Verdict.tie(), Verdict.abstain("skipped"), Verdict.error("broken")
PAIRS = [pair(f"p{i}", "x", "y") for i in range(6)]


@define
class Member:
    """As a third party might write one: a `judge` method and nothing else. Its verdicts go by prompt."""

    verdicts: dict[str, Verdict | float]
    asked: list[str] = field(factory=list)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.asked += [p.prompt.text for p in pairs]
        found = (self.verdicts[p.prompt.text] for p in pairs)
        return [v if isinstance(v, Verdict) else Verdict(v) for v in found]


@define
class Person(Member):
    """Answers one by one, takes the first answer back if `undoes`, and quits after `patience` of them."""

    patience: int = 99
    undoes: bool = False
    interactive: bool = True

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [verdict for _, verdict in sorted(dict(self.answers(pairs)).items(), key=lambda a: a[0])]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        given: list[Verdict] = []
        if self.undoes:
            yield 0, Verdict(0.0)
            yield 0, Verdict.error("taken back")
        for place, one in enumerate(pairs):
            if place == self.patience:
                raise StopRun("enough", given)
            given += Member.judge(self, [one])
            yield place, given[-1]


class Fixtured:
    """Has everything a member may have."""

    def __init__(self, fails: bool = False) -> None:
        self.calls: list[str] = []
        self.fails = fails

    def prepare(self) -> None:
        self.calls.append("prepare")
        if self.fails:
            raise UserError("there is no such folder.")

    def close(self) -> None:
        self.calls.append("close")

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(1.0) for _ in pairs]


def of(*verdicts: Verdict | float, cls: type[Any] = Member, **more: Any) -> Any:
    """A member with these verdicts on the first pairs."""
    return cls({p.prompt.text: v for p, v in zip(PAIRS, verdicts, strict=False)}, **more)


def said(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts without who gave them after whom."""
    return [evolve(verdict, by=None, earlier=None) for verdict in verdicts]


def vote(by: str, *verdicts: Verdict | float, quorum: int | None = None) -> Verdict:
    committee = CommitteeJudge([of(v) for v in verdicts], by=by, quorum=quorum)  # type: ignore[arg-type]
    (found,) = committee.judge(PAIRS[:1])
    return found


@pytest.mark.parametrize(
    ("by", "verdicts", "probability"),
    [
        ("majority", (0.9, 0.6, 0.2), 2 / 3),
        ("majority", (0.51, 0.51, 0.0), 2 / 3),  # however sure the third one is
        ("majority", (0.9, 0.2), None),
        ("majority", (0.9, TIE), 0.75),
        ("majority", (0.9, TIE, 0.1), None),
        ("majority", (TIE, TIE, TIE), None),
        ("majority", (0.1, 0.3, ERROR), 0.0),
        ("mean", (0.9, 0.6, 0.2), 1.7 / 3),
        ("mean", (0.51, 0.51, 0.0), 0.34),
        ("mean", (0.9, 0.1), None),
        ("mean", (0.9, TIE), 0.7),
        ("mean", (0.9, 0.7, SKIP), 0.8),
        ("unanimous", (0.9, 0.6, 0.8), 2.3 / 3),
        ("unanimous", (0.1, 0.3), 0.2),
        ("unanimous", (0.9, 0.6, 0.4), None),
        ("unanimous", (0.9, 0.6, TIE), None),
        ("unanimous", (0.9, 0.5), None),
        ("unanimous", (0.9, 0.7, ERROR), 0.8),
    ],
)
def test_committee_votes_are_combined(
    by: str, verdicts: tuple[Verdict | float, ...], probability: float | None
) -> None:
    found = vote(by, *verdicts)
    if probability is None:
        assert found == Verdict.tie()
    else:
        assert found == Verdict(found.probability)
        assert found.probability == pytest.approx(probability)


@pytest.mark.parametrize("by", ["majority", "mean", "unanimous"])
def test_a_committee_is_symmetric_under_swapped_answers(by: str) -> None:
    for probabilities in [(0.9, 0.6, 0.2), (0.8, 0.7, 0.9), (0.5, 0.1, 0.2)]:
        forward = vote(by, *probabilities)
        backward = vote(by, *(1 - p for p in probabilities))
        assert forward.probability == pytest.approx(1 - backward.probability)
        assert forward.status == backward.status


def test_a_committee_needs_its_quorum() -> None:
    assert vote("mean", 0.9, ERROR, SKIP) == Verdict.error("only 1 of 3 members voted: broken; skipped")
    assert vote("mean", 0.9, SKIP, SKIP) == Verdict.abstain("only 1 of 3 members voted: skipped")
    assert vote("mean", 0.9, ERROR) == Verdict.error("only 1 of 2 members voted: broken")
    assert vote("mean", 0.9, ERROR, SKIP, quorum=1) == Verdict(0.9)
    assert vote("mean", 0.9, 0.8, SKIP, quorum=3).status == "abstained"


def test_a_committee_passes_on_the_position_gap() -> None:
    biased = Verdict.tie(orders=(1.0, 0.0))
    assert vote("majority", biased, Verdict(0.7, orders=(0.8, 0.6))).orders == pytest.approx((0.9, 0.3))
    assert vote("mean", biased, biased).gap == 1.0
    assert vote("mean", biased, 0.7).orders is None  # one of them was asked once


def test_a_committee_asks_all_members_and_people_last() -> None:
    log: list[str] = []
    person = of(*[0.9] * 3, cls=Person, asked=log)
    machine = of(*[0.8] * 3, asked=log)
    assert [v.probability for v in CommitteeJudge([person, machine]).judge(PAIRS[:3])] == [1.0] * 3
    assert log == ["p0", "p1", "p2"] * 2
    with pytest.raises(StopRun):
        CommitteeJudge([of(cls=Person, patience=0), machine]).judge(PAIRS[:3])
    assert len(log) == 9


def test_a_person_in_a_committee_may_stop_and_undo() -> None:
    person = of(0.9, 0.9, 0.9, cls=Person, patience=2)
    committee = CommitteeJudge([person, of(0.1, 0.9, 0.9)])
    with pytest.raises(StopRun, match="enough") as caught:
        committee.judge(PAIRS[:3])
    assert caught.value.verdicts == (Verdict.tie(), Verdict(1.0))
    first = CommitteeJudge([of(0.9, 0.2, cls=Person, patience=1), of(cls=Person)], quorum=1)
    with pytest.raises(StopRun) as caught:
        first.judge(PAIRS[:2])
    assert caught.value.verdicts == (Verdict(1.0),)  # the second person was not asked, and did not vote
    changed = CommitteeJudge([of(0.9, cls=Person, undoes=True), of(0.8)])
    assert changed.judge(PAIRS[:1]) == [Verdict(1.0)]


# --- the cascade ------------------------------------------------------------------------------------


def test_a_cascade_passes_on_only_doubtful_pairs() -> None:
    cheap = of(0.95, 0.55, TIE, ERROR, 0.05, 0.4)
    dear = of(0.0, 0.8, 0.1, 0.45, 0.0, 0.6)
    dearest = of(*[0.0] * 5, 1.0)
    verdicts = CascadeJudge([cheap, dear, dearest]).judge(PAIRS)
    assert cheap.asked == ["p0", "p1", "p2", "p3", "p4", "p5"]
    assert dear.asked == ["p1", "p2", "p3", "p5"]
    assert dearest.asked == ["p3", "p5"]
    assert [v.probability for v in verdicts] == [0.95, 0.8, 0.1, 0.0, 0.05, 1.0]


def test_no_member_is_asked_about_no_pairs() -> None:
    dear = of()
    assert said(CascadeJudge([of(0.9, 0.1), dear]).judge(PAIRS[:2])) == [Verdict(0.9), Verdict(0.1)]
    assert dear.asked == []
    assert CascadeJudge([dear, dear]).judge([]) == []


@pytest.mark.parametrize("last", [TIE, SKIP, ERROR, Verdict(0.52)])
def test_a_cascade_takes_the_verdict_of_the_last_member_asked(last: Verdict) -> None:
    (found,) = CascadeJudge([of(0.55), of(last)]).judge(PAIRS[:1])
    assert found == evolve(last, by="members.1", earlier=Verdict(0.55, by="members.0"))


def test_the_margin_decides_which_pairs_are_passed_on() -> None:
    for margin, asked in [(0.0, ["p2"]), (0.1, ["p1", "p2"]), (0.49, ["p0", "p1", "p2"])]:
        dear = of(0.0, 0.0, 0.0)
        CascadeJudge([of(0.95, 0.4, 0.5), dear], margin=margin).judge(PAIRS[:3])
        assert dear.asked == asked


def test_a_person_in_a_cascade_may_stop() -> None:
    cheap = of(0.9, 0.5, 0.9, 0.5, 0.9, 0.5)
    person = of(*[1.0] * 6, cls=Person, patience=2)
    cascade = CascadeJudge([cheap, person])
    with pytest.raises(StopRun, match="enough") as caught:
        cascade.judge(PAIRS)
    # The person answered p1 and p3 and was shown p5, so p5 is the first pair without a verdict.
    assert [v.probability for v in caught.value.verdicts] == [0.9, 1.0, 0.9, 1.0, 0.9]
    told: dict[int, Verdict] = {}
    with pytest.raises(StopRun):
        for place, verdict in cascade.answers(PAIRS):
            told[place] = verdict
    assert sorted(told) == [0, 1, 2, 3, 4]


def test_verdicts_of_a_stopping_member_are_kept_even_in_doubt() -> None:
    person = of(TIE, 0.9, cls=Person, patience=1)
    with pytest.raises(StopRun) as caught:
        CascadeJudge([person, of(1.0)]).judge(PAIRS[:2])
    assert caught.value.verdicts == (evolve(TIE, by=PERSON),)


def test_a_stopping_judge_without_answers_keeps_its_verdicts() -> None:
    class Quits:
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            raise StopRun("enough", [Verdict(0.7)], failed=True)

    with pytest.raises(StopRun) as caught:
        CascadeJudge([of(TIE, TIE, 0.9), Quits()]).judge(PAIRS[:3])
    assert said(caught.value.verdicts) == [Verdict(0.7)]
    assert caught.value.failed


def test_an_undone_verdict_is_asked_again() -> None:
    person = of(TIE, 0.9, cls=Person, undoes=True)
    last = of(1.0, 0.0)
    assert said(CascadeJudge([person, last]).judge(PAIRS[:2])) == [Verdict(1.0), Verdict(0.9)]
    assert last.asked == ["p0"]


# --- what both have in common -----------------------------------------------------------------------


@pytest.mark.parametrize("cls", [CommitteeJudge, CascadeJudge])
def test_members_are_prepared_and_closed(cls: type[Any]) -> None:
    member = Fixtured()
    judge = cls([of(), member])
    judge.prepare()
    judge.close()
    assert member.calls == ["prepare", "close"]
    with pytest.raises(UserError, match=r"members\.1: there is no such folder"):
        cls([of(), Fixtured(fails=True)]).prepare()


@pytest.mark.parametrize("cls", [CommitteeJudge, CascadeJudge])
def test_a_person_among_the_members_makes_it_interactive(cls: type[Any]) -> None:
    assert not cls([of(), of()]).interactive
    assert cls([of(), of(cls=Person)]).interactive
    assert cls([of(), cls([of(), of(cls=Person)])]).interactive


@pytest.mark.parametrize("cls", [CommitteeJudge, CascadeJudge])
@pytest.mark.parametrize("surplus", [-1, 1])
def test_a_member_with_too_few_or_too_many_verdicts_is_named(cls: type[Any], surplus: int) -> None:
    class Miscounts:
        def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
            return [TIE] * (len(pairs) + surplus)

    with pytest.raises(UserError, match=rf"members\.1: judge 'Miscounts' gave {2 + surplus} verdicts for 2"):
        cls([of(TIE, TIE), Miscounts()]).judge(PAIRS[:2])


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (CommitteeJudge, {"members": [of()]}, "'members' must be a list of at least two judges"),
        (CascadeJudge, {"members": [of(), "llm"]}, "'members' must be a list of at least two judges"),
        (CommitteeJudge, {"members": [of(), of()], "by": "vote"}, "'by' must be in"),
        (
            CommitteeJudge,
            {"members": [of(), of()], "quorum": 3},
            "'quorum' must be a whole number from 1 to 2",
        ),
        (CascadeJudge, {"members": [of(), of()], "margin": 0.5}, "'margin' must be < 0.5"),
    ],
)
def test_bad_options_are_refused(cls: type[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**options)


@define
class Remembers(Member):
    """Counts the labels that it is told of."""

    count: int = 0

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.count += len(verdicts)

    def state(self) -> dict[str, mx.array]:
        return {"count": mx.array(self.count)}

    def restore(self, state: dict[str, mx.array]) -> None:
        self.count = int(state["count"].item())


@pytest.mark.parametrize("cls", [CommitteeJudge, CascadeJudge])
def test_members_learn_what_a_person_said_and_remember_it(cls: type[Any]) -> None:
    by_a_person, by_a_model = Verdict(1.0, by=PERSON), Verdict(1.0, by="members.0")
    judge = cls([of(), of(cls=Remembers), cls([of(cls=Remembers), of()])])
    judge.learn(PAIRS[:3], [by_a_person, by_a_model, by_a_person])
    judge.members[1].learn(PAIRS[:1], [by_a_person])
    state = judge.state()
    assert {name: value.item() for name, value in state.items()} == {
        "members.1/count": 3,
        "members.2/members.0/count": 2,
    }
    again = cls([of(), of(cls=Remembers), cls([of(cls=Remembers), of()])])
    again.restore(state)
    assert (again.members[1].count, again.members[2].members[0].count) == (3, 2)


def test_a_cascade_says_who_gave_a_verdict_and_what_was_said_before() -> None:
    inner = CascadeJudge([of(0.55, 0.95), of(0.4)])
    verdicts = CascadeJudge([inner, of(1.0, cls=Person)]).judge(PAIRS[:2])
    cheap = Verdict(0.55, by="members.0")
    dear = Verdict(0.4, by="members.0.members.1", earlier=cheap)
    assert verdicts == [Verdict(1.0, by=PERSON, earlier=dear), Verdict(0.95, by="members.0.members.0")]


START = "model: m\nprompts: p\n"
NESTED = """\
judge:
  use: cascade
  margin: 0.2
  members:
    - use: committee
      by: unanimous
      quorum: 2
      members:
        - {use: rule, prefer: [thanks]}
        - {use: rule, length: shorter}
    - {use: llm, model: embedded:judge, orders: random, tie_margin: 0.05}
    - human
"""


def test_nested_members_survive_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(START + NESTED, "utf-8")
    config = load_config(path)
    judge: Any = config.judge
    assert judge.margin == 0.2
    assert judge.interactive
    assert judge.members[0] == CommitteeJudge(
        (RuleJudge(prefer=("thanks",)), RuleJudge(length="shorter")), by="unanimous", quorum=2
    )
    assert judge.members[1].orders == "random"
    path.write_text(dump_config(config), "utf-8")
    assert load_config(path) == config
    assert "use: prefloop:human" in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("{use: committee}", "judge.members: is missing"),
        ("{use: committee, members: [human]}", "judge.members: must be a list of at least two judges"),
        (
            "{use: committee, quorum: 0, members: [human, human]}",
            "judge.quorum: must be a whole number from 1",
        ),
        ("{use: cascade, members: [humann, human]}", "Did you mean 'human'"),
        ("{use: cascade, members: [human, {use: llm, thinkin: true}]}", "Did you mean 'thinking'"),
    ],
)
def test_problems_inside_members_name_the_member(judge: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{START}judge: {judge}\n", "utf-8")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert message in str(caught.value)
