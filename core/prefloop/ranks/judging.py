"""Judges of a run that ranks share: each rank asks about its share, or rank 0 about all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, field

from prefloop.components import BaseJudge, Judge, PendingVerdicts, adapt, check_verdicts
from prefloop.errors import StopRun
from prefloop.ranks.group import Ranks
from prefloop.ranks.wire import verdict_from_wire, verdict_to_wire
from prefloop.settings import JudgedOn
from prefloop.types import Pair, Verdict

if TYPE_CHECKING:
    import mlx.core as mx


Kept = Callable[[BaseJudge, bool], BaseJudge]
Hurry = Callable[[int], AbstractContextManager[None]]


def sits_on_first(judge: Judge, on: JudgedOn = "auto") -> bool:
    """Whether only rank 0 asks: a person or a server, what remembers something, and what has such members."""
    if on != "auto":
        return on == "first"
    able = adapt(judge, BaseJudge)
    if able.members:
        return any(sits_on_first(member) for member in able.members) or _remembers(able)
    return able.interactive or able.submit is not None or able.answers is not None or _remembers(able)


def _remembers(judge: BaseJudge) -> bool:
    names = ("attach", "learn", "recall", "state")
    return any(getattr(type(judge), name) is not getattr(BaseJudge, name) for name in names)


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
    if sits_on_first(judge, on):
        return FirstJudge(kept(adapt(judge, BaseJudge), True), ranks)
    return kept(SharedJudge(judge, ranks, hurry), False)


def _as_base(judge: Judge) -> BaseJudge:
    return adapt(judge, BaseJudge)


@define(eq=False, slots=False)
class SharedJudge(BaseJudge):
    """A judge that each rank has, and asks about its share of the pairs."""

    inner: BaseJudge = field(converter=_as_base)
    ranks: Ranks
    hurry: Hurry

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The verdicts of all ranks. Raises what a rank's own judge raises."""
        name, share = type(self.inner).__name__, self.ranks.share(len(pairs))
        own = [pairs[i] for i in share]
        given: Sequence[Verdict] = ()
        try:
            with self.hurry(len(own)):
                given = self.inner.judge(own) if own else ()
        except StopRun as stop:
            if share.start:  # its verdicts are not on the first of `pairs`
                stop.verdicts = ()
            raise
        check_verdicts(name, given, len(own))
        said = self.ranks.exchange([verdict_to_wire(verdict) for verdict in given])
        return [verdict_from_wire(one) for part in said for one in part]

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.inner.learn(pairs, verdicts)

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.inner.recall(pairs, verdicts)

    def state(self) -> Mapping[str, mx.array]:
        return self.inner.state()

    def restore(self, state: Mapping[str, mx.array]) -> None:
        self.inner.restore(state)

    @property
    def pairs_per_call(self) -> int | None:
        own = self.inner.pairs_per_call
        return own and own * self.ranks.size

    @property
    def symmetric(self) -> bool:
        return self.inner.symmetric

    @property
    def evaluates(self) -> bool:
        return self.inner.evaluates


@define(eq=False, slots=False)
class FirstJudge(BaseJudge):
    """A judge that rank 0 asks for all. The others do not touch it, and wait for the verdicts."""

    inner: BaseJudge = field(converter=_as_base)
    ranks: Ranks

    def __attrs_post_init__(self) -> None:
        self.submit = self._submit if self.inner.submit else None

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The verdicts of rank 0. Raises what its judge raises."""
        return self._given(partial(self.inner.judge, pairs))

    def _submit(self, pairs: Sequence[Pair]) -> PendingVerdicts:
        submit = self.inner.submit
        if not self.ranks.first or submit is None:
            return PendingVerdicts(partial(self._given, list))
        return PendingVerdicts(partial(self._given, submit(pairs).result))

    def _given(self, ask: Callable[[], Sequence[Verdict]]) -> list[Verdict]:
        said: list[Any] = self.ranks.from_first(lambda: [verdict_to_wire(verdict) for verdict in ask()])
        return [verdict_from_wire(one) for one in said]

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        if self.ranks.first:
            self.inner.learn(pairs, verdicts)

    def state(self) -> Mapping[str, mx.array]:
        return self.inner.state() if self.ranks.first else {}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        if self.ranks.first:
            self.inner.restore(state)

    @property
    def symmetric(self) -> bool:
        return self.inner.symmetric

    @property
    def interactive(self) -> bool:
        return self.inner.interactive

    @property
    def evaluates(self) -> bool:
        return self.inner.evaluates
