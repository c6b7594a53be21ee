"""What judges that are made of other judges have in common; members may come from anybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, takewhile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import Attribute, evolve

from prefloop import BaseJudge, Judge, Pair, StopRun, Verdict, adapt
from prefloop.components import check_verdicts
from prefloop.errors import said_of
from prefloop.types import PERSON

if TYPE_CHECKING:
    import mlx.core as mx

Members = Sequence[Judge]
Answer = tuple[int, Verdict]
"""A place among the pairs that were asked about, and the verdict on it."""


def as_members(value: tuple[Judge, ...] | list[Judge]) -> tuple[Judge, ...]:
    return tuple(value) if isinstance(value, list) else value


def at_least_two(_: Any, attribute: Attribute[Any], value: tuple[Judge, ...]) -> None:
    judges = isinstance(value, tuple) and all(isinstance(member, Judge) for member in value)
    if not judges or len(value) < 2:
        raise ValueError(f"'{attribute.name}' must be a list of at least two judges")
    none_rationed(value)


def none_rationed(members: Members) -> None:
    """Raises `ValueError` where a member has a budget: it would not hear what became of its verdicts."""
    if any(isinstance(member, MadeOfJudges) and member.rations for member in members):
        raise ValueError(
            "'members' has a cascade with a budget or an audit: only the judge of a run can have one"
        )


def is_interactive(judge: Judge) -> bool:
    """Whether a person is asked."""
    return adapt(judge, BaseJudge).interactive


def prepare(members: Members) -> None:
    """Prepare the members. A `UserError` says which member raised it."""
    for i, member in enumerate(members):
        with said_of(f"members.{i}"):
            adapt(member, BaseJudge).prepare()


def close(members: Members) -> None:
    """Close the members."""
    for member in members:
        adapt(member, BaseJudge).close()


def answers_of(members: Members, i: int, pairs: Sequence[Pair]) -> Iterator[Answer]:
    """Member `i`'s verdicts with their places, each as soon as the member gives it.

    A place may come again: the later verdict counts. Raises `UserError` where a member leaves one out, and
    `StopRun` after the verdicts that the member gave before it.
    """
    if not pairs:
        return
    given: dict[int, Verdict] = {}
    for place, verdict in _answers(members, i, pairs):
        given[place] = verdict
        yield place, verdict
    _check(members, i, list(given.values()), len(pairs))


def name_of(members: Members, i: int) -> str:
    """What `Verdict.by` says of member `i`: a person, or its place."""
    member = members[i]
    return PERSON if is_interactive(member) and not isinstance(member, MadeOfJudges) else f"members.{i}"


def given_by(name: str, verdict: Verdict) -> Verdict:
    """The verdict of the member of that name; where that asks others, with the place among them."""
    if PERSON in (name, verdict.by):
        return evolve(verdict, by=PERSON)
    return evolve(verdict, by=f"{name}.{verdict.by}" if verdict.by else name)


def stopped(stop: StopRun, given: Mapping[int, Verdict]) -> StopRun:
    """`stop` with the verdicts on the first pairs, up to the first that has none."""
    first = takewhile(given.__contains__, count())
    return StopRun(stop.reason, [given[place] for place in first], failed=stop.failed)


def in_order(answers: Iterable[Answer]) -> list[Verdict]:
    """Verdicts by their places; of several for one place, the last."""
    return [verdict for _, verdict in sorted(dict(answers).items(), key=itemgetter(0))]


def _answers(members: Members, i: int, pairs: Sequence[Pair]) -> Iterator[Answer]:
    member = adapt(members[i], BaseJudge)
    if member.answers is not None:
        yield from member.answers(pairs)
        return
    try:
        verdicts: Sequence[Verdict] = member.judge(pairs)
    except StopRun as stop:
        yield from enumerate(stop.verdicts)
        raise
    _check(members, i, verdicts, len(pairs))
    yield from enumerate(verdicts)


def _check(members: Members, i: int, given: Sequence[Verdict], wanted: int) -> None:
    with said_of(f"members.{i}"):
        check_verdicts(type(members[i]).__name__, given, wanted)


class MadeOfJudges(BaseJudge):
    """A judge that asks its `members`, and says in `answers` what becomes of what they say."""

    __slots__ = ()
    members: tuple[Judge, ...]

    @property
    def rations(self) -> bool:
        """Whether a person is asked about a choice of what is in doubt, or about more than that."""
        return False

    @property
    def interactive(self) -> bool:
        return any(map(is_interactive, self.members))

    @property
    def symmetric(self) -> bool:
        return all(adapt(member, BaseJudge).symmetric for member in self.members)

    def prepare(self) -> None:
        """Prepare the members. Raises `UserError` where one of them does."""
        prepare(self.members)

    def pass_bytes(self, pairs: int, shortest: int, longest: int, completion: int) -> int:
        """What the member takes that takes most: they are asked one after the other."""
        asked = (adapt(member, BaseJudge) for member in self.members)
        return max(member.pass_bytes(pairs, shortest, longest, completion) for member in asked)

    def attach(self, folder: Path) -> None:
        """Tell the members where the run keeps its files."""
        for member in self.members:
            adapt(member, BaseJudge).attach(folder)

    def close(self) -> None:
        close(self.members)

    def state(self) -> Mapping[str, mx.array]:
        """What the members remember, each under its place."""
        states = {f"members.{i}": adapt(member, BaseJudge).state() for i, member in enumerate(self.members)}
        return {f"{place}/{name}": value for place, own in states.items() for name, value in own.items()}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Give each member what it remembered."""
        for i, member in enumerate(self.members):
            place = f"members.{i}/"
            own = {n.removeprefix(place): value for n, value in state.items() if n.startswith(place)}
            if own:
                adapt(member, BaseJudge).restore(own)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Tell the members what a person said: of each other they learn nothing."""
        told = [
            (pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.by == PERSON
        ]
        for member in self.members:
            adapt(member, BaseJudge).learn([pair for pair, _ in told], [verdict for _, verdict in told])

    def depends_on(self) -> list[str]:
        """What the members depend on."""
        return [given for member in self.members for given in adapt(member, BaseJudge).depends_on()]

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair. Raises `StopRun` and `UserError` as the members do."""
        return in_order(self.answers(pairs))

    def answers(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        """Each verdict with its place as soon as it stands."""
        raise NotImplementedError
