"""Judges of a run that ranks share: each rank asks about its share, rank 0 about all, or all about all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field

from prefloop.components import BaseJudge, Judge, PendingVerdicts, adapt, check_verdicts
from prefloop.errors import StopRun, UserError
from prefloop.ranks.group import Ranks
from prefloop.ranks.wire import stop_to_wire, verdict_from_wire, verdict_to_wire
from prefloop.settings import JudgedOn
from prefloop.types import Pair, Verdict

if TYPE_CHECKING:
    import mlx.core as mx


Kept = Callable[[BaseJudge, bool], BaseJudge]
Hurry = Callable[[int], AbstractContextManager[None]]


def sits_on_first(judge: Judge, on: JudgedOn = "auto") -> bool:
    """Whether only rank 0 asks: a person or a server, what remembers something, and what has such members.

    Raises `UserError` where every rank is to ask a person, who sits at one.
    """
    able = adapt(judge, BaseJudge)
    if on == "every" and able.interactive:
        raise UserError(
            "judging.ranks: every rank would ask a person, who sits at one of them: leave it at auto, or "
            "write first."
        )
    if on != "auto":
        return on == "first"
    if able.members:
        return any(sits_on_first(member) for member in able.members) or _remembers(able)
    return able.interactive or able.submit is not None or able.answers is not None or _remembers(able)


def _remembers(judge: BaseJudge) -> bool:
    names = ("attach", "learn", "recall", "state")
    return any(getattr(type(judge), name) is not getattr(BaseJudge, name) for name in names)


def _check_no_spread(judge: Judge, on: JudgedOn) -> None:
    """Raises `UserError` where rank 0 alone would ask a judge that all have to ask."""
    able = adapt(judge, BaseJudge)
    if able.spread:
        why = f"judging.ranks: {on}" if on != "auto" else "a judge that is made of others"
        raise UserError(
            f"{why} asks on one rank, and a judge that is spread over the ranks has to be asked by all: "
            "let it be the run's judge itself, with judging.ranks: auto, or leave out its 'sharded'."
        )
    for member in able.members:
        _check_no_spread(member, on)


def judge_together(
    ranks: Ranks,
    judge: Judge,
    on: JudgedOn = "auto",
    *,
    kept: Kept = lambda judge, hurried: judge,
    hurry: Hurry = lambda pairs: nullcontext(),
) -> BaseJudge:
    """A judge as all ranks ask it together.

    `kept` puts a ledger in front of it, and is told whether that is to hurry it. `hurry` is what a rank does
    so where it asks about so many pairs: the limit is then for its own part of the work, since a rank that
    waits must not be called away from the others.
    """
    if ranks.size == 1:
        return kept(adapt(judge, BaseJudge), True)
    if adapt(judge, BaseJudge).spread and on != "first":
        return kept(SpreadJudge(judge, ranks, hurry), False)
    if sits_on_first(judge, on):
        _check_no_spread(judge, on)
        return FirstJudge(kept(adapt(judge, BaseJudge), True), ranks)
    return kept(SharedJudge(judge, ranks, hurry), False)


def _said(judge: BaseJudge, pairs: int, ask: Callable[[], Sequence[Verdict]]) -> dict[str, Any]:
    """What `ask` gives, and a stop that it raises: all ranks hear of it here, where all wait for verdicts."""
    stop: dict[str, Any] | None = None
    given: Sequence[Verdict]
    try:
        given = ask()
        check_verdicts(type(judge).__name__, given, pairs)
    except StopRun as raised:
        given, stop = raised.verdicts, stop_to_wire(raised)
    return {"verdicts": [verdict_to_wire(verdict) for verdict in given], "stop": stop}


def _heard(said: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """The verdicts of all shares, in their order. Raises a stop, with the verdicts before it."""
    verdicts: list[Verdict] = []
    for part in said:
        verdicts += map(verdict_from_wire, part["verdicts"])
        if part["stop"]:
            raise StopRun(verdicts=verdicts, **part["stop"])
    return verdicts


def _as_base(judge: Judge) -> BaseJudge:
    return adapt(judge, BaseJudge)


@define(eq=False, slots=False)
class _RanksJudge(BaseJudge):
    """The judge `inner` as `ranks` ask it together; those that do not ask it do not touch it."""

    inner: BaseJudge = field(converter=_as_base)
    ranks: Ranks

    @property
    def asks(self) -> bool:
        """Whether this rank asks it."""
        return True

    def attach(self, folder: Path) -> None:
        if self.asks:
            self.inner.attach(folder)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        if self.asks:
            self.inner.learn(pairs, verdicts)

    def state(self) -> Mapping[str, mx.array]:
        return self.inner.state() if self.asks else {}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        if self.asks:
            self.inner.restore(state)

    @property
    def symmetric(self) -> bool:
        return self.inner.symmetric

    @property
    def evaluates(self) -> bool:
        return self.inner.evaluates


@define(eq=False, slots=False)
class SharedJudge(_RanksJudge):
    """A judge that each rank has, and asks about its share of the pairs."""

    hurry: Hurry

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The verdicts of all ranks. Raises what a rank's own judge raises."""
        own = [pairs[i] for i in self.ranks.share(len(pairs))]

        def ask() -> Sequence[Verdict]:
            with self.hurry(len(own)):
                return self.inner.judge(own) if own else ()

        return _heard(self.ranks.exchange(_said(self.inner, len(own), ask)))

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.inner.recall(pairs, verdicts)

    @property
    def pairs_per_call(self) -> int | None:
        own = self.inner.pairs_per_call
        return own and own * self.ranks.size


@define(eq=False, slots=False)
class SpreadJudge(SharedJudge):
    """A judge that lies on all ranks, which ask it the same at once. No limit calls one away from that."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The verdicts as rank 0 has them: those of another machine may differ in their last bits."""
        given = self.inner.judge(pairs)
        check_verdicts(type(self.inner).__name__, given, len(pairs))
        said: list[Any] = self.ranks.from_first(lambda: [verdict_to_wire(verdict) for verdict in given])
        return [verdict_from_wire(one) for one in said]

    @property
    def pairs_per_call(self) -> int | None:
        return self.inner.pairs_per_call


@define(eq=False, slots=False)
class FirstJudge(_RanksJudge):
    """A judge that rank 0 asks for all. The others do not touch it, and wait for the verdicts."""

    def __attrs_post_init__(self) -> None:
        self.submit = self._submit if self.inner.submit else None

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The verdicts of rank 0. Raises what its judge raises."""
        return self._given(len(pairs), partial(self.inner.judge, pairs))

    def _submit(self, pairs: Sequence[Pair]) -> PendingVerdicts:
        submit = self.inner.submit
        if not self.ranks.first or submit is None:
            return PendingVerdicts(partial(self._given, len(pairs), list))
        return PendingVerdicts(partial(self._given, len(pairs), submit(pairs).result))

    def _given(self, pairs: int, ask: Callable[[], Sequence[Verdict]]) -> list[Verdict]:
        return _heard([self.ranks.from_first(lambda: _said(self.inner, pairs, ask))])

    @property
    def asks(self) -> bool:
        return self.ranks.first

    @property
    def interactive(self) -> bool:
        return self.inner.interactive
