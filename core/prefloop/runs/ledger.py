"""The ledger of a run, ``judgements.jsonl``: every verdict, written down as soon as it is known.

Nothing is asked twice: a pair that the same judge, with the same options, has judged before is answered
from the ledger. That is what makes a resumed run repeat itself without its person or its paid server.
Where one pair has several lines, the last counts; an error is no answer, so such a pair is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from prefloop.components import BaseJudge, Judge, adapt
from prefloop.errors import StopRun, check_count
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


class Ledger:
    """The lines of one run's ledger and the verdicts in them. Raises `UserError` for a damaged line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._verdicts = {j.key: j.verdict for j in read_lines(path, judgement_from_json)}

    def find(self, judge: JudgeIdentity, pair: Pair) -> Verdict | None:
        """What `judge` said of `pair`, or None where it has to be asked."""
        verdict = self._verdicts.get(judgement_key(judge, pair))
        return None if verdict is None or verdict.status == "error" else verdict

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
        append_lines(self.path, [judgement_to_json(judgement) for judgement in judgements])
        self._verdicts |= {judgement.key: judgement.verdict for judgement in judgements}


Judged = list[tuple[Pair, Verdict]]


@frozen
class PendingVerdicts:
    """Verdicts that are on their way. `result` waits for them."""

    result: Callable[[], list[Verdict]]


def _as_base(judge: Judge) -> BaseJudge:
    return adapt(judge, BaseJudge)


@define(eq=False, slots=False)
class CachedJudge(BaseJudge):
    """A judge whose verdicts are kept in a ledger, and taken from there where they are known.

    `step` gives the step to write beside each verdict; `evaluation` says that the pairs are not learnt from.
    The judge is prepared already.
    """

    inner: BaseJudge = field(converter=_as_base)
    identity: JudgeIdentity
    ledger: Ledger
    step: Callable[[], int]
    evaluation: bool = field(default=False, kw_only=True)

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

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Verdicts from the ledger, and for the other pairs from the judge. Raises what that raises."""
        return self._collect(pairs, self._ask(self._missing(pairs)), self.step())

    def _submit(self, pairs: Sequence[Pair]) -> PendingVerdicts:
        """The same, begun now and waited for later."""
        missing, step = self._missing(pairs), self.step()
        submit = self.inner.submit
        result = submit(missing).result if submit and missing else list
        return PendingVerdicts(lambda: self._collect(pairs, self._together(missing, result), step))

    def _missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        return [pair for pair in dict.fromkeys(pairs) if self.ledger.find(self.identity, pair) is None]

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
        """Verdicts one by one where the judge gives them so, else all together."""
        if pairs and self.inner.answers is not None:
            for place, verdict in self.inner.answers(pairs):
                yield [(pairs[place], verdict)]
        else:
            yield from self._together(pairs, lambda: self.inner.judge(pairs))

    def _together(self, pairs: Sequence[Pair], ask: Callable[[], list[Verdict]]) -> Iterator[Judged]:
        if not pairs:
            return
        try:
            verdicts = ask()
        except StopRun as stop:
            if stop.verdicts:
                yield list(zip(pairs, stop.verdicts, strict=False))
            raise
        check_count(self.identity.name, len(verdicts), len(pairs))
        yield list(zip(pairs, verdicts, strict=True))


_UNANSWERED = Verdict.error("the judge gave no verdict")
