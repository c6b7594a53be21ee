"""Several judges for one set of pairs: each pair goes to the judge of its prompt's source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define

from prefloop.components import BaseJudge, Judge, Pending, PendingVerdicts, adapt
from prefloop.errors import StopRun, said_of
from prefloop.types import Pair, Verdict

if TYPE_CHECKING:
    import mlx.core as mx

Ask = Callable[[BaseJudge, list[Pair]], Sequence[Verdict]]


@define(eq=False, slots=False)
class RoutingJudge(BaseJudge):
    """Asks `judges`, each by the key that it has in a configuration, about the pairs of its sources.

    `keys` names the judge of every source. Judges that ask a person come last, so that nobody waits for a
    model between two questions.
    """

    judges: Mapping[str, Judge]
    keys: Mapping[str, str]

    def __attrs_post_init__(self) -> None:
        self._able = {key: adapt(judge, BaseJudge) for key, judge in self.judges.items()}
        if any(judge.submit for judge in self._able.values()):
            self.submit = self._submit

    def through(self, wrap: Callable[[Judge], Judge]) -> RoutingJudge:
        """The same with every judge as `wrap` makes it."""
        return RoutingJudge({key: wrap(judge) for key, judge in self.judges.items()}, self.keys)

    def routed(self, pairs: Sequence[Pair], ask: Ask) -> list[Verdict]:
        """What `ask` brings from each judge for its pairs, in the order of `pairs`."""
        verdicts: dict[int, Verdict] = {}
        for judge, places in self._parts(pairs):
            try:
                given = ask(judge, [pairs[i] for i in places])
            except StopRun as stop:  # whose verdicts are not on the first of `pairs`
                raise StopRun(stop.reason, failed=stop.failed, resumable=stop.resumable) from stop
            verdicts |= zip(places, given, strict=True)
        return [verdicts[i] for i in range(len(pairs))]

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair. Raises what its judges raise."""
        return self.routed(pairs, lambda judge, own: judge.judge(own))

    def _parts(self, pairs: Sequence[Pair]) -> list[tuple[BaseJudge, list[int]]]:
        """Each judge with the places of its pairs, those of people last."""
        places: dict[str, list[int]] = {}
        for i, pair in enumerate(pairs):
            places.setdefault(self.keys[pair.prompt.source], []).append(i)
        parts = [(self._able[key], own) for key, own in places.items()]
        return sorted(parts, key=lambda part: part[0].interactive)

    def _submit(self, pairs: Sequence[Pair]) -> Pending:
        """Ask the judges that answer elsewhere now, the others when the verdicts are waited for."""
        begun = {}
        for judge, places in self._parts(pairs):
            if judge.submit:
                begun[id(judge)] = judge.submit([pairs[i] for i in places])

        def ask(judge: BaseJudge, own: list[Pair]) -> Sequence[Verdict]:
            return begun.pop(id(judge)).result() if judge.submit else judge.judge(own)

        def result() -> list[Verdict]:
            try:
                return self.routed(pairs, ask)
            except StopRun:
                for pending in begun.values():  # they may have cost money, and are written down
                    pending.result()
                raise

        return PendingVerdicts(result)

    @property
    def members(self) -> tuple[Judge, ...]:
        return tuple(self.judges.values())

    @property
    def symmetric(self) -> bool:
        return all(judge.symmetric for judge in self._able.values())

    @property
    def interactive(self) -> bool:
        return any(judge.interactive for judge in self._able.values())

    @property
    def evaluates(self) -> bool:
        return all(judge.evaluates for judge in self._able.values())

    def prepare(self) -> None:
        for key, judge in self._able.items():
            with said_of(key):
                judge.prepare()

    def attach(self, folder: Path) -> None:
        for judge in self._able.values():
            judge.attach(folder)

    def close(self) -> None:
        for judge in self._able.values():
            judge.close()

    def depends_on(self) -> list[str]:
        return [given for judge in self._able.values() for given in judge.depends_on()]

    def pass_bytes(self, pairs: int, shortest: int, longest: int, completion: int) -> int:
        """What the judge takes that takes most: they are asked one after the other."""
        return max(judge.pass_bytes(pairs, shortest, longest, completion) for judge in self._able.values())

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Tell each judge what became of its own pairs, none of them in a step without any."""
        told: dict[str, list[int]] = {key: [] for key in self.judges}
        for i, pair in enumerate(pairs):
            told[self.keys[pair.prompt.source]].append(i)
        for key, places in told.items():
            self._able[key].learn([pairs[i] for i in places], [verdicts[i] for i in places])

    def recall(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        for judge, places in self._parts(pairs):
            judge.recall([pairs[i] for i in places], [verdicts[i] for i in places])

    def state(self) -> Mapping[str, mx.array]:
        """What each judge remembers, under its key."""
        states = {key: judge.state() for key, judge in self._able.items()}
        return {f"{key}/{name}": value for key, own in states.items() for name, value in own.items()}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        for key, judge in self._able.items():
            own = {n.removeprefix(f"{key}/"): v for n, v in state.items() if n.startswith(f"{key}/")}
            if own:
                judge.restore(own)
