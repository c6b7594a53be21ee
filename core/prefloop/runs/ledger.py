"""The ledger of a run, ``judgements.jsonl``: every verdict, written down as soon as it is known.

Nothing is asked twice: a pair that the same judge, with the same options, has judged before is answered
from the ledger. That is what makes a resumed run repeat itself without its person or its paid server.
Where one pair has several lines, the last counts; an error is no answer, so such a pair is asked again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field

from prefloop.components import BaseJudge, Judge, PendingVerdicts, adapt, check_verdicts
from prefloop.errors import StopRun, UserError
from prefloop.ranks.wire import verdict_from_wire, verdict_to_wire
from prefloop.runs.asking import asked, each, in_background
from prefloop.runs.files import append_lines, read_lines
from prefloop.runs.records import (
    JudgeIdentity,
    Judgement,
    judgement_from_json,
    judgement_key,
    judgement_to_json,
)
from prefloop.types import Pair, Verdict

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop.ranks.group import Ranks


class Ledger:
    """The lines of one run's ledger and the verdicts in them. Raises `UserError` for a damaged line.

    Several threads may write. Without a `path` they are only kept in mind.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._writing = threading.Lock()
        self._verdicts = {j.key: j.verdict for j in read_lines(path, judgement_from_json)} if path else {}

    def find(self, judge: JudgeIdentity, pair: Pair) -> Verdict | None:
        """What `judge` said of `pair`, or None where it has to be asked."""
        verdict = self._verdicts.get(judgement_key(judge, pair))
        return None if verdict is None or verdict.status == "error" else verdict

    def share(self, ranks: Ranks) -> None:
        """Let all ranks know what the ledger of rank 0 has."""
        said = ranks.from_first(lambda: {key: verdict_to_wire(v) for key, v in self._verdicts.items()})
        self._verdicts = {key: verdict_from_wire(one) for key, one in said.items()}

    def append(
        self,
        judge: JudgeIdentity,
        judged: Sequence[tuple[Pair, Verdict]],
        *,
        step: int,
        evaluation: bool = False,
        seconds: float | None = None,
    ) -> None:
        """Write verdicts down, each of which took so many seconds."""
        judgements = [Judgement(step, *row, judge, evaluation, seconds) for row in judged]
        with self._writing:
            if self.path:
                append_lines(self.path, [judgement_to_json(judgement) for judgement in judgements])
            self._verdicts |= {judgement.key: judgement.verdict for judgement in judgements}


Judged = list[tuple[Pair, Verdict]]


def _as_base(judge: Judge) -> BaseJudge:
    return adapt(judge, BaseJudge)


@define(eq=False, slots=False)
class CachedJudge(BaseJudge):
    """A judge whose verdicts are kept in a ledger, and taken from there where they are known.

    `step` gives the step to write beside each verdict; `evaluation` says that the pairs are not learnt from.
    `timeout` is how many seconds one verdict may take, unless a person gives it. The judge is prepared
    already. What it may not do, such as end the process, raises `StopRun`: see `asking.asked`.
    """

    inner: BaseJudge = field(converter=_as_base)
    identity: JudgeIdentity
    ledger: Ledger
    step: Callable[[], int]
    evaluation: bool = field(default=False, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self.submit = self._submit if self.inner.submit else None

    @property
    def symmetric(self) -> bool:
        return self.inner.symmetric

    @property
    def interactive(self) -> bool:
        return self.inner.interactive

    def close(self) -> None:
        self.inner.close()

    def state(self) -> Mapping[str, mx.array]:
        return self.inner.state()

    def restore(self, state: Mapping[str, mx.array]) -> None:
        self.inner.restore(state)

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.inner.learn(pairs, verdicts)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Verdicts from the ledger, and for the other pairs from the judge. Raises what that raises."""
        return self._collect(pairs, self._ask(self._unknown(pairs)), self.step())

    def _submit(self, pairs: Sequence[Pair]) -> PendingVerdicts:
        """The same, begun now and waited for later."""
        missing, step = self._unknown(pairs), self.step()
        submit = self.inner.submit
        if not missing or submit is None:
            return PendingVerdicts(lambda: self._collect(pairs, iter(()), step))
        if (
            self.interactive
        ):  # a person may answer from now on, and is waited for later, where Ctrl-C is heard
            submit(missing)
            return PendingVerdicts(lambda: self._collect(pairs, self._ask(missing), self.step()))
        if self.inner.answers is None:
            result = submit(missing).result
            return PendingVerdicts(lambda: self._collect(pairs, self._together(missing, result), step))
        # Verdicts are written down as they come, while the run does something else.
        future = in_background(lambda: self._collect(pairs, self._ask(missing), step))

        def wait() -> list[Verdict]:
            with self._asked(len(missing)):
                return future.result()

        return PendingVerdicts(wait)

    def _unknown(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The pairs to ask about, after the judge was told what is known of the others."""
        found = {pair: self.ledger.find(self.identity, pair) for pair in pairs}
        known = {pair: verdict for pair, verdict in found.items() if verdict is not None}
        if not self.evaluation:
            self.inner.recall(list(known), list(known.values()))
        return [pair for pair in found if pair not in known]

    def _collect(self, pairs: Sequence[Pair], chunks: Iterator[Judged], step: int) -> list[Verdict]:
        """Write verdicts down as they come; then one for each of `pairs`."""
        fresh: dict[Pair, Verdict] = {}
        started = time.perf_counter()
        for judged in chunks:
            seconds = round((time.perf_counter() - started) / len(judged), 4)
            self.ledger.append(self.identity, judged, step=step, evaluation=self.evaluation, seconds=seconds)
            fresh |= judged
            started = time.perf_counter()
        return [fresh.get(pair) or self.ledger.find(self.identity, pair) or _UNANSWERED for pair in pairs]

    def _ask(self, pairs: Sequence[Pair]) -> Iterator[Judged]:
        """Verdicts one by one where the judge gives them so, else those of each call together."""
        if not pairs or self.inner.answers is None:
            size = self.inner.pairs_per_call or len(pairs) or 1
            for part in (pairs[start : start + size] for start in range(0, len(pairs), size)):
                yield from self._together(part, partial(self.inner.judge, part))
            return
        name = self.identity.name
        for place, verdict in each(name, self._seconds(1), iter(self.inner.answers(pairs))):
            check_verdicts(name, [verdict], 1)
            if place not in range(len(pairs)):
                raise UserError(f"judge '{name}' gave a verdict for place {place!r} of {len(pairs)} pairs.")
            yield [(pairs[place], verdict)]

    def _together(self, pairs: Sequence[Pair], ask: Callable[[], list[Verdict]]) -> Iterator[Judged]:
        if not pairs:
            return
        try:
            with self._asked(len(pairs)):
                verdicts = ask()
        except StopRun as stop:
            if stop.verdicts:
                yield list(zip(pairs, stop.verdicts, strict=False))
            raise
        check_verdicts(self.identity.name, verdicts, len(pairs))
        yield list(zip(pairs, verdicts, strict=True))

    def _asked(self, pairs: int) -> AbstractContextManager[None]:
        return asked(self.identity.name, self._seconds(pairs))

    def _seconds(self, pairs: int) -> float | None:
        """How long verdicts on so many pairs may take; a person takes their time."""
        return None if self.timeout is None or self.interactive else self.timeout * pairs


_UNANSWERED = Verdict.error("the judge gave no verdict")
