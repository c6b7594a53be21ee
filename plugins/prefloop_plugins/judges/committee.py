"""The `committee` judge: several judges vote on every pair."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from attrs import Attribute, field, frozen
from attrs.validators import in_

from prefloop import Judge, Pair, StopRun, Verdict
from prefloop_plugins.judges.members import (
    Answer,
    MadeOfJudges,
    answers_of,
    as_members,
    at_least_two,
    is_interactive,
    stopped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

By = Literal["majority", "mean", "unanimous"]


def _at_most_all(committee: Any, _: Attribute[Any], value: int | None) -> None:
    if not isinstance(committee.members, tuple | list):
        return  # that is said of the members
    count = len(committee.members)
    if value is not None and (type(value) is not int or not 1 <= value <= count):
        raise ValueError(f"'quorum' must be a whole number from 1 to {count}, the members, not {value!r}")


@frozen
class CommitteeJudge(MadeOfJudges):
    """Asks all members about every pair and decides by their votes.

    A member votes with a label or a tie; its error or abstention is no vote. Of the votes,

    - ``majority`` takes the share that prefers the first answer as the probability, a tie being half a
      vote for each side; an even share is a tie;
    - ``mean`` takes the mean probability, a tie being one half;
    - ``unanimous`` does so too where all votes are labels for one side; anything else is a tie.

    With fewer votes than `quorum` the verdict is an error where any member had one, else an abstention.

    Members who ask a person come last, so that nobody waits for a model between two questions. Where one
    raises `StopRun`, so does the committee, with verdicts on the pairs that were still answered; members
    not asked by then did not vote.
    """

    members: tuple[Judge, ...] = field(
        converter=as_members,
        validator=at_least_two,
        metadata={"help": "The judges, two or more, each written as under judge."},
    )
    by: By = field(
        default="majority",
        validator=in_(("majority", "mean", "unanimous")),
        metadata={
            "help": "Decide by the majority of the votes, by the mean probability, or only if unanimous."
        },
    )
    quorum: int | None = field(
        default=None,
        validator=_at_most_all,
        metadata={"help": "Votes that a verdict takes at least; null is more than half of the members."},
    )

    def answers(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        """Each verdict with its place as soon as the last member has voted on it."""
        *others, last = sorted(range(len(self.members)), key=lambda i: is_interactive(self.members[i]))
        ballots: list[list[Verdict]] = [[] for _ in pairs]
        given: dict[int, Verdict] = {}
        try:
            for i in others:
                votes: dict[int, Verdict] = {}
                for place, vote in answers_of(self.members, i, pairs):
                    votes[place] = vote
                for place, vote in votes.items():
                    ballots[place].append(vote)
            votes = {}
            for place, vote in answers_of(self.members, last, pairs):
                given[place] = self._decide([*ballots[place], vote])
                yield place, given[place]
        except StopRun as stop:
            if not given:  # another than the last member stopped
                given = {place: self._decide([*ballots[place], vote]) for place, vote in votes.items()}
                yield from given.items()
            raise stopped(stop, given) from stop

    def _decide(self, verdicts: Sequence[Verdict]) -> Verdict:
        votes = [v for v in verdicts if v.status in ("ok", "tie")]
        if len(votes) < (self.quorum or len(self.members) // 2 + 1):
            return _no_quorum(verdicts, len(votes), len(self.members))
        sides = {v.prefers_first for v in votes}
        if self.by == "majority":
            probability = fmean(0.5 if v.prefers_first is None else float(v.prefers_first) for v in votes)
        else:
            probability = fmean(0.5 if v.status == "tie" else v.probability for v in votes)
        orders = _mean_orders(votes)
        split = self.by == "unanimous" and (len(sides) > 1 or None in sides)
        return Verdict.tie(orders=orders) if split else Verdict.from_probability(probability, orders=orders)


def _mean_orders(votes: Sequence[Verdict]) -> tuple[float, float] | None:
    """The members' probabilities in each order, averaged where all of them were asked in both."""
    asked = [vote.orders for vote in votes if vote.orders is not None]
    if len(asked) < len(votes):
        return None
    return fmean(first for first, _ in asked), fmean(second for _, second in asked)


def _no_quorum(verdicts: Sequence[Verdict], votes: int, members: int) -> Verdict:
    reasons = [v.reason or v.status for v in verdicts if v.status in ("error", "abstained")]
    said = f"only {votes} of {members} members voted: " + "; ".join(dict.fromkeys(reasons))
    failed = any(v.status == "error" for v in verdicts)
    return Verdict.error(said) if failed else Verdict.abstain(said)
