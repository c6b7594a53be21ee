"""The `cascade` judge: a cheap judge first, and dearer ones only for what it leaves in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, field, frozen
from attrs.validators import ge, lt

from prefloop import Judge, Pair, StopRun, Verdict
from prefloop_plugins.judges.members import (
    Answer,
    MadeOfJudges,
    answers_of,
    as_members,
    at_least_two,
    given_by,
    stopped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@frozen
class CascadeJudge(MadeOfJudges):
    """Asks the members in order, each only about the pairs that the one before leaves in doubt.

    In doubt are ties, errors, abstentions, and probabilities at most `margin` from one half. The verdict
    of the last member asked about a pair stands as it is, whatever an earlier one said: a person's tie or
    skip overrules a hesitant label.

    Where a member raises `StopRun` (a person quits), so does the cascade. What that member has answered
    stands; pairs that it left unanswered have no verdict, and `StopRun.verdicts` ends before the first.
    """

    members: tuple[Judge, ...] = field(
        converter=as_members,
        validator=at_least_two,
        metadata={"help": "The judges in the order they are asked, each written as under judge."},
    )
    margin: float = field(
        default=0.1,
        validator=[ge(0), lt(0.5)],
        metadata={"help": "A probability at most this far from one half goes to the next member."},
    )

    def answers(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        """Each verdict with its place as soon as no further member is asked about it."""
        given: dict[int, Verdict] = {}
        places = list(range(len(pairs)))
        before: dict[int, Verdict] = {}
        for i in range(len(self.members)):
            doubtful: dict[int, Verdict] = {}
            try:
                for at, verdict in answers_of(self.members, i, [pairs[place] for place in places]):
                    place = places[at]
                    earlier = verdict.earlier or before.get(place)
                    verdict = evolve(given_by(self.members, i, verdict), earlier=earlier)
                    if i + 1 < len(self.members) and self.doubts(verdict):
                        doubtful[place] = verdict
                        continue
                    doubtful.pop(place, None)  # a person may have thought again
                    given[place] = verdict
                    yield place, verdict
            except StopRun as stop:
                yield from doubtful.items()
                raise stopped(stop, given | doubtful) from stop
            places, before = sorted(doubtful), doubtful

    def doubts(self, verdict: Verdict) -> bool:
        """Whether a pair with this verdict goes to the next member."""
        return verdict.status != "ok" or abs(verdict.probability - 0.5) <= self.margin
