"""The `cascade` judge: a cheap judge first, and dearer ones only for what it leaves in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Attribute, evolve, field, frozen
from attrs.validators import and_, ge, instance_of, le, lt, optional

from prefloop import Judge, Pair, StopRun, Verdict
from prefloop_plugins.judges.budget import Asked, coin, left_of
from prefloop_plugins.judges.human import SAME
from prefloop_plugins.judges.members import (
    Answer,
    MadeOfJudges,
    answers_of,
    as_members,
    at_least_two,
    given_by,
    is_interactive,
    name_of,
    stopped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import mlx.core as mx

NOT_ASKED = Verdict.abstain("nobody was asked: the labels of the budget go to other pairs")
_labels = optional(and_(instance_of(int), ge(1)))


def _rations(cascade: Any) -> bool:
    return cascade.budget is not None or cascade.budget_per_step is not None or bool(cascade.audit)


def _enough(cascade: Any, attribute: Attribute[Any], value: tuple[Judge, ...]) -> None:
    """One member is enough where it is a person with a budget."""
    alone = isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], Judge)
    if not (alone and _rations(cascade)):
        at_least_two(cascade, attribute, value)


def _for_a_person(cascade: Any, attribute: Attribute[Any], value: float | None) -> None:
    if not isinstance(cascade.members, tuple | list) or not cascade.members:
        return  # that is said of the members
    *others, last = map(is_interactive, cascade.members)
    if value and (any(others) or not last):
        raise ValueError(f"'{attribute.name}' must come with a person as the last member and nowhere else")
    if value and attribute.name == "audit" and not others:
        raise ValueError("'audit' takes a judge before the person, to be audited")


@frozen
class CascadeJudge(MadeOfJudges):
    """Asks the members in order, each only about the pairs that the one before leaves in doubt.

    In doubt are ties, errors, abstentions, and probabilities at most `margin` from one half. The verdict
    of the last member asked about a pair stands as it is, whatever an earlier one said: a person's tie or
    skip overrules a hesitant label.

    With `budget` or `budget_per_step` a person is asked about some of the doubtful pairs only; the others
    keep the verdict that they have. With `audit` the person is asked about some of those, and of the pairs
    that nobody doubts, as well: see `prefloop_plugins.judges.budget`. Nobody is asked about equal answers.

    Where a member raises `StopRun` (a person quits), so does the cascade. What that member has answered
    stands; pairs that it left unanswered have no verdict, and `StopRun.verdicts` ends before the first.
    A person who is the only member and whose budget is spent is a `StopRun` too.
    """

    members: tuple[Judge, ...] = field(
        converter=as_members,
        validator=_enough,
        metadata={
            "help": "The judges in the order they are asked, each written as under judge; two or more, or a "
            "person alone with a budget."
        },
    )
    margin: float = field(
        default=0.1,
        validator=[ge(0), lt(0.5)],
        metadata={"help": "A probability at most this far from one half goes to the next member."},
    )
    budget: int | None = field(
        default=None,
        validator=[_labels, _for_a_person],
        metadata={"help": "Pairs that a person is asked about in all; null is as many as are in doubt."},
    )
    budget_per_step: int | None = field(
        default=None,
        validator=[_labels, _for_a_person],
        metadata={"help": "Pairs in doubt that a person is asked about in a step, at most."},
    )
    audit: float = field(
        default=0.0,
        validator=[ge(0), le(1), _for_a_person],
        metadata={
            "help": "Share of the other labelled pairs that a person is asked about all the same; they count "
            "for the budget, and come on top of budget_per_step."
        },
    )
    seed: int = field(
        default=0, validator=instance_of(int), metadata={"help": "Draws which pairs are audited."}
    )
    _asked: Asked = field(factory=Asked, init=False, eq=False, repr=False)

    @property
    def rations(self) -> bool:
        """Whether a person is asked about other pairs than those in doubt."""
        return _rations(self)

    def state(self) -> Mapping[str, mx.array]:
        """What the members remember, and which prompts a person was asked about."""
        return {**super().state(), **self._asked.state()}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        super().restore(state)
        self._asked.restore(state)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Tell the members what a person said, and say so once where the budget is spent."""
        super().learn(pairs, verdicts)
        if not self.rations:
            return
        before = len(self._asked.learnt)
        self._asked.learn(pairs, verdicts)
        if self.budget is not None and before < self.budget <= len(self._asked.learnt):
            rest = "the run goes on with the other members" if len(self.members) > 1 else "the run ends"
            print(f"labels   the budget of {self.budget} is spent; {rest}", flush=True)

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Hear what a person has answered of a step already."""
        if self.rations:
            self._asked.recall(pairs, verdicts)

    def answers(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        """Each verdict with its place as soon as no further member is asked about it."""
        given: dict[int, Verdict] = {}
        sure: dict[int, Verdict] = {}  # and drawn to be audited
        before: dict[int, Verdict] = {}
        places = list(range(len(pairs)))
        for i in range(len(self.members)):
            name, audited = name_of(self.members, i), set[int]()
            last = i + 1 == len(self.members)
            if last and self.rations:
                doubtful = places
                places, audited = self._choose(pairs, doubtful, before, sure)
                before |= sure
                kept = {p: _kept(pairs[p], before.get(p)) for p in {*doubtful, *sure} - set(places)}
                given |= kept
                yield from kept.items()
            passed_on: dict[int, Verdict] = {}
            try:
                for at, found in answers_of(self.members, i, [pairs[place] for place in places]):
                    place = places[at]
                    chance = self.audit if place in audited else None
                    said = evolve(found, earlier=found.earlier or before.get(place), audit=chance)
                    verdict = given_by(name, said)
                    if last and self.rations:
                        self._asked.note(pairs[place], verdict)
                    for elsewhere in (passed_on, sure):
                        elsewhere.pop(place, None)  # a person may have thought again
                    if not last and self.doubts(verdict):
                        passed_on[place] = verdict
                    elif not last and self._draws(pairs[place]):
                        sure[place] = verdict
                    else:
                        given[place] = verdict
                        yield place, verdict
            except StopRun as stop:
                waiting = {} if last else passed_on | sure
                yield from waiting.items()
                raise stopped(stop, given | waiting) from stop
            places, before = sorted(passed_on), passed_on

    def doubts(self, verdict: Verdict) -> bool:
        """Whether a pair with this verdict goes to the next member."""
        return verdict.status != "ok" or abs(verdict.probability - 0.5) <= self.margin

    def _choose(
        self,
        pairs: Sequence[Pair],
        places: Sequence[int],
        before: Mapping[int, Verdict],
        sure: Mapping[int, Verdict],
    ) -> tuple[list[int], set[int]]:
        """Which of the doubtful pairs at `places` and of those drawn a person gets; the audited among them.

        A person who is alone and has no label left ends the run, once all that was answered is learnt from.
        """
        asked = self._asked
        left = left_of(self.budget, asked.labels)
        step, asked.this_step = left_of(self.budget_per_step, asked.this_step), 0
        if not left and len(self.members) == 1 and not asked.ahead:
            raise StopRun(f"the budget of {self.budget} labels is spent", resumable=False)
        doubtful = {place: before.get(place) for place in places if not _equal(pairs[place])}
        chosen = asked.first(pairs, doubtful, int(min(left, step, len(doubtful))))
        labelled = {p for p, v in doubtful.items() if v and v.status == "ok"} - set(chosen)
        again = [*sure, *(place for place in labelled if self._draws(pairs[place]))]
        again.sort(key=lambda place: coin(pairs[place], self.seed))
        audited = set(again[: int(min(left - len(chosen), len(again)))])
        return sorted({*chosen, *audited}), audited

    def _draws(self, pair: Pair) -> bool:
        return bool(self.audit) and coin(pair, self.seed) < self.audit and not _equal(pair)


def _equal(pair: Pair) -> bool:
    return pair.first.text == pair.second.text


def _kept(pair: Pair, before: Verdict | None) -> Verdict:
    """The verdict on a pair that a person is not asked about."""
    return before or (Verdict.tie(SAME) if _equal(pair) else NOT_ASKED)
